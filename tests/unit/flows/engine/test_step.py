"""What the record and the page have of a step with secrets."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from flows.engine import step as step_module
from flows.engine.active_run import ActiveRun, activated
from flows.engine.page import Page
from flows.engine.step import step
from flows.engine.story import Story
from opsdb.errors import UsageError
from opsdb.record.entries import Entry, StepFinished, StepSkipped
from opsdb.runs.kept_steps import KeptStep
from opsdb.settings import Settings
from opsdb.tables import StepStatus

SECRET = "correct horse battery"
COMMAND = f"printf %s {SECRET} | login"


class Run:
    """A run outside Prefect, and what is recorded and shown of it."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.page = Page()
        self.active = ActiveRun(
            id=uuid4(),
            attempt=2,
            settings=Settings(),
            record=self.entries.append,
            in_lane=False,
            page=self.page,
            story=Story(self.page, run_id=uuid4(), kind="k", attempt=2),
        )

    @property
    def shown(self) -> str:
        """All lines and artifacts."""
        return f"{[*self.page._waiting]} {self.page.artifacts._wanted}"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    directly: Any = SimpleNamespace(with_options=lambda **_: lambda work: work())
    monkeypatch.setattr(step_module, "_step_task", directly)
    monkeypatch.setattr(step_module, "get_run_logger", logging.getLogger)
    made = Run()
    with activated(made.active):
        yield made


def test_command_of_a_step_that_is_kept_is_shown_without_its_secrets(run: Run) -> None:
    kept = KeptStep(
        index=1,
        name="fetch",
        command=COMMAND,
        timeout_seconds=5,
        definition="1",
        exit_code=0,
        result={"stdout": "well"},
    )
    run.active.kept = [kept]
    assert step("fetch", COMMAND, timeout=5, secrets={"TOKEN": SECRET}).stdout == "well"
    assert [type(entry) for entry in run.entries] == [StepSkipped]
    assert "printf %s *** | login" in run.shown
    assert SECRET not in run.shown


@pytest.mark.parametrize("secret", ["brief", "surrogate \ud800 in it"])
def test_step_whose_secret_cannot_be_masked_fails_as_any_other(run: Run, secret: str) -> None:
    command = COMMAND.replace(SECRET, secret)
    with pytest.raises(UsageError, match="secret TOKEN "):
        step("fetch", command, timeout=5, secrets={"TOKEN": secret})
    [ended] = [entry for entry in run.entries if isinstance(entry, StepFinished)]
    assert ended.status is StepStatus.FAILED
    assert "secret TOKEN " in (ended.error or "")
    assert "Step 1 fetch begins: ***" in run.shown
    assert secret not in run.shown
