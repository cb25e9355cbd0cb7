"""`ops backups`: what is said of the files in a folder."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
import typer

from blocks.target_folder import FolderStore
from cli import backups as command
from cli.backups import Record, document
from flows.backup.folder import Folder
from flows.backup.keyring import Keyring
from flows.backup.repository import Repository
from flows.offsite.owner import take_ownership
from flows.offsite.target import Target
from opsdb.errors import UsageError
from opsdb.runs.backups import CopyMade, Drill
from tests.support.backups import NOW, keyring_with, make_backup

RUN = UUID(int=7)


def only(folder: Path, *, check: bool = False, record: Record = Record()) -> dict[str, object]:  # noqa: B008 - frozen
    (backup,) = Folder(folder).backups("odoo")
    return document(backup, record, now=NOW + timedelta(hours=3), check=check)


def test_good_backup_tells_age_size_and_its_drill(tmp_path: Path) -> None:
    dump = make_backup(tmp_path, "odoo", NOW)
    drill = Drill(run_id=RUN, at=NOW + timedelta(hours=1), seconds=12.5)
    copy = CopyMade(target="far", url=f"s3://far/{dump.name}", verified_at=NOW, run_id=RUN)
    told = only(tmp_path, record=Record(drills={dump.name: drill}, copies={dump.name: [copy]}))
    assert (told["age_seconds"], told["size_bytes"], told["good"], told["wrong"]) == (10800.0, 4, True, None)
    assert (told["restored_by_run"], told["restore_seconds"], told["bytes_checked"]) == (RUN, 12.5, False)
    assert told["copies"] == [
        {"target": "far", "url": f"s3://far/{dump.name}", "verified_at": NOW, "verified_by_run": RUN}
    ]


def test_changed_byte_is_found_by_check_only(tmp_path: Path) -> None:
    make_backup(tmp_path, "odoo", NOW).write_bytes(b"dumq")
    assert only(tmp_path)["good"]
    assert "its sha256 differs" in str(only(tmp_path, check=True)["wrong"])


def test_damaged_backup_ends_a_check_with_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPS_HOME", str(tmp_path / "home"))
    keyring_with(tmp_path / "home" / "backup-keys")
    dump = make_backup(tmp_path, "odoo", NOW)
    command.list_(folder=tmp_path, check=True)
    dump.write_bytes(b"dumq")
    command.list_(folder=tmp_path)
    with pytest.raises(typer.Exit) as ended:
        command.list_(folder=tmp_path, check=True)
    assert ended.value.exit_code == 1


def test_shorter_dump_is_found_without_check(tmp_path: Path) -> None:
    make_backup(tmp_path, "odoo", NOW).write_bytes(b"dum")
    assert "does not have its 4 bytes" in str(only(tmp_path)["wrong"])


def test_dump_without_manifest_is_not_good(tmp_path: Path) -> None:
    dump = make_backup(tmp_path, "odoo", NOW)
    Path(f"{dump}.json").unlink()
    assert only(tmp_path, check=True)["wrong"] == "manifest missing or altered"


def test_backups_are_listed_without_a_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPS_HOME", str(tmp_path / "nothing"))
    now = datetime.now(UTC).replace(microsecond=0)
    for database, days in (("odoo", 1), ("odoo", 3), ("shop", 2)):
        make_backup(tmp_path, database, now - timedelta(days=days))
    command.list_(folder=tmp_path, as_json=True)
    out, err = capsys.readouterr()
    assert [(one["database"], one["age_seconds"] // 86400) for one in json.loads(out)] == [
        ("odoo", 1),
        ("odoo", 3),
        ("shop", 2),
    ]
    assert "Which were restored or copied is not known" in err
    command.list_("shop", folder=tmp_path)
    assert "2 d 0 h" in capsys.readouterr().out


def test_list_breaks_and_leaves_out_nothing_in_a_narrow_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dump = make_backup(tmp_path, "odoo_production_of_the_north", NOW)
    drill = Drill(run_id=RUN, at=NOW, seconds=12.5)
    copy = CopyMade(target="far", url=f"s3://far/{dump.name}", verified_at=NOW, run_id=RUN)
    record = Record(drills={dump.name: drill}, copies={dump.name: [copy]})
    monkeypatch.setattr(command, "_recorded", lambda _settings: record)
    monkeypatch.setenv("COLUMNS", "40")
    make_backup(tmp_path, "shop", NOW)
    command.list_(folder=tmp_path)
    out = capsys.readouterr().out
    assert dump.name in out.splitlines()[2]
    text = " ".join(out.split())
    assert "; restored " in text
    assert "by 00000007, in 12.5 s; copied to far " in text
    assert text.endswith("never restored; copied nowhere")


def test_folder_that_is_not_there_and_a_database_without_backups_are_told_from_an_empty_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPS_HOME", str(tmp_path))
    with pytest.raises(UsageError, match=r"--dir: there is no folder .*/away"):
        command.list_(folder=tmp_path / "away")
    make_backup(tmp_path, "odoo", NOW)
    command.list_("odo", folder=tmp_path)
    assert "No backups of odo in" in capsys.readouterr().err


def test_empty_folder_says_how_to_make_a_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPS_HOME", str(tmp_path))
    command.list_()
    assert "ops run odoo_db_backup" in capsys.readouterr().err


def test_copies_at_a_target_are_told_like_backups_and_all_bytes_read_there(tmp_path: Path) -> None:
    dump = make_backup(tmp_path, "odoo", NOW)

    def told(*, check: bool) -> dict[str, object]:
        (copy,) = Repository(FolderStore(tmp_path)).backups()
        return document(copy, Record(), now=NOW + timedelta(hours=3), check=check)

    here = document(Folder(tmp_path).backups("odoo")[0], Record(), now=NOW + timedelta(hours=3), check=True)
    assert told(check=True) == here | {"path": dump.as_uri()}
    dump.write_bytes(b"dumq")
    assert told(check=False)["good"]
    assert "its sha256 differs" in str(told(check=True)["wrong"])
    dump.write_bytes(b"dum")
    assert "does not have its 4 bytes" in str(told(check=False)["wrong"])


def test_folder_and_target_at_once_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="either --dir or --target"):
        command.list_(folder=tmp_path, target="far")


def test_list_says_that_the_copies_are_another_rooms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dump = make_backup(tmp_path, "odoo", NOW)
    take_ownership(FolderStore(tmp_path), "theirs")
    monkeypatch.setattr(command, "_recorded", lambda _settings: None)
    for room, told in (("ours", True), ("theirs", False)):
        monkeypatch.setattr(
            command, "_target", lambda *_, room=room: Target("far", room, FolderStore(tmp_path), Keyring(tmp_path))
        )
        command.list_(target="far", as_json=True)
        said = capsys.readouterr()
        assert ("another room's" in said.err) is told
        assert [one["file"] for one in json.loads(said.out)] == [dump.name]
