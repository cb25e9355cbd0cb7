"""The program of a transfer: what it prints, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from blocks.target_folder import FolderStore
from blocks.target_store import TargetError, Tell
from flows.backup.manifest import File
from flows.engine.progress import reported
from flows.offsite import transfer
from tests.support.backups import NOW, make_backup


def run(order: str, target: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """As a step runs it, at the root of the file system."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "flows.offsite.transfer", order],
        env={
            "PATH": os.environ["PATH"],
            "TARGET": json.dumps({"folder": str(target)}),
            "ROOM": "here",
            "KEYRING": "/none",
            **env,
        },
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_progress_is_that_of_all_files_and_each_that_is_over_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now, measure = 0.0, reported()
    monkeypatch.setattr("flows.offsite.transfer.time.monotonic", lambda: now)
    progress = transfer._Progress(1_400_000_000, measure.environment)

    def reached() -> int:
        seen = measure.look()
        assert seen is not None
        assert (seen.total_bytes, seen.estimated) == (1_400_000_000, False)
        return seen.done_bytes

    tell = progress.of(File(file="a.dump", size_bytes=1_200_000_000, sha256="0" * 64))
    for now, done in ((1.0, 100_000_000), (30.0, 1_200_000_000)):  # noqa: B007
        tell(done)
        assert reached() == done
    progress.of(File(file="a.globals.sql", size_bytes=90_000_000, sha256="0" * 64))  # there already
    tell = progress.of(File(file="a.dump.json", size_bytes=110_000_000, sha256="0" * 64))
    tell(10_000_000)
    assert reached() == 1_300_000_000
    assert capsys.readouterr().out == "a.dump: 1.2 GB in 30.0 s, 40.0 MB/s\n"


def test_program_uploads_and_fetches_from_any_folder(tmp_path: Path) -> None:
    for name in ("here", "there", "back"):
        (tmp_path / name).mkdir()
    dump = make_backup(tmp_path / "here", "odoo", NOW)
    done = run("upload", tmp_path / "there", FOLDER=str(tmp_path / "here"), BACKUP=dump.name)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{dump.name}: 4 B in 0.0 s\n" in done.stdout
    assert done.stdout.splitlines()[-1] == "proof: read back"
    done = run("download", tmp_path / "there", FOLDER=str(tmp_path / "back"), BACKUP=dump.name)
    assert done.returncode == 0
    assert (tmp_path / "back" / dump.name).read_bytes() == dump.read_bytes()


def test_copy_that_is_deleted_while_it_is_fetched_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("there", "back"):
        (tmp_path / name).mkdir()
    dump = make_backup(tmp_path / "there", "odoo", NOW)
    get = FolderStore.get

    def get_after_a_prune(store: FolderStore, name: str, file: Path, *, tell: Tell) -> None:
        dump.unlink()
        get(store, name, file, tell=tell)

    monkeypatch.setattr(FolderStore, "get", get_after_a_prune)
    environment = {"TARGET": json.dumps({"folder": str(dump.parent)}), "FOLDER": str(tmp_path), "BACKUP": dump.name} | {
        "KEYRING": "/none"
    }
    with pytest.raises(TargetError, match=f"{dump.name} was deleted while the backup was fetched: choose another"):
        transfer.main("download", environment)


def test_error_is_one_line_that_names_place_and_remedy(tmp_path: Path) -> None:
    dump = make_backup(tmp_path, "odoo", NOW)
    done = run("upload", tmp_path / "mnt", FOLDER=str(tmp_path), BACKUP=dump.name)
    assert done.returncode == 1
    assert done.stderr == f"{tmp_path}/mnt does not exist: is the disk mounted?\n"
    (tmp_path / "mnt").mkdir()
    done = run("download", tmp_path / "mnt", FOLDER=str(tmp_path), BACKUP=dump.name)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "choose another backup" in done.stderr
    dump.unlink()
    done = run("upload", tmp_path / "mnt", FOLDER=str(tmp_path), BACKUP=dump.name)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert dump.name in done.stderr


def test_earlier_backup_that_cannot_be_sent_is_named_and_keeps_no_other_from_it(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    new, damaged, older = (make_backup(here, "odoo", NOW - timedelta(days=days)) for days in range(3))
    damaged.write_bytes(b"dumq")
    env = {"FOLDER": str(here), "BACKUP": new.name, "RETENTION_DAYS": "30"}
    assert run("upload", there, **env).returncode == 0
    done = run("catch-up", there, **env)
    assert done.returncode == 1
    reason, told = done.stderr.splitlines()
    assert reason.startswith(f"{damaged.name}: ")
    assert told == f"not copied: {damaged.name}: the next run tries again"
    copied = [line for line in done.stdout.splitlines() if line.startswith("caught up")]
    assert copied == [f"caught up: {older.name}"] * 2  # as it is done, and in the end
    assert not (there / damaged.name).exists()
    damaged.write_bytes(b"dump")
    done = run("catch-up", there, **env)
    assert (done.returncode, done.stderr) == (0, "")
    assert {path.name for path in here.iterdir()} < {path.name for path in there.iterdir()}
