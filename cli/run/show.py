"""`ops show`: everything of one run, and why it waits."""

from __future__ import annotations

import time
from uuid import UUID

from cli.run.reasons import REQUEST_SECONDS, reasons
from cli.run.view import details_document, run_page
from cli.text import print_json, safe_line, show
from deployments.server.runs import Unrecorded, connect
from opsdb.errors import RoomUnreachableError, UsageError
from opsdb.runs.lookup import RunView, find_run, full_id, read_run, reading, short_id
from opsdb.runs.waiting import kept_waiting_by, why_waiting
from opsdb.settings import Settings
from opsdb.states import RunStatus
from opsdb.web.addresses import run_address

PATIENCE_SECONDS = 5.0
POLL_SECONDS = 0.2


def show_run(settings: Settings, *, run: str, as_json: bool) -> None:
    """Print a run as `ops show` does. Raises UsageError when none is recorded under that id."""
    waiting = holder = None
    found = _find(settings, run)
    with reading(settings) as db:
        details = read_run(db, found)
        if details is not None and details.view.run.status is RunStatus.QUEUED:
            waiting = why_waiting(db, details.view, online_seconds=settings.timings.online)
        elif details is not None:
            holder = kept_waiting_by(db, details.view.run)
    if details is None:
        raise UsageError(f"run {run!r} was just deleted from the ops database")
    waits_for = [kept_waiting_line(details.view, holder)] if holder else []
    if waiting is not None:
        waits_for = reasons(settings, details.view, waiting)
    address = run_address(settings.server_address, found)
    if as_json:
        print_json(details_document(details) | {"waits_for": waits_for, "address": address})
    else:
        show(run_page(details, waits_for=waits_for, address=address))


def _find(settings: Settings, run: str) -> UUID:
    """Find a run by what an operator typed. For its full id, wait a moment: a new run is recorded within seconds.

    Raises UsageError, for an id with what Prefect says of it.
    """
    deadline, run_id = time.monotonic() + PATIENCE_SECONDS, full_id(run)
    while True:
        try:
            with reading(settings) as db:
                return find_run(db, run)
        except UsageError as error:
            if run_id is None:
                raise
            unrecorded = _unrecorded(settings, run_id)
            if not unrecorded.coming or time.monotonic() >= deadline:
                raise UsageError(f"{error}. {unrecorded.why}") from None
        time.sleep(POLL_SECONDS)


def _unrecorded(settings: Settings, run_id: UUID) -> Unrecorded:
    try:
        with connect(settings, request_seconds=REQUEST_SECONDS) as server:
            return server.why_unrecorded(run_id)
    except (RoomUnreachableError, UsageError) as error:
        return Unrecorded(str(error))


def kept_waiting_line(view: RunView, holder: UUID) -> str:
    """For whose end a running run waits before its first step."""
    what, run = safe_line((view.run.waits_for_resource or "").replace(":", " ", 1)), short_id(holder)
    return f"run {run} holds {what}, and this one begins when that is over: ops show {run}"
