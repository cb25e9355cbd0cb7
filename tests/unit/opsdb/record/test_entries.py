"""Entries and their lines in the journal."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest
from pydantic import ValidationError

from opsdb.record.entries import ArtifactMade, StepFinished, read_line
from opsdb.states import State
from tests.support.journals import OLD_JOURNAL

ADDED: dict[object, dict[str, object]] = {"run_opened": {"tick": None}, "step_started": {"must_run_again": False}}
"""What later versions say as well."""
OLD_LINES = [json.loads(line) for line in OLD_JOURNAL.read_text().splitlines()]


@pytest.mark.parametrize("line", OLD_LINES, ids=[line["op"] for line in OLD_LINES])
def test_line_of_the_version_before_is_read_and_written_as_it_was(line: dict[str, object]) -> None:
    assert read_line(line).line() == line | ADDED.get(line["op"], {})


def test_line_may_lack_what_later_versions_added_and_say_what_none_knows() -> None:
    line = {"op": "step_finished", "run_id": str(uuid4()), "made": {}, "attempt": 1, "index": 1, "status": "failed"}
    entry = read_line(line | {"of_a_later_version": 7})
    assert isinstance(entry, StepFinished)
    assert (entry.exit_code, entry.result, entry.must_run_again) == (None, None, False)


def test_line_of_an_unknown_kind_or_without_what_its_kind_must_say_is_refused() -> None:
    with pytest.raises(ValueError, match="the kind 'run_teleported' is not known: it is of a newer version"):
        read_line({"op": "run_teleported", "run_id": str(uuid4())})
    with pytest.raises(ValueError, match="the kind None is not known"):
        read_line({"run_id": str(uuid4())})
    with pytest.raises(ValidationError):
        read_line({"op": "step_finished", "run_id": str(uuid4()), "made": {}, "attempt": 1, "index": 1})


def test_state_that_is_read_back_came_from_prefect() -> None:
    opened = next(read_line(line) for line in OLD_LINES if line["op"] == "run_opened")
    assert [state.source for state in opened.states] == ["prefect"] * 3  # type: ignore[attr-defined]
    assert all(isinstance(state, State) for state in opened.states)  # type: ignore[attr-defined]


def test_artifact_of_more_text_than_a_row_holds_is_refused() -> None:
    ArtifactMade(uuid4(), kind="text", name="log", columns={"content_text": "x" * 1024 * 1024})
    with pytest.raises(ValueError, match="over 1 MB of text"):
        ArtifactMade(uuid4(), kind="text", name="log", columns={"content_text": "x" * 1024 * 1024 + "x"})
