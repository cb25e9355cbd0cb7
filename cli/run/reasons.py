"""Why a queued run has not started: what the ops database knows of its lane, and what blocks it in Prefect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from cli.run.view import called
from cli.text import clock, safe_line
from deployments.server.obstacles import Hold
from deployments.server.runs import PrefectServer, connect
from opsdb.amounts import seconds
from opsdb.errors import RoomUnreachableError, UsageError
from opsdb.runs.lookup import RunView, read_run, reading, short_id
from opsdb.runs.waiting import Waiting, why_waiting
from opsdb.settings import Settings
from opsdb.states import RunStatus, State

REQUEST_SECONDS = 3.0
QUEUE_HINT_SECONDS = 15.0
"""After which, and how often, it is looked up why a run is still queued."""
HINTS = 2
"""The reasons that a line has room for."""
NOTHING = "nothing is blocking it: a worker takes it within seconds"


def reasons(settings: Settings, view: RunView, waiting: Waiting) -> list[str]:
    """Why a queued run has not started, a sentence each. It takes seconds when Prefect hangs."""
    if waiting.approval or waiting.postponed or waiting.held:
        return waiting_lines(view, waiting, hold=None, slots=settings.lane_limit)
    try:
        with connect(settings, request_seconds=REQUEST_SECONDS) as server:
            hold = _hold(settings, server, view)
    except (RoomUnreachableError, UsageError) as error:
        return waiting_lines(view, waiting, hold=None, slots=settings.lane_limit, unknown=str(error))
    return waiting_lines(view, waiting, hold=hold, slots=settings.lane_limit)


def queue_hint(settings: Settings, server: PrefectServer, run_id: UUID) -> str:
    """Why a run that is waited for is still queued, on one line that changes only when the reasons do."""
    try:
        with reading(settings) as db:
            details = read_run(db, run_id)
            if details is None or details.view.run.status is not RunStatus.QUEUED:
                return ""
            waiting = why_waiting(db, details.view, online_seconds=settings.timings.online)
        hold = _hold(settings, server, details.view)
    except (RoomUnreachableError, UsageError) as error:
        return safe_line(f"why is not known: {error}", width=300)
    found = waiting_lines(details.view, waiting, hold=hold, slots=settings.lane_limit, durations=False)
    return "; ".join(found[:HINTS])


@dataclass
class QueueHint:
    """Why a run is still queued: looked up now and then, kept in between."""

    run_id: UUID
    why: Callable[[], str]
    _text: str = ""
    _next_at: float = QUEUE_HINT_SECONDS

    def text(self, state: State, waited: float) -> str:
        """One line; empty while it is not queued, or has not been for long."""
        if state.status is not RunStatus.QUEUED:
            return ""
        if waited > self._next_at:
            self._next_at = waited + QUEUE_HINT_SECONDS
            self._text = f"still queued: {self.why() or f'`ops show {short_id(self.run_id)}` says why'}"
        return self._text


def waiting_lines(
    view: RunView, waiting: Waiting, *, hold: Hold | None, slots: int, unknown: str = "", durations: bool = True
) -> list[str]:
    """Why a queued run has not started, a sentence each.

    `hold` is what blocks it in Prefect, None when Prefect was not queried, or when that is `unknown` for this reason.
    `slots` are those of a lane by the room's own settings.
    """
    name = short_id(view.run.id)
    if waiting.approval is not None:
        asks = f"it {safe_line(waiting.approval, width=500)}"
        return [asks, f"ops approve {name} resumes it, ops cancel {name} ends it"]
    if waiting.postponed is not None:
        return [f"it {safe_line(waiting.postponed, width=500)}"]
    if waiting.held is not None:
        held = f"it was set to {safe_line(waiting.held)} in Prefect, and starts when somebody resumes it there"
        return [f"{held}: Resume on its page, or ops cancel {name} ends it"]
    found = [f"what blocks it in Prefect is not known: {unknown}"] if unknown else []
    found += [str(obstacle) for obstacle in hold.obstacles] if hold else []
    if hold and hold.due:
        return _safe([str(hold.due), *found])
    if hold is None and waiting.due_at is not None:
        return _safe([f"it is not to start before {clock(waiting.due_at)}", *found])
    found += _of_lane(view, waiting, hold, slots=slots, durations=durations)
    return _safe(found) or [NOTHING if hold else f"ops knows no reason: `ops show {name}` asks Prefect"]


def _of_lane(view: RunView, waiting: Waiting, hold: Hold | None, *, slots: int, durations: bool) -> list[str]:
    lane, found = view.run.lane.value, []
    if not waiting.worker_online:
        found.append(f"no worker serves lane {lane}: `ops status` shows what runs, `ops up` starts the room")
    limit, taken = (hold.slots, hold.taken) if hold else (slots, len(waiting.holders))
    if limit and taken >= limit:
        less = f", OPS_LANE_LIMIT here says {slots}: `ops deploy` sets it" if limit < slots else ""
        named = ", ".join(_holder(holder, durations=durations) for holder in waiting.holders)
        found.append(f"lane {lane} is full ({taken} of {limit}{less}): {named or '`ops runs` lists them'}")
    if before := _first(waiting, hold):
        runs = "1 run waits" if before == 1 else f"{before} runs wait"
        found.append(f"{runs} in lane {lane} and {'goes' if before == 1 else 'go'} first")
    if found and waiting.overtaken_by:
        runs = "1 run" if waiting.overtaken_by == 1 else f"{waiting.overtaken_by} runs"
        found.append(
            f"{runs} went ahead since it waits, more urgent though asked for later: if it must not wait, "
            f"`ops cancel {short_id(view.run.id)}` and start it with a higher --priority, or in another lane"
        )
    return found


def _first(waiting: Waiting, hold: Hold | None) -> int:
    """How many runs go first: none where nothing goes."""
    if hold is None:
        return sum(waiting.ahead.values())
    return sum(n for queue, n in waiting.ahead.items() if hold.lane_open and queue not in hold.closed_queues)


def _hold(settings: Settings, server: PrefectServer, view: RunView) -> Hold:
    return server.hold(view.run.id, lane=view.run.lane, slots=settings.lane_limit, now=view.now)


def _holder(view: RunView, *, durations: bool) -> str:
    since = f" (for {seconds(view.duration_seconds or 0)})" if durations else ""
    return f"{short_id(view.run.id)} {called(view.run)}{since}"


def _safe(found: list[str]) -> list[str]:
    return [safe_line(line, width=500) for line in found]
