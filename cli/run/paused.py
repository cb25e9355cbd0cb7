"""Whether what a queued run waits in is paused, which Prefect knows alone."""

from __future__ import annotations

from deployments.server import runs as prefect_server
from opsdb.errors import RoomUnreachableError, UsageError
from opsdb.runs.lookup import RunView
from opsdb.settings import Settings

REQUEST_SECONDS = 3.0


def paused_lines(settings: Settings, view: RunView) -> list[str]:
    """That the lane of a queued run or its queue there is paused, or that this is not known; nothing when neither is.

    It takes seconds when Prefect hangs.
    """
    lane = view.run.lane
    try:
        with prefect_server.connect(settings, request_seconds=REQUEST_SECONDS) as server:
            paused = server.paused(view.run.id)
    except (RoomUnreachableError, UsageError) as error:
        return [f"whether lane {lane} is paused is not known: {error}"]
    if paused is None:
        return []
    if paused.queue is None:
        return [
            f"lane {lane} is paused in Prefect and starts nothing: resume the work pool {paused.pool} in the Prefect "
            f"UI, or `prefect work-pool resume {paused.pool}`"
        ]
    return [
        f"queue {paused.queue} of lane {lane} is paused in Prefect and starts nothing: resume it in the Prefect UI, "
        f"Work Pools, {paused.pool}, or `prefect work-queue resume {paused.queue} --pool {paused.pool}`"
    ]
