from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import typer
from typer.testing import CliRunner

from cli import run_control, runs
from cli.account import account
from cli.run import deaths as run_deaths
from cli.run import wait as run_wait
from deployments.server import runs as prefect_server
from opsdb.errors import OpsError, RoomUnreachableError, UsageError
from opsdb.runs.lookup import full_id
from opsdb.tables import Lane
from tests.support.runs_made_up import FakePrefect, details, state

app = typer.Typer()
runs.register(app)
run_control.register(app)
BACKUP = ["run", "odoo_db_backup", "-p", "database=shop"]


@pytest.fixture(autouse=True)
def room_without_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPS_HOME", str(tmp_path))
    monkeypatch.setenv("OPS_DATABASE_URL", f"postgresql://postgres@/ops?host={tmp_path}")
    monkeypatch.setattr(run_wait, "POLL_SECONDS", 0)
    monkeypatch.setattr(run_wait, "RECORD_SECONDS", 0)
    monkeypatch.setattr(run_deaths, "DECISION_SECONDS", 0)
    monkeypatch.setattr(run_deaths, "TRIED_AGAIN_WITHIN", timedelta(0))


@pytest.fixture
def prefect(monkeypatch: pytest.MonkeyPatch) -> FakePrefect:
    fake = FakePrefect()

    @contextmanager
    def connected(_settings: object) -> Iterator[FakePrefect]:
        yield fake

    monkeypatch.setattr(prefect_server, "connect", connected)
    return fake


def ops(*arguments: str) -> tuple[int, str]:
    """The exit code and stdout of a command."""
    result = CliRunner().invoke(app, list(arguments))
    if isinstance(result.exception, OpsError):
        raise result.exception
    return result.exit_code, result.stdout


def test_run_starts_with_converted_parameters(prefect: FakePrefect) -> None:
    code, out = ops(*BACKUP, "-p", "keep_days=3", "--lane", "b", "--priority", "-5", "--idempotency-key", "k")
    assert code == 0
    assert prefect.started == [
        {
            "params": {"database": "shop", "keep_days": 3},
            "lane": Lane.B,
            "priority": -5,
            "session_id": None,
            "idempotency_key": "k",
            "message": f"started by {account()} with `ops run`",
            "name": None,  # the ops database does not answer: the sync names it later
        }
    ]
    assert f"http://127.0.0.1:4200/v2/runs/flow-run/{prefect.run_id}" in out
    assert f"ops logs {prefect.run_id.hex[-8:]} --follow" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nope"], "There are: odoo_db_backup"),
        (["run", "a\0b"], "KIND: holds a NUL"),
        (["run", "odoo_db_backup"], "database is missing"),
        ([*BACKUP, "-p", "databse=x"], "'databse' is unknown"),
        ([*BACKUP, "-p", "keep_days=x"], "'x' is not an integer"),
        ([*BACKUP, "--lane", "E"], "--lane: invalid value 'E' .choose from A, B, C, D."),
        ([*BACKUP, "--session", " "], "--session: must not be empty"),
        (["run", "odoo_db_backup", "-p", "database=SHOP"], "does not match"),
        (["runs", "--status", "done"], "choose from queued, claimed"),
    ],
)
def test_wrong_usage_starts_nothing(prefect: FakePrefect, arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ops(*arguments)
    assert prefect.started == []


@pytest.mark.parametrize("arguments", [["run"], [*BACKUP, "--priority", "1001"], ["runs", "--limit", "0"], ["show"]])
def test_usage_error_of_the_parser_exits_with_2(arguments: list[str]) -> None:
    assert ops(*arguments)[0] == 2


@pytest.mark.parametrize(("end", "code"), [("COMPLETED", 0), ("FAILED", 1), ("CRASHED", 1), ("CANCELLED", 1)])
def test_wait_tells_the_end_by_its_exit_code(prefect: FakePrefect, end: str, code: int) -> None:
    prefect.states = [state("SCHEDULED"), state("RUNNING"), state(end, message="why")]
    found, out = ops(*BACKUP, "--wait")
    assert found == code
    assert ("why" in out) == (code == 1)


def test_wait_with_json_prints_one_document(prefect: FakePrefect) -> None:
    prefect.states = [state("RUNNING"), state("FAILED", message="why")]
    code, out = ops(*BACKUP, "--wait", "--json")
    document = json.loads(out)
    assert code == 1
    assert (document["status"], document["error"]["message"]) == ("failed", "why")
    assert document["address"].endswith(str(prefect.run_id))


def test_interrupt_leaves_the_run_going(prefect: FakePrefect, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(prefect, "state", interrupt)
    result = CliRunner().invoke(app, [*BACKUP, "--wait"])
    assert result.exit_code == 130
    assert "is still running" in result.stderr


@pytest.mark.parametrize("arguments", [["runs"], ["show", "abcd"], ["logs", "abcd"], ["cancel", "abcd"]])
def test_unreachable_database_is_said_with_what_to_do(prefect: FakePrefect, arguments: list[str]) -> None:
    with pytest.raises(RoomUnreachableError, match="`ops up` starts the room"):
        ops(*arguments)


def test_room_that_never_started_is_unreachable() -> None:
    with pytest.raises(RoomUnreachableError, match="never started"):
        ops(*BACKUP)


def test_session_needs_the_database_before_anything_starts(prefect: FakePrefect) -> None:
    with pytest.raises(RoomUnreachableError):
        ops(*BACKUP, "--session", "release")
    assert prefect.started == []


def test_cancel_by_full_id_needs_no_database(prefect: FakePrefect) -> None:
    code, out = ops("cancel", str(uuid4()), "--json")
    assert code == 0
    assert json.loads(out)["status"] == "cancelled"


def test_cancel_of_a_finished_run_is_refused(prefect: FakePrefect) -> None:
    prefect.states = [state("COMPLETED")]
    with pytest.raises(UsageError, match="has succeeded already"):
        ops("cancel", str(uuid4()))


def test_run_ids_are_read_with_or_without_dashes() -> None:
    run_id = details().view.run.id
    assert full_id(str(run_id).upper()) == full_id(run_id.hex) == run_id
    for part_or_name in ("0a1b", "0A1b-2c", "", "abc", "0a1g", "%%%%", "0" * 33, "odoo_prod · backup"):
        assert full_id(part_or_name) is None


@pytest.mark.parametrize("command", ["run", "runs", "show", "logs", "cancel"])
def test_help_has_an_example(command: str) -> None:
    code, out = ops(command, "--help")
    assert code == 0
    assert f"Example: ops {command} " in out


def test_reading_commands_do_not_import_prefect() -> None:
    modules = (
        "cli.runs, cli.run.view, cli.run.params, cli.run.logs, cli.run.start, cli.run.cancel, cli.run_control, "
        "cli.stats, cli.board, cli.board_view, cli.run.lane_logs, cli.run.cancel_all"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, {modules}; print('prefect' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"
