from __future__ import annotations

import json

import pytest

from cli.run.view import called, details_document, error_lines, run_page, runs_table
from opsdb.states import RunStatus
from tests.support.runs_made_up import HOSTILE, details, drawn


@pytest.mark.parametrize("status", [RunStatus.FAILED, RunStatus.SUCCEEDED, RunStatus.RUNNING])
def test_text_from_outside_is_shown_as_it_is(status: RunStatus) -> None:
    page = drawn(run_page(details(status=status, text=HOSTILE)))
    assert "[bold red]x[/]" in page
    assert not set("\x1b\x07\x00\u202e") & set(page)


def test_run_is_called_by_its_name_or_while_it_has_none_by_its_kind() -> None:
    run = details(text="odoo_db_backup").view.run
    assert called(run) == "odoo_db_backup"
    run.name = "odoo_prod · backup"
    assert called(run) == "odoo_prod · backup"


def test_list_shows_hostile_names_as_text() -> None:
    page = drawn(runs_table([details(text=HOSTILE).view]))
    assert "[bold red]x[/]" in page
    assert "\x1b" not in page


def test_page_tells_times_and_the_error() -> None:
    page = drawn(run_page(details()))
    facts = [" ".join(line.split()) for line in page.splitlines()]
    assert {"waited 10.0 s", "duration 1 min 05 s", "lane B", "priority 5"} <= set(facts)
    assert "plain: plain" in page
    assert "second" in page
    assert "third" not in page


def test_page_says_right_after_the_status_what_the_run_waits_for() -> None:
    page = drawn(run_page(details(status=RunStatus.QUEUED), waits_for=["lane B is full", "2 runs go first"]))
    facts = [" ".join(line.split()) for line in page.splitlines()]
    at = facts.index("status queued")
    assert facts[at + 1 : at + 3] == ["waits lane B is full", "2 runs go first"]


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
