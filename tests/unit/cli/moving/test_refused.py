"""What a backup or a restore refuses before it touches anything."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from cli.moving import backup, checks, restore
from deployments.room import room
from deployments.room.restoring import Begun, check_whole, staging, write_begun
from opsdb.errors import OpsError, UsageError
from opsdb.logins import BY_CERTIFICATE
from opsdb.settings import Settings


def begun(home: Path, *, take_over: bool) -> None:
    staging(home).mkdir(mode=0o700, parents=True)
    given = {"archive": UUID(int=7), "begun_at": datetime(2026, 1, 2, tzinfo=UTC), "stamp": "s", "replaced": []}
    more = {"room": UUID(int=8), "prefect_database": "prefect", "server": "x", "keeps_settings": False}
    write_begun(home, Begun.model_validate({**given, **more, "file": "/safe/my room.sealed", "take_over": take_over}))


@pytest.mark.parametrize("take_over", [True, False])
def test_advice_is_the_command_that_goes_on(tmp_path: Path, take_over: bool) -> None:
    begun(tmp_path, take_over=take_over)
    words = r"repeat `ops db restore '/safe/my room\.sealed'" + " --take-over`" * take_over + "`" * (not take_over)
    with pytest.raises(UsageError, match=words):
        check_whole(tmp_path)


def test_start_removes_what_a_killed_restore_had_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class StoppedError(Exception):
        pass

    def stops(_settings: Settings) -> None:
        raise StoppedError

    staging(tmp_path).mkdir()
    (staging(tmp_path) / "home.tar").write_text("secrets of another room")
    monkeypatch.setattr(room, "check_ports", stops)
    with pytest.raises(StoppedError):
        room.run(Settings(home=tmp_path))
    assert not staging(tmp_path).exists()


def test_backup_into_what_is_backed_up_is_refused(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    (tmp_path / "journal").mkdir()
    (tmp_path / "room-backups").mkdir()
    for to in (tmp_path / "room.sealed", tmp_path / "journal"):
        with pytest.raises(UsageError, match="part of the next backup itself"):
            backup.choose_path(settings, to)
    assert backup.choose_path(settings, tmp_path / "room-backups").parent == tmp_path / "room-backups"


def test_room_with_another_server_is_not_backed_up_from_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "read_secrets", lambda _settings: None)
    with pytest.raises(UsageError, match=r"there is no PostgreSQL in .*OPS_DATABASE_URL is not set.*room.env"):
        backup.back_up(Settings(home=tmp_path), tmp_path / "room.sealed", "a passphrase of mine")
    assert not (tmp_path / "postgres").exists()


def test_settings_that_the_old_room_had_and_this_one_lacks_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPS_PREFECT_PORT", "4299")
    monkeypatch.delenv("OPS_ALERT_URLS", raising=False)
    manifest = SimpleNamespace(environment=["OPS_ALERT_URLS", "OPS_PREFECT_PORT"])
    assert checks.lacking_settings(manifest) == ["OPS_ALERT_URLS"]  # type: ignore[arg-type]


def test_passwords_that_only_a_superuser_reads_are_said_to_be_missing(tmp_path: Path) -> None:
    logins = {"superset": "login made by the Ops Control Room", "worker": BY_CERTIFICATE}
    roles: list[Any] = [SimpleNamespace(name=name, login=True, comment=text) for name, text in logins.items()]
    left = backup._left(Settings(home=tmp_path), roles, superuser=False)
    assert left == {"the password of superset": "`ops db login superset --new` gives it one there"}
    assert backup._left(Settings(home=tmp_path), roles, superuser=True) == {}


def test_settings_file_of_this_host_stays_before_and_after_it_is_so(tmp_path: Path) -> None:
    manifest: Any = SimpleNamespace(entries=["ops.toml"])
    assert not checks.keeps_settings(Settings(home=tmp_path), manifest)
    (tmp_path / "ops.toml").write_text("")
    assert checks.keeps_settings(Settings(home=tmp_path), manifest)


@pytest.mark.parametrize("command", [restore.verify, restore.restore])
def test_home_that_cannot_be_made_is_one_line(tmp_path: Path, command: object) -> None:
    (home := tmp_path / "file").write_text("")
    (tmp_path / "backup").write_text("not one")
    with pytest.raises(OpsError, match=r"file: File exists"):
        command(Settings(home=home), tmp_path / "backup", "x", replace=False, take_over=False)  # type: ignore[operator]
