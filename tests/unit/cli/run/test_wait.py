from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import typer
from rich.console import Console

from cli.run import deaths as run_deaths
from cli.run import end as run_end
from cli.run import wait as run_wait
from cli.run.end import report_end
from cli.run.wait import Lines, LiveTable, Moment, Silent, follow
from opsdb.errors import RoomUnreachableError
from opsdb.settings import Settings
from opsdb.states import APPROVAL, RunStatus, postponed_message
from tests.support.runs_made_up import HOSTILE, FakePrefect, at, details, state


class Clock:
    """Time that passes only while someone waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def pause(self, seconds: float) -> None:
        self.now += seconds

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def database_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_wait, "_recorded", lambda *_args, known: (known, ""))


def lines() -> tuple[Lines, Callable[[], str]]:
    out = io.StringIO()
    return Lines(Console(file=out, width=20)), out.getvalue


@pytest.mark.usefixtures("database_away")
def test_prefect_alone_ends_the_wait(tmp_path: Path) -> None:
    server = FakePrefect(states=[state("SCHEDULED"), state("RUNNING"), state("RUNNING"), state("COMPLETED")])
    view, said = lines()
    clock = Clock()
    end = follow(Settings(home=tmp_path), server, run_id=server.run_id, view=view, pause=clock.pause, clock=clock)
    assert end.state.status is RunStatus.SUCCEEDED
    assert [line.split(": ")[1] for line in said().splitlines()] == ["queued", "running", "succeeded"]


@pytest.mark.usefixtures("database_away")
def test_short_outage_is_waited_out_and_a_long_one_is_not(tmp_path: Path) -> None:
    clock = Clock()
    server = FakePrefect(states=[state("COMPLETED")], outages=30)
    end = follow(Settings(home=tmp_path), server, run_id=server.run_id, view=Silent(), pause=clock.pause, clock=clock)
    assert end.state.status.terminal
    with pytest.raises(RoomUnreachableError):
        follow(
            Settings(home=tmp_path),
            FakePrefect(outages=1000),
            run_id=server.run_id,
            view=Silent(),
            pause=clock.pause,
            clock=clock,
        )


@pytest.mark.usefixtures("database_away")
def test_wait_ends_at_its_limit_and_says_why_a_run_is_queued(tmp_path: Path) -> None:
    clock = Clock()
    server = FakePrefect(states=[state("SCHEDULED")])
    view, said = lines()
    asked = itertools.count(1)
    end = follow(
        Settings(home=tmp_path),
        server,
        run_id=server.run_id,
        view=view,
        why_queued=lambda: f"lane C is full (3 of 3), asked {next(asked)}",
        limit_seconds=40,
        pause=clock.pause,
        clock=clock,
    )
    assert not end.state.status.terminal
    hints = [line for line in said().splitlines() if line.startswith("still queued: ")]
    assert hints == [f"still queued: lane C is full (3 of 3), asked {number}" for number in (1, 2)]


@pytest.mark.usefixtures("database_away")
def test_run_that_waits_for_approval_says_who_is_asked_what_and_how_to_answer(tmp_path: Path) -> None:
    clock = Clock()
    asks = replace(state("PAUSED"), message=f"{APPROVAL} until 21:30: deploy {HOSTILE}?")
    server = FakePrefect(states=[state("RUNNING"), asks, asks, state("COMPLETED")])
    view, said = lines()
    follow(Settings(home=tmp_path), server, run_id=server.run_id, view=view, pause=clock.pause, clock=clock)
    assert said().count(f"(ops approve {server.run_id.hex[-8:]})") == 1
    assert "waits for approval until 21:30: deploy " in said()
    assert "\x1b" not in said()


@pytest.mark.usefixtures("database_away")
def test_postponed_run_is_waited_for_to_its_end_and_says_until_when_it_waits(tmp_path: Path) -> None:
    clock = Clock()
    waits = replace(state("SCHEDULED"), message=postponed_message(at(900), f"{HOSTILE} failed"))
    server = FakePrefect(states=[state("RUNNING"), *[waits] * 60, state("RUNNING"), state("FAILED")])
    view, said = lines()
    end = follow(Settings(home=tmp_path), server, run_id=server.run_id, view=view, pause=clock.pause, clock=clock)
    assert end.state.status is RunStatus.FAILED
    assert said().count("waits until 2026-11-23 12:15:00 UTC: ") == 1
    assert "still queued" not in said()
    assert "\x1b" not in said()


def test_lines_tell_each_change_of_a_step_once_and_safely() -> None:
    view, said = lines()
    known = details(text=HOSTILE)
    now = Moment(run_id=known.view.run.id, state=state("RUNNING"), details=known, waited_seconds=1)
    view.show(now)
    view.show(now)
    assert "step 1 preflight: succeeded after 4.0 s, exit code 0" in said()
    assert said().count("step 2 [bold red]x[/]") == 1
    assert "\x1b" not in said()


def test_wait_for_another_attempt_tells_nothing_of_those_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [details(attempt=1), details(attempt=1), details(attempt=2)]  # the record comes after Prefect's word
    run_id = records[0].view.run.id
    told = iter(records)
    monkeypatch.setattr(run_wait, "_recorded", lambda *_args, known: (next(told, known), ""))
    server, clock = FakePrefect(states=[state("RUNNING"), state("FAILED")]), Clock()
    view, said = lines()
    room = Settings(home=tmp_path)
    end = follow(room, server, run_id=run_id, view=view, since_attempt=2, pause=clock.pause, clock=clock)
    assert end.details == records[2]
    assert said().count("step 1 preflight") == 1


def test_live_table_shows_no_step_of_an_attempt_before() -> None:
    out = io.StringIO()
    known = details(attempt=1)
    with LiveTable(Console(file=out, width=80, force_terminal=True)) as view:
        view.show(
            Moment(run_id=known.view.run.id, state=state("RUNNING"), details=known, waited_seconds=1, since_attempt=2)
        )
    assert "running" in out.getvalue()
    assert "preflight" not in out.getvalue()


def test_interrupted_wait_says_that_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_args: object, **_options: object) -> Moment:
        raise KeyboardInterrupt

    monkeypatch.setattr(run_end, "follow", interrupted)
    document = {"id": UUID(int=1), "short_id": "00000001"}
    server: Any = None
    with pytest.raises(typer.Exit) as end:
        run_end.wait_for(Settings(home=tmp_path), server, document, as_json=False, since_attempt=2)
    assert end.value.exit_code == 130
    assert "run 00000001 is still running" in capsys.readouterr().err


def test_end_of_a_failed_run_tells_the_error_and_the_logs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = details()
    end = Moment(run_id=known.view.run.id, state=state("FAILED"), details=known, waited_seconds=1)
    (tmp_path / "logs" / str(known.view.run.id)).mkdir(parents=True)
    report_end(Settings(home=tmp_path), end)
    out = capsys.readouterr().out
    assert "plain: plain\nsecond\n" in out
    assert f"ops logs {known.view.run.id.hex[-8:]}" in out


def test_database_that_is_away_is_said_once_and_does_not_hold_up_the_wait(tmp_path: Path) -> None:
    clock = Clock()
    server = FakePrefect(states=[state("RUNNING"), state("RUNNING"), state("COMPLETED")])
    view, said = lines()
    room = Settings(home=tmp_path)
    end = follow(room, server, run_id=server.run_id, view=view, pause=clock.pause, clock=clock)
    assert end.state.status is RunStatus.SUCCEEDED
    assert said().count("the steps can not be followed: the ops database does not answer") == 1


def died(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *after: str, tried_again: bool) -> tuple[Moment, str, float]:
    """Follow a run that dies, as long as it is followed: the end, what was said, and the seconds that it took."""
    monkeypatch.setattr(run_deaths.Deaths, "_expected", lambda *_args: tried_again)
    death = state("CRASHED", message="the run process ended: killed by SIGKILL")
    server = FakePrefect(states=[state("RUNNING"), death, death, *map(state, after)] if after else [death])
    view, said = lines()
    clock = Clock()
    end = follow(Settings(home=tmp_path), server, run_id=server.run_id, view=view, pause=clock.pause, clock=clock)
    return end, said(), clock.now


@pytest.mark.usefixtures("database_away")
@pytest.mark.parametrize(("last", "status"), [("COMPLETED", RunStatus.SUCCEEDED), ("FAILED", RunStatus.FAILED)])
def test_run_that_died_and_is_tried_again_is_followed_to_its_real_end(
    last: str, status: RunStatus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end, said, _ = died(tmp_path, monkeypatch, "SCHEDULED", "RUNNING", last, tried_again=True)
    assert (end.state.status, end.overdue) == (status, False)
    told = [line.split(": ")[1] for line in said.splitlines() if line.startswith("run ")]
    assert told == ["running", "died", "queued", "running", status]
    assert "the room may try it again: the run process ended: killed by SIGKILL" in said


@pytest.mark.usefixtures("database_away")
def test_run_that_died_and_is_not_tried_again_is_over_in_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end, said, seconds = died(tmp_path, monkeypatch, tried_again=False)
    assert (end.state.status, end.overdue) == (RunStatus.FAILED, False)
    assert said.splitlines()[-1].endswith("failed")
    assert seconds < 8


@pytest.mark.usefixtures("database_away")
def test_attempt_that_does_not_come_is_waited_for_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    end, _, seconds = died(tmp_path, monkeypatch, tried_again=True)
    assert (end.state.status, end.overdue) == (RunStatus.FAILED, True)
    assert 60 <= seconds < 70
    report_end(Settings(home=tmp_path), end)
    assert "It may begin yet" in capsys.readouterr().out
