from __future__ import annotations

from cli.run.show import waiting_lines
from cli.run.view import run_page
from opsdb.runs.lookup import short_id
from opsdb.runs.waiting import Waiting
from opsdb.states import APPROVAL, RunStatus, postponed_message
from tests.support.runs_made_up import HOSTILE, details, drawn


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


def test_run_that_waits_by_its_own_choice_says_until_when_and_why_and_nothing_of_its_lane() -> None:
    view = details(status=RunStatus.QUEUED).view
    message = postponed_message(view.now, f"the backup of {HOSTILE} is not over")
    waits = Waiting(due_at=None, worker_online=False, holders=[view], before=3, postponed=message)
    [line] = waiting_lines(view, waits, paused=[])
    assert line.startswith("it waits until 2026-11-23 12:01:20 UTC: the backup of ")
    assert not set("\x1b\x07\x00\u202e") & set(line)


def test_waiting_run_that_somebody_holds_says_how_it_goes_on() -> None:
    view = details(status=RunStatus.QUEUED).view
    held = Waiting(due_at=None, worker_online=True, holders=[], before=3, held="Suspended")
    [line] = waiting_lines(view, held, paused=[])
    assert line.startswith("it was set to Suspended in Prefect, and starts when somebody resumes it there")
    assert f"ops cancel {short_id(view.run.id)}" in line
