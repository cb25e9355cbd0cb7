from __future__ import annotations

import io
import json

import pytest
from rich.console import Console, RenderableType

from cli.amounts import seconds, size
from cli.run.view import details_document, error_lines, run_page, runs_table, waiting_lines
from opsdb.runs.waiting import Waiting
from opsdb.states import APPROVAL, RunStatus
from tests.unit.cli.runs_made_up import HOSTILE, details


def drawn(renderable: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=400, force_terminal=False)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("status", [RunStatus.FAILED, RunStatus.SUCCEEDED, RunStatus.RUNNING])
def test_text_from_outside_is_shown_as_it_is(status: RunStatus) -> None:
    page = drawn(run_page(details(status=status, text=HOSTILE)))
    assert "[bold red]x[/]" in page
    assert not set("\x1b\x07\x00\u202e") & set(page)


def test_list_shows_hostile_names_as_text() -> None:
    page = drawn(runs_table([details(text=HOSTILE).view], width=400))
    assert "[bold red]x[/]" in page
    assert "\x1b" not in page


def test_page_tells_times_and_the_error() -> None:
    page = drawn(run_page(details()))
    facts = [" ".join(line.split()) for line in page.splitlines()]
    assert {"waited 10.0 s", "duration 1 min 05 s", "lane, priority B, 5"} <= set(facts)
    assert "plain: plain" in page
    assert "second" in page
    assert "third" not in page


def test_later_attempt_has_no_queue_time() -> None:
    assert details(attempt=2).view.queue_seconds is None


def test_running_run_lasts_until_now() -> None:
    assert details(status=RunStatus.RUNNING).view.duration_seconds == 70


def test_document_is_json_without_the_fences() -> None:
    document = json.loads(json.dumps(details_document(details(text=HOSTILE)), default=str))
    assert document["kind"] == HOSTILE
    assert document["steps"][1]["exit_code"] == 1
    assert document["artifacts"][0]["metadata"] == {}
    assert "state_id" not in document


def test_error_is_at_most_two_lines() -> None:
    assert error_lines({"type": "StepFailed", "message": "\none\n\ntwo\nthree"}) == ["StepFailed: one", "two"]
    assert error_lines({}) == []
    assert error_lines({"type": None, "message": None}) == ["Error: no message"]


def test_amounts_are_said_as_people_do() -> None:
    assert [seconds(v) for v in (None, 4.24, 65, 7800)] == ["", "4.2 s", "1 min 05 s", "2 h 10 min"]
    assert [size(v) for v in (None, 12, 12_300, 5_000_000_000_000)] == ["0 B", "12 B", "12.3 kB", "5.0 TB"]


def test_queued_run_says_why_it_waits() -> None:
    view = details(status=RunStatus.QUEUED).view
    nothing = Waiting(due_at=None, worker_online=True, holders=[], before=0)
    assert waiting_lines(view, nothing, paused=[]) == ["nothing holds it up: a worker takes it within seconds"]
    assert waiting_lines(view, nothing, paused=["lane B is paused"]) == ["lane B is paused"]
    holders = [details(status=RunStatus.RUNNING, text=HOSTILE).view]
    everything = Waiting(due_at=view.now, worker_online=False, holders=holders, before=2)
    due, worker, lane, before = waiting_lines(view, everything, paused=[])
    assert due.startswith("its schedule wants it at ")
    assert worker.startswith("no worker serves lane B")
    assert lane.startswith("lane B executes 1 now: ")
    assert before == "2 runs wait in lane B and go first"
    page = drawn(run_page(details(status=RunStatus.QUEUED), waits_for=[due, worker, lane, before]))
    assert "[bold red]x[/]" in page
    assert not set("\x1b\x07\x00\u202e") & set(page)


def test_run_that_waits_for_approval_says_what_it_asks_and_how_to_answer() -> None:
    view = details(status=RunStatus.QUEUED).view
    asks = Waiting(due_at=None, worker_online=True, holders=[view], before=3, approval=f"{APPROVAL}: {HOSTILE}?")
    asked, answer = waiting_lines(view, asks, paused=[])
    assert asked.startswith("it waits for approval: ")
    assert not set("\x1b\x07\x00\u202e") & set(asked)
    name = view.run.id.hex[-8:]
    assert answer == f"ops approve {name} lets it go on, ops cancel {name} ends it"
