"""`ops show`: everything of one run, and why it waits."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from cli.run.view import details_document, run_page
from cli.text import clock, console, print_json, safe_line
from deployments.server import runs as prefect_server
from opsdb.amounts import seconds
from opsdb.errors import RoomUnreachableError, UsageError
from opsdb.runs.lookup import RunView, find_run, read_run, reading, run_digits, short_id
from opsdb.runs.waiting import Waiting, kept_waiting_by, why_waiting
from opsdb.settings import Settings
from opsdb.states import RunStatus

REQUEST_SECONDS = 3.0


def show_run(settings: Settings, *, run: str, as_json: bool) -> None:
    """Print a run as `ops show` does. Raises UsageError when none is recorded under that id."""
    run_digits(run)
    waiting = holder = None
    with reading(settings) as db:
        details = read_run(db, find_run(db, run))
        if details is not None and details.view.run.status is RunStatus.QUEUED:
            waiting = why_waiting(db, details.view, online_seconds=settings.timings.online)
        elif details is not None:
            holder = kept_waiting_by(db, details.view.run)
    if details is None:
        raise UsageError(f"run {run!r} was just deleted from the ops database")
    waits_for = [kept_waiting_line(details.view, holder)] if holder else []
    if waiting is not None:
        paused = [] if waiting.approval or waiting.postponed or waiting.held else _paused_lines(settings, details.view)
        waits_for = waiting_lines(details.view, waiting, paused=paused)
    if as_json:
        print_json(details_document(details) | {"waits_for": waits_for})
    else:
        console.print(run_page(details, waits_for=waits_for), crop=False)


def waiting_lines(view: RunView, waiting: Waiting, *, paused: Sequence[str]) -> list[str]:
    """Why a queued run has not started, a sentence each; `paused` are those of `_paused_lines`."""
    lane = view.run.lane.value
    if waiting.approval is not None:
        name = short_id(view.run.id)
        return [
            f"it {safe_line(waiting.approval, width=500)}",
            f"ops approve {name} lets it go on, ops cancel {name} ends it",
        ]
    if waiting.postponed is not None:
        return [f"it {safe_line(waiting.postponed, width=500)}"]
    if waiting.held is not None:
        name = short_id(view.run.id)
        return [
            f"it was set to {safe_line(waiting.held)} in Prefect, and starts when somebody resumes it there: "
            f"Resume on its page, or ops cancel {name} ends it"
        ]
    found = [safe_line(line, width=500) for line in paused]
    if waiting.due_at is not None:
        found.append(f"its schedule wants it at {clock(waiting.due_at)}")
    if not waiting.worker_online:
        found.append(f"no worker serves lane {lane}: `ops status` tells what runs, `ops up` starts the room")
    if waiting.holders:
        named = ", ".join(_holder(holder) for holder in waiting.holders)
        found.append(f"lane {lane} executes {len(waiting.holders)} now: {named}")
    if waiting.before:
        runs = "1 run waits" if waiting.before == 1 else f"{waiting.before} runs wait"
        found.append(f"{runs} in lane {lane} and {'goes' if waiting.before == 1 else 'go'} first")
    return found or ["nothing holds it up: a worker takes it within seconds"]


def kept_waiting_line(view: RunView, holder: UUID) -> str:
    """For whose end a running run waits before its first step."""
    what, run = safe_line((view.run.waits_for_resource or "").replace(":", " ", 1)), short_id(holder)
    return f"run {run} holds {what}, and this one begins when that is over: ops show {run}"


def _holder(view: RunView) -> str:
    run = view.run
    return f"{short_id(run.id)} {safe_line(run.kind, width=40)} (for {seconds(view.duration_seconds or 0)})"


def _paused_lines(settings: Settings, view: RunView) -> list[str]:
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
