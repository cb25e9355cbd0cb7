"""What is wrong is said in one line, with the right exit code, and nothing is half done."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.room.api import Api
from tests.acceptance.room.desk import Desk
from tests.support.commands import Answer

BACKUP = ("run", "odoo_db_backup", "-p")
NOBODY = "ffffffff-0000-4000-8000-000000000000"


def flow_runs(api: Api) -> int:
    return int(api.post("/flow_runs/count"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "odoo_db_backups", "-p", "odoo_db=x"), ("odoo_db_backups", "Did you mean odoo_db_backup?")),
        ((*BACKUP, "odoo_db=odoo", "-p", "colour=red"), ("'colour'", "odoo_db (string, required)")),
        ((*BACKUP, "retention_days=3"), ("odoo_db is missing", "-p odoo_db=")),
        ((*BACKUP, "odoo_db=odoo", "-p", "retention_days=0"), ("retention_days", "Days after which")),
        ((*BACKUP, "odoo_db=odoo", "--lane", "E"), ("'E'", "A, B, C, D")),
        ((*BACKUP, "odoo_db=x; touch /tmp/pwned"), ("odoo_db", "letters, digits")),
        ((*BACKUP, "odoo_db=$(touch /tmp/pwned)"), ("odoo_db", "letters, digits")),
        ((*BACKUP, "odoo_db=odoo", "--colour"), ("--colour", "ops run --help")),
        (("rum",), ("rum", "ops --help")),
        (("show", NOBODY), (NOBODY, "ops runs")),
        (("logs", NOBODY), (NOBODY, "ops runs")),
        (("cancel", NOBODY), (NOBODY,)),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else None,
)
def test_wrong_request_is_one_line_and_starts_nothing(
    desk: Desk, api: Api, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    before = flow_runs(api)
    line = desk.ops(*arguments).refused(2)
    assert all(word in line for word in words), line
    assert flow_runs(api) == before
    assert not Path("/tmp/pwned").exists()


def failed(answer: Answer, *words: str) -> str:
    """The line that says why a run failed. Fails when the run did anything else than fail."""
    assert answer.code == 1, answer
    assert "Traceback" not in answer.out + answer.err
    lines = [line for line in answer.out.splitlines() if all(word in line for word in words)]
    assert len(lines) == 1, answer
    return lines[0]


def last_run(desk: Desk) -> dict[str, Any]:
    run: dict[str, Any] = desk.json("show", desk.json("runs", "--limit", "1")[0]["id"])
    return run


def nothing_half_done(desk: Desk, folder: Path, database: str) -> None:
    """The last run failed, executed no step after the failed one, and left no file of the database."""
    run = last_run(desk)
    assert run["status"] == "failed"
    assert run["steps"][-1]["status"] == "failed"
    assert [path.name for path in folder.glob(f"*{database}*")] == []


def test_database_that_does_not_exist_is_said_with_those_that_do(desk: Desk, database: str) -> None:
    answer = desk.ops(*BACKUP, "odoo_db=not_there", "--wait")
    failed(answer, "there is no database 'not_there'", database)
    nothing_half_done(desk, desk.home / "backups", "not_there")


def test_missing_pg_dump_is_said_with_its_setting(desk: Desk, database: str, programs: Path) -> None:
    kept = programs / "pg_dump"
    target = kept.readlink()
    kept.unlink()
    try:
        answer = desk.ops(*BACKUP, f"odoo_db={database}", "--wait")
    finally:
        kept.symlink_to(target)
    failed(answer, "pg_dump", "OPS_PG_BIN")
    nothing_half_done(desk, desk.home / "backups", database)


def test_disk_that_fills_in_mid_dump_keeps_the_previous_backup_and_nothing_else(
    desk: Desk, api: Api, database: str, small_disk: Callable[[int], Path]
) -> None:
    folder = small_disk(70)  # the dump seems to fit: the last one was small
    first = api.start("odoo_db_backup/odoo_db_backup-lane-b", odoo_db=database, backup_dir=str(folder))
    assert api.wait_terminal(first)["state_type"] == "COMPLETED"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with desk.database(database) as db, db.cursor() as cursor:
        cursor.execute("CREATE TABLE scan (data bytea)")
        cursor.execute("ALTER TABLE scan ALTER data SET STORAGE EXTERNAL")
        for _ in range(9):
            cursor.execute("INSERT INTO scan VALUES (%s)", [os.urandom(8_000_000)])
    answer = desk.ops(*BACKUP, f"odoo_db={database}", "-p", f"backup_dir={folder}", "--wait")
    failed(answer, "No space left on device")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_backup_goes_nowhere_that_the_room_does_not_allow(desk: Desk, database: str, tmp_path: Path) -> None:
    for folder in ("/etc/backups", "/root", str(desk.home / "prefect" / "ui")):
        answer = desk.ops(*BACKUP, f"odoo_db={database}", "-p", f"backup_dir={folder}", "--wait")
        failed(answer, folder, "Hint:")
    shared = tmp_path / "shared"
    (shared / "below").mkdir(parents=True)
    shared.chmod(0o777)
    answer = desk.ops(*BACKUP, f"odoo_db={database}", "-p", f"backup_dir={shared}/below", "--wait")
    failed(answer, f"everybody may write to {shared}")
    assert list((shared / "below").iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        (*BACKUP, "odoo_db=odoo"),
        ("runs",),
        ("cancel", "abcdef01"),
        ("cancel", NOBODY),
        ("status",),
        ("deploy",),
        ("worker",),
    ],
    ids=lambda arguments: arguments[0],
)
def test_room_that_does_not_run_is_said_in_one_line(own_folder: Path, arguments: tuple[str, ...]) -> None:
    stopped = Desk(own_folder / "room")
    assert "ops up" in stopped.ops(*arguments).refused(3)
    assert list(own_folder.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("OPS_PREFECT_PORT", "many", ("OPS_PREFECT_PORT", "whole number")),
        ("OPS_LANE_LIMIT", "0", ("OPS_LANE_LIMIT", "1")),
        ("OPS_DATABASE_URL", "mysql://root:hunter2@db/x", ("OPS_DATABASE_URL", "postgresql://")),
    ],
)
def test_wrong_setting_is_named_without_a_secret(
    own_folder: Path, name: str, value: str, words: tuple[str, ...]
) -> None:
    line = Desk(own_folder / "room").ops("up", env={name: value}).refused(2)
    assert all(word in line for word in words), line
    assert "hunter2" not in line
    assert list(own_folder.iterdir()) == []
