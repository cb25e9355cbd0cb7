"""What a runbook does at its end, in which order."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest

from flows.engine import runbook as runbook_module
from flows.engine.active_run import ActiveRun
from flows.engine.facts import Facts
from flows.engine.page import Page
from flows.engine.runbook import runbook
from flows.engine.story import Story
from opsdb.errors import PreflightError
from opsdb.record.entries import RunClosed
from opsdb.settings import Settings


def test_result_is_recorded_before_its_page_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []

    def explain(_parameters: Mapping[str, Any], _result: Mapping[str, Any]) -> Facts:
        happened.append("explained")  # which may ask the database, and wait
        return Facts([])

    @contextmanager
    def open_run(*_: Any) -> Iterator[ActiveRun]:
        yield ActiveRun(
            id=uuid4(),
            attempt=1,
            settings=Settings(),
            record=lambda entry: happened.append(type(entry).__name__),
            in_lane=False,
            story=Story(Page(), run_id=uuid4(), kind="tidy_up", explain=explain),
        )

    @runbook(deadline_seconds=1)
    def tidy_up() -> dict[str, int]:
        return {"deleted": 3}

    monkeypatch.setattr(runbook_module, "_open_run", open_run)
    assert tidy_up.fn() == {"deleted": 3}
    assert happened == [RunClosed.__name__, "explained"]


@pytest.mark.parametrize("text", ["{", "[1]"])  # one error in a library, one here
def test_error_that_nobody_raised_on_purpose_names_its_line(text: str) -> None:
    with pytest.raises((ValueError, TypeError)) as raised:
        json.loads(text)["key"]
    described = runbook_module._describe(raised.value)
    assert described["type"] == ("JSONDecodeError" if text == "{" else "TypeError")
    assert re.search(r" \(test_runbook\.py:\d+\)$", described["message"])


def test_error_that_was_raised_on_purpose_is_its_message() -> None:
    described = runbook_module._describe(PreflightError("no room"))
    assert described == {"type": "Preflight", "message": "no room", "stack": None}
