"""A dry run tells the steps of every runbook, executes its preflights, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from prefect import Flow

from flows.backup.names import BackupName
from flows.backup.postgres import Connection
from flows.engine.active_run import ActiveRun
from flows.engine.dry_run import DryRun, dry_run, load_runbook
from flows.engine.runbook import runbook
from flows.engine.step import action, step
from flows.nightly_backup import nightly_backup
from flows.odoo_db_backup import odoo_db_backup
from flows.odoo_db_restore import odoo_db_restore
from flows.odoo_restore_drill import odoo_restore_drill
from opsdb.errors import PreflightError, UsageError
from opsdb.kinds.kinds import registered_entrypoints
from opsdb.settings import load_settings
from tests.support.folders import files
from tests.support.postgres import databases

CANARY = "canary-5dc1e0"


def plan(runbook: Flow[..., Any], **parameters: Any) -> DryRun:
    return dry_run(runbook, parameters, settings=load_settings())


@pytest.fixture(autouse=True)
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A shell that is started fails the test; the returned function takes that back."""
    monkeypatch.setattr("flows.engine.step.run_shell", lambda *_, **__: pytest.fail("a shell was started"))
    return monkeypatch.undo


def test_dry_run_of_a_backup_tells_the_steps_that_a_backup_takes(
    database: str, folder: Path, monkeypatch: pytest.MonkeyPatch, nothing_starts: Callable[[], None], postgres: str
) -> None:
    planned = plan(odoo_db_backup, odoo_db=database, restore_drill=True)
    assert (planned.error, planned.warnings) == (None, [])
    assert not folder.exists()

    nothing_starts()
    recorded: list[tuple[str, str]] = []
    monkeypatch.setenv("OPS_RUN_ID", "")  # the runbook sets it
    monkeypatch.setenv("OPS_HOME", str(folder.parent))
    monkeypatch.setenv("OPS_DATABASE_URL", postgres.format(database="postgres"))

    def note(_id: object, *, name: str, command: str, **_: object) -> dict[str, object]:
        recorded.append((name, command))
        return {}

    monkeypatch.setattr("flows.engine.step.StepStarted", note)
    odoo_db_backup(database, restore_drill=True)
    names = [name for name, _ in recorded]
    assert [one.name for one in planned.steps] == names
    assert [one.index for one in planned.steps] == list(range(1, len(names) + 1))
    commands = dict(recorded)
    assert {one.name: one.command for one in planned.steps if one.timeout_seconds} == {
        one.name: commands[one.name] for one in planned.steps if one.timeout_seconds
    }
    assert [one.name for one in planned.steps if one.preflight] == ["preflight", "restore preflight"]


def test_dry_run_leaves_the_folder_as_it_is_with_what_killed_backups_left(database: str, folder: Path) -> None:
    folder.mkdir(parents=True, mode=0o700)
    (folder / BackupName(database, datetime(2026, 1, 1, tzinfo=UTC)).partial).write_text("half")
    before = files(folder)
    assert plan(odoo_db_backup, odoo_db=database).error is None
    assert files(folder) == before


def test_preflight_that_fails_is_told(folder: Path) -> None:
    planned = plan(odoo_db_backup, odoo_db="no_such_shop")
    assert "there is no database 'no_such_shop'" in str(planned.error)
    assert [one.name for one in planned.steps] == ["preflight"]
    assert not folder.exists()


def test_dry_run_of_a_night_tells_what_it_starts_and_what_cannot_be_reached(database: str, folder: Path) -> None:
    planned = plan(nightly_backup, databases=[database, "no_such_shop"])
    assert [one.name for one in planned.steps] == [
        *("preflight", "session", f"start {database}", "start no_such_shop", "wait"),
    ]
    first, second, last = str(planned.error).splitlines()
    assert first == "1 of 2 databases cannot be reached now:"
    assert second.startswith("| no_such_shop: there is no database 'no_such_shop'. There are: ")
    assert last == "| A run backs up the others, and tries these again for 120 minutes. It fails if they stay away"
    assert not folder.exists()


def test_database_that_allows_no_connections_is_not_said_to_be_missing(database: str, postgres: str) -> None:
    with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as db:
        db.execute(f'ALTER DATABASE "{database}" RENAME TO "{database}-X"')
        db.execute(f'ALTER DATABASE "{database}-X" ALLOW_CONNECTIONS false')
        try:
            error = plan(odoo_db_backup, odoo_db=f"{database}-X").error
        finally:
            db.execute(f'DROP DATABASE "{database}-X"')
    assert error == (
        f"database '{database}-X' allows no connections: ALTER DATABASE \"{database}-X\" ALLOW_CONNECTIONS true"
    )


@pytest.mark.parametrize("look", ["check_readable", "_bytes", "_locale"])
def test_database_that_takes_too_long_is_told_by_a_dry_run_and_by_a_run(
    database: str, monkeypatch: pytest.MonkeyPatch, look: str
) -> None:
    def ask_long(db: Connection, *_: object) -> None:
        db.execute("SET statement_timeout = '1ms'")
        db.execute("SELECT pg_sleep(60)")

    monkeypatch.setattr(f"flows.backup.database.{look}", ask_long)
    told = "preflight: database query failed: canceling statement due to statement timeout"
    assert told in str(plan(odoo_db_backup, odoo_db=database).error)
    with pytest.raises(PreflightError, match=told):
        odoo_db_backup(database)


def test_folder_that_cannot_be_made_is_told(database: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    planned = plan(odoo_db_backup, odoo_db=database, backup_dir=str(tmp_path / "file" / "backups"))
    assert "not a folder" in str(planned.error)


def test_dry_runs_of_restores_make_no_database(
    postgres: str, database: str, folder: Path, nothing_starts: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    env = {"OPS_HOME": str(folder.parent), "OPS_DATABASE_URL": postgres.format(database="postgres"), "OPS_RUN_ID": ""}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    made = odoo_db_backup(database)
    monkeypatch.setattr("flows.engine.step.run_shell", lambda *_, **__: pytest.fail("a shell was started"))
    before, content = databases(postgres), files(folder)
    drilled = plan(odoo_restore_drill, odoo_db=database)
    restored = plan(odoo_db_restore, odoo_db=f"{database}_new", backup=Path(made["file"]).name)
    taken = plan(odoo_db_restore, odoo_db=database, backup=Path(made["file"]).name)
    assert (drilled.error, restored.error) == (None, None)
    assert [one.name for one in drilled.steps] == [
        "restore preflight",
        "open files",
        "checksum",
        "sandbox",
        "scratch database",
        "restore",
        "shut",
        "compare",
        "owners",
        "drop",
    ]
    assert restored.steps[-1].name == "publish"
    assert "already, and it is not touched" in str(taken.error)
    assert (databases(postgres), files(folder)) == (before, content)


def test_dry_run_of_a_night_starts_no_backup(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.nightly_backup.Night.start_try", lambda *_: pytest.fail("a backup was started"))
    monkeypatch.setattr("flows.nightly_backup._make_session", lambda *_: pytest.fail("a session was made"))
    planned = plan(nightly_backup, databases=[database])
    assert planned.error is None
    assert [one.name for one in planned.steps] == ["preflight", "session", f"start {database}", "wait"]


def test_secrets_are_masked_and_no_step_leaves_a_trace(tmp_path: Path) -> None:
    def make() -> str:
        (tmp_path / "made").touch()
        return "made"

    @runbook(deadline_seconds=10)
    def with_secret() -> str:
        found = action("look", lambda: "seen", about="look", preflight=True)
        action("change", (tmp_path / "changed").touch, about="touch changed")
        made = action("make", make, about="touch made") or "maybe"
        said = step("shout", "echo $A", timeout=3, env={"A": found}, secrets={"TOKEN": CANARY})
        step("repeat", "echo $A", timeout=3, env={"A": f"{made} {said.word('said')} {said.number('count')}"})
        return found

    planned = plan(with_secret)
    assert planned.error is None
    assert CANARY not in repr(planned)
    assert [dict(one.environment) for one in planned.steps[3:]] == [
        {"A": "seen", "TOKEN": "***"},
        {"A": "maybe (unknown) 1"},
    ]
    assert list(tmp_path.iterdir()) == []


def test_environment_that_no_step_can_have_is_told() -> None:
    @runbook(deadline_seconds=10)
    def with_bad_name() -> None:
        step("bad", "true", timeout=3, env={"BASH_ENV": "x"})

    assert "BASH_ENV" in str(plan(with_bad_name).error)


def test_warnings_of_a_preflight_are_shown() -> None:
    @runbook(deadline_seconds=10)
    def worried() -> None:
        def look(run: ActiveRun) -> None:
            run.event("all is well")
            run.event("free space was not checked", level="warning")
            raise PreflightError("no")

        from flows.engine.active_run import current_run

        action("preflight", lambda: look(current_run()), about="look", preflight=True)

    planned = plan(worried)
    assert (planned.warnings, planned.error) == (["free space was not checked"], "no")


def test_every_registered_runbook_can_be_loaded_and_refuses_parameters_that_do_not_fit() -> None:
    for entrypoint in registered_entrypoints(load_settings().prefect_yaml):
        with pytest.raises(UsageError, match="parameters do not fit"):
            plan(load_runbook(entrypoint), nobody_knows=1)
    with pytest.raises(UsageError, match="cannot be loaded here"):
        load_runbook("flows.missing.missing")
    with pytest.raises(UsageError, match="is not a runbook"):
        load_runbook("flows.engine.step.step")
