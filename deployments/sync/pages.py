"""Pages of runbook runs, as Prefect's server has them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterEndTime, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort

from opsdb.runs.prefect_runs import RUNBOOK_TAG

PAGE = 200


async def pages(client: PrefectClient, *, ended_after: datetime | None) -> AsyncIterator[list[FlowRun]]:
    """Pages of runbook runs: those that ended since, newest first, or those that have not ended."""
    before: datetime | None = None
    offset = 0
    while True:
        end_time = (
            FlowRunFilterEndTime(after_=ended_after, before_=before)
            if ended_after
            else FlowRunFilterEndTime(is_null_=True)
        )
        page = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[RUNBOOK_TAG]), end_time=end_time),
            sort=FlowRunSort.END_TIME_DESC if ended_after else FlowRunSort.ID_DESC,
            limit=PAGE,
            offset=offset,
        )
        if page:
            yield page
        if len(page) < PAGE:
            return
        if ended_after and page[-1].end_time != before:
            before, offset = page[-1].end_time, 0  # by key: runs that end meanwhile do not shift the pages
        else:
            offset += PAGE


def in_future(flow_run: FlowRun) -> bool:
    """A run that a schedule has planned and that is not due: Prefect plans up to a hundred ahead of time."""
    due = flow_run.expected_start_time
    return bool(
        flow_run.auto_scheduled
        and flow_run.state
        and flow_run.state.is_scheduled()
        and due
        and due > datetime.now(UTC) + timedelta(seconds=5)
    )
