"""What undoes the steps of a rollback, and what a cancelled one leaves and says."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest
from prefect.exceptions import TerminationSignal

from flows.engine.active_run import ActiveRun, activated
from flows.odoo.undo import Undo
from opsdb.errors import StepFailedError
from opsdb.record.entries import Entry, Event
from opsdb.settings import Settings

LEFT = "`ops rollback 1f3a9c0b` resumes from there"


def ended_by(error: BaseException, tmp_path: Path) -> tuple[list[str], list[tuple[str, str]]]:
    """What was undone by a block that ends so after two steps, and the events."""
    entries: list[Entry] = []
    undone: list[str] = []
    run = ActiveRun(uuid4(), 1, Settings(home=tmp_path), entries.append, in_lane=False)

    def roll_back() -> None:
        with Undo(left=LEFT) as undo:
            undo.by("stop", lambda: undone.append("stop"))
            undo.by("databases", lambda: undone.append("databases"))
            raise error

    with activated(run), pytest.raises(type(error)):
        roll_back()
    return undone, [(one.level, one.message) for one in entries if isinstance(one, Event)]


def test_rollback_that_is_cancelled_undoes_nothing_and_says_how_far_it_was_and_what_goes_on(tmp_path: Path) -> None:
    undone, said = ended_by(TerminationSignal(signal=15), tmp_path)
    assert undone == []
    assert said == [("error", f"stopped in the middle, after: stop, databases. {LEFT}")]


def test_rollback_of_which_a_step_fails_undoes_the_last_step_first(tmp_path: Path) -> None:
    undone, said = ended_by(StepFailedError("no room"), tmp_path)
    assert undone == ["databases", "stop"]
    assert said == [("warning", "undone, since a later step failed: databases, stop")]
