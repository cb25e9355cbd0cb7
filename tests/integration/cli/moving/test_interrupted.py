"""A restore that is ended anywhere is finished by the same command; until then nothing starts."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

from cli.moving import restore
from deployments.room.restoring import check_whole, read_begun
from opsdb.errors import OpsError, UsageError
from tests.integration.cli.moving.hosts import (
    PASSPHRASE,
    Host,
    contents,
    restored,
)
from tests.support.postgres import databases, running


class KilledError(BaseException):
    """Ends a restore as a signal would, at a point that a test chooses."""


STEPS = ("put_aside", "make_roles", "load", "settle", "upgrade_databases", "_place_files", "clear")


@pytest.mark.gate
@pytest.mark.parametrize(("step", "when"), [("put_aside", "before"), *((step, "after") for step in STEPS)])
def test_restore_that_is_ended_anywhere_is_finished_by_the_same_command(
    old: Host, new: Host, backup: Path, monkeypatch: pytest.MonkeyPatch, *, step: str, when: str
) -> None:
    restored(new, backup)  # what there was before
    (new.home / "secrets.json").write_text("of before")
    real = getattr(restore, step)

    def dies(*arguments: Any, **options: Any) -> None:
        if when == "after":
            real(*arguments, **options)
        raise KilledError

    monkeypatch.setattr(restore, step, dies)
    with pytest.raises(KilledError):
        restored(new, backup, replace=True)
    if not (step == "clear" and when == "after"):
        with pytest.raises(UsageError, match=r"restore of .*room\.sealed into .* is not over.*ops db restore"):
            check_whole(new.home)
        assert "is not over" in new.ops("up").refused(2)
        with pytest.raises(UsageError, match="began with --take-over: repeat it so"):
            restored(new, backup, take_over=False)
        monkeypatch.setattr(restore, step, real)
        done = restored(new, backup)
        assert any(name.endswith("secrets.json") for name in done.put_aside), done.put_aside
    check_whole(new.home)
    (aside,) = new.home.glob("before-*")
    assert (aside / "secrets.json").read_text() == "of before"
    assert (new.home / "secrets.json").read_bytes() == (old.home / "secrets.json").read_bytes()
    assert not (new.home / "restoring").exists()
    assert contents(new) == contents(old)
    with running(new.home) as url:
        assert len([name for name in databases(url) if "_before_" in name]) == 2


@pytest.mark.gate
@pytest.mark.parametrize("words", ["verifying the backup", "loading the database ops", "loading the database prefect"])
def test_killed_process_of_a_restore_leaves_nothing_that_starts(
    old: Host, new: Host, backup: Path, passphrase: Path, words: str
) -> None:
    command = [sys.executable, "-m", "cli", "db", "restore", str(backup), "--take-over"]
    process = subprocess.Popen(
        [*command, "--passphrase-file", str(passphrase)],
        env=new.env,
        cwd=new.home.parent.parent,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None
        for line in process.stderr:
            if words in line:
                break
        process.send_signal(signal.SIGKILL)
    begun = read_begun(new.home) is not None
    assert begun == (words != "verifying the backup")
    answer = new.ops("db", "restore", str(backup), "--take-over", "--passphrase-file", str(passphrase))
    assert ("resuming the interrupted restore" in answer.err) == begun
    answer.fine()
    assert contents(new) == contents(old)


@pytest.mark.gate
def test_full_disk_leaves_nothing_of_a_backup_and_a_restore_can_be_repeated(
    old: Host, new: Host, backup: Path, passphrase: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Path(mkdtemp(prefix="disk", dir=new.home.parent.parent))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m,mode=0700", "tmpfs", str(disk)], check=True)
    try:
        (disk / "filler").write_bytes(bytes(300 * 1024 * 1024 - 200_000))
        by = ("--passphrase-file", str(passphrase))
        line = old.ops("db", "backup", "--to", str(disk), *by).refused(2)
        assert f"{disk} has" in line
        with monkeypatch.context() as changed:  # it fills up after it was looked at
            changed.setattr("cli.moving.backup.check_space", lambda *_args: None)
            from cli.moving.backup import back_up

            changed.setenv("OPS_HOME", str(old.home))
            with pytest.raises(OpsError, match="No space left on device"):
                back_up(old.settings, disk / "room.sealed", PASSPHRASE)
        assert [path.name for path in disk.iterdir()] == ["filler"]
        crowded = Host(disk / ".ops")
        assert f"{disk}/.ops has" in crowded.ops("db", "restore", str(backup), *by).err.splitlines()[-1]
        with monkeypatch.context() as changed:
            changed.setattr("cli.moving.restore.check_space", lambda *_args: None)
            with pytest.raises(OpsError, match="No space left on device; nothing was changed"):
                restored(crowded, backup)
        assert not (crowded.home / "restoring").exists()
        (disk / "filler").unlink()
        restored(crowded, backup)
        assert (crowded.home / "secrets.json").read_bytes() == (old.home / "secrets.json").read_bytes()
    finally:
        subprocess.run(["umount", str(disk)], check=True)
