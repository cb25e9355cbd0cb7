"""The page of the run that this process executes, from the first line of its runbook to the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from prefect import Flow
from prefect.context import FlowRunContext

from flows.engine.active_run import ActiveRun
from flows.engine.facts import Explain
from flows.engine.page import Page
from flows.engine.run_logger import logging_to
from flows.engine.story import Story
from opsdb.kinds.subjects import Subject, subject_of
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
        called=_called(context.flow) if context.flow else None,
        explain=told.explain,
        progress=run.meter.latest,
    )
    with page.sent(cast(Any, context.client).request, look=run.story.show_progress), logging_to(page):
        yield


def _called(flow: Flow[..., Any]) -> Subject:
    """What runs of it are called, as `ops deploy` has it: the name that Prefect has may still be one of its own."""
    declared = getattr(flow.fn, "subject", None)
    return subject_of(flow.name, declared, flow.parameters.model_dump(exclude_unset=True))
