"""Steps that are sealed: an attempt that goes on does none of them again."""

from __future__ import annotations

from uuid import uuid4

import pytest

from flows.engine.active_run import ActiveRun, activated
from flows.engine.lasting import lasting
from opsdb.record.entries import Entry, StepSkipped
from opsdb.runs.kept_steps import KeptStep
from opsdb.settings import Settings


def kept(index: int, name: str, result: dict[str, object] | None = None) -> KeptStep:
    return KeptStep(
        index=index, name=name, command=f"do {name}", timeout_seconds=0, definition="1", exit_code=None, result=result
    )


def test_sealed_steps_are_skipped_as_a_whole_and_give_what_they_made() -> None:
    entries: list[Entry] = []
    seal = kept(3, "protected", {"value": {"sealed_from": 2, "made": {"file": "a.dump"}}})
    steps = [kept(2, "snapshot"), seal, kept(4, "upgrade")]
    run = ActiveRun(id=uuid4(), attempt=2, settings=Settings(), record=entries.append, in_lane=False, kept=steps)
    next(run.step_numbers)
    with activated(run):
        made: object = lasting("protected", lambda: pytest.fail("it was done again"), about="do protected")
    assert made == {"file": "a.dump"}
    assert [entry.step.name for entry in entries if isinstance(entry, StepSkipped)] == ["snapshot", "protected"]
    assert [step.name for step in run.kept] == ["upgrade"]
    assert next(run.step_numbers) == 4
