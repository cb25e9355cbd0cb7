"""The page of the run that this process executes, from the first line of its runbook to the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from prefect.context import FlowRunContext

from flows.engine.active_run import ActiveRun
from flows.engine.facts import Explain
from flows.engine.page import Page
from flows.engine.run_logger import logging_to
from flows.engine.story import Story
from opsdb.runs.lookup import short_id


@dataclass(frozen=True, slots=True)
class Told:
    """What the page of a run needs to know of its runbook."""

    parameters: Mapping[str, Any]
    exclusive: str | None
    explain: Explain


@contextmanager
def page_of(run: ActiveRun, context: FlowRunContext, told: Told) -> Iterator[None]:
    """Show the run in Prefect's UI until the end of the block, over the client that Prefect's engine has anyway."""
    page = Page(run.id, rest=f"`ops logs {short_id(run.id)}`")
    page.clock = run.clock or page.clock
    if run.attempt == 1:
        page.artifacts.none_yet()
    run.page = page
    run.story = Story(
        page,
        run_id=run.id,
        kind=context.flow.name if context.flow else "",
        attempt=run.attempt,
        parameters=told.parameters,
        exclusive=told.exclusive,
        explain=told.explain,
        progress=run.meter.latest,
    )
    with page.sent(cast(Any, context.client).request, look=run.story.show_progress), logging_to(page):
        yield
