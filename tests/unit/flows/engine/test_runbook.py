"""What a runbook does at its end, in which order."""

from __future__ import annotations

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
