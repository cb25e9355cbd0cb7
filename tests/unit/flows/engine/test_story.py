"""What a run says of itself: its lines, its table of steps, and how it ended."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from flows.engine.facts import Explain, Facts, result_facts
from flows.engine.page import Page
from flows.engine.story import MOST_STEPS, Story
from opsdb.kinds.subjects import Subject
from opsdb.progress import Progress
from tests.unit.flows.engine.test_page import Prefect

RUN = UUID("2dd0b48f-0000-0000-0000-00001234abcd")
KEY = "backup-odoo-prod"


class Told:
    """A story, and what Prefect has of it after it was sent."""

    def __init__(self, *, attempt: int = 1, explain: Explain = result_facts, progress: Any = dict) -> None:
        self._page = Page(RUN)
        parameters = {"odoo_db": "odoo_prod"}
        about: dict[str, Any] = {"kind": "odoo_db_backup", "attempt": attempt, "parameters": parameters}
        self.story = Story(self._page, run_id=RUN, **about, explain=explain, progress=progress)
        self._prefect = Prefect()

    @property
    def lines(self) -> list[str]:
        with self._page.sent(self._prefect):
            pass
        return self._prefect.messages

    @property
    def levels(self) -> list[int]:
        return [line["level"] for line in self._prefect.lines]

    @property
    def artifacts(self) -> dict[str, Any]:
        _ = self.lines  # which sends all of it
        return {one["key"]: one["data"] for one in self._prefect.artifacts.values()}


def test_steps_are_told_from_their_beginning_to_their_end() -> None:
    told = Told()
    told.story.begins()
    told.story.step_begins(1, "pg_dump", 'pg_dump "$ODOO_DB" \\\n  | sha256sum')
    told.story.step_ended(1, "succeeded", exit_code=0)
    told.story.succeeded({"file": "a.dump"})
    assert told.lines == [
        "The run begins",
        'Step 1 pg_dump begins: pg_dump "$ODOO_DB" \\ \u23ce | sha256sum',
        "Step 1 pg_dump succeeded after 0.0 s, exit code 0",
        "The run succeeded after 0.0 s",
    ]
    assert set(told.artifacts) == {KEY, f"{KEY}--steps"}
    assert "| file | `a.dump` |" in told.artifacts[KEY]
    (row,) = json.loads(told.artifacts[f"{KEY}--steps"])
    assert (row["step"], row["name"], row["status"], row["exit_code"]) == (1, "pg_dump", "succeeded", 0)


def test_failure_is_said_in_one_line_with_what_to_do_next() -> None:
    told = Told()
    message = "step pg_dump failed: exit code 1\n| pg_dump: error: no such table\n| more"
    told.story.step_begins(3, "pg_dump", "pg_dump")
    told.story.step_ended(3, "failed", exit_code=1, error=message)
    told.story.failed({"type": "ShellFailed", "message": message, "stack": "Traceback..."}, interrupted=False)
    assert told.lines[1:] == [
        "Step 3 pg_dump failed after 0.0 s, exit code 1: pg_dump: error: no such table",
        "The run failed in step 3 pg_dump: step pg_dump failed: exit code 1: pg_dump: error: no such table",
        "Next: `ops logs 1234abcd --step 3`, `ops show 1234abcd`; `ops retry 1234abcd` tries again",
    ]
    assert told.levels[1:3] == [logging.ERROR, logging.ERROR]
    text = told.artifacts[KEY]
    assert "pg_dump: error: no such table\nmore" in text
    assert "ops retry 1234abcd --from-failed" in text
    assert "Traceback" not in text + str(told.lines)


def test_error_without_a_step_or_a_message_is_told() -> None:
    told = Told()
    told.story.failed({"type": "Key", "message": ""}, interrupted=True)
    assert told.lines[0] == "The run was stopped: Key"


def test_later_attempt_says_so_and_which_steps_stand() -> None:
    told = Told(attempt=2)
    told.story.begins()
    told.story.step_kept(1, "pg_dump", "pg_dump")
    assert told.lines == [
        "Attempt 2 begins",
        "Step 1 pg_dump is not done again: it succeeded in an earlier attempt",
    ]
    assert json.loads(told.artifacts[f"{KEY}--steps"])[0]["status"] == "kept"


def test_question_says_what_happens_until_when_and_how_it_is_answered() -> None:
    told = Told()
    told.story.step_begins(2, "approve", "wait")
    told.story.asks(2, "Drop *all* of it?", until_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    said = told.lines[-1]
    assert "until 2026-01-02 03:04:05 UTC: Drop *all* of it? Approve: `ops approve 1234abcd`" in said
    assert r"**Drop \*all\* of it?**" in told.artifacts[KEY].replace(r"\?", "?")
    assert "ops cancel 1234abcd" in told.artifacts[KEY]


def test_progress_is_shown_while_a_step_runs_and_taken_away_at_the_end() -> None:
    seen = {1: Progress(done_bytes=50, total_bytes=200, estimated=True, bytes_per_second=10), 9: None}
    told = Told(progress=lambda: seen)
    told.story.step_begins(1, "pg_dump", "pg_dump")
    told.story.show_progress()
    assert told.artifacts[f"{KEY}--progress"] == 25.0
    told.story.step_ended(1, "succeeded")
    assert told.artifacts[f"{KEY}--progress"] == 100.0
    told.story.succeeded({})
    assert f"{KEY}--progress" not in told.artifacts


def test_progress_of_a_step_that_is_over_is_not_shown() -> None:
    told = Told(progress=lambda: {1: Progress(done_bytes=50, total_bytes=200)})
    told.story.show_progress()
    assert told.artifacts == {}


@pytest.mark.parametrize("hostile", ["\x1b[2J\u202e|`#*<b>", "a\nb | c", "x" * 100_000, "\ud800"])
def test_hostile_names_and_texts_are_harmless(hostile: str) -> None:
    told = Told()
    told.story.step_begins(1, hostile, hostile)
    told.story.step_ended(1, "failed", error=hostile)
    told.story.failed({"type": "Step", "message": hostile}, interrupted=False)
    for line in told.lines:
        assert line.isprintable()
        assert len(line) < 210_000
    assert all(character.isprintable() or character == "\n" for character in told.artifacts[KEY])


def test_facts_that_cannot_be_found_fail_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def explain(_parameters: object, result: Any) -> Facts:
        return Facts([("size", str(result["missing"]))])

    told = Told(explain=explain)
    told.story.succeeded({"file": "a.dump"})
    assert "`a.dump`" in told.artifacts[KEY]
    assert "says no more than its result" in caplog.text


def test_table_of_steps_is_bounded() -> None:
    told = Told()
    for number in range(MOST_STEPS + 50):
        told.story.step_begins(number, "step", "true")
    assert len(json.loads(told.artifacts[f"{KEY}--steps"])) == MOST_STEPS


def test_page_is_headed_by_what_the_run_is_called() -> None:
    page, prefect = Page(RUN), Prefect()
    called = Subject(kind="tidy_up", pattern="${params.folder} · tidy up")
    parameters = {"api_token": "hush", "folder": "/srv/*"}
    with page.sent(prefect):
        Story(page, run_id=RUN, kind="tidy_up", parameters=parameters, called=called).begins()
    [one] = prefect.artifacts.values()
    assert one["data"].startswith(r"## /srv/\* · tidy up is running")
    assert "hush" not in str(one)
