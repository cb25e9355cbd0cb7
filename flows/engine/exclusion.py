"""A run waits until no other run holds what it needs for itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from uuid import UUID

from sqlalchemy import Engine

from opsdb.database import GONE, first_line
from opsdb.errors import PreflightError
from opsdb.runs.locks import gives_way, holder_of, note_waiting, take_resource
from opsdb.runs.lookup import short_id

WAIT_SECONDS = 6 * 3600.0
"""How long a run waits for another one: the longest nightly backup, and then some."""


def exclude_others(
    engine: Engine,
    *,
    resource: str,
    run_id: UUID,
    attempt: int,
    deadline_seconds: float,
    note: Callable[[str], None],
    poll_seconds: float,
    wait_seconds: float = WAIT_SECONDS,
) -> None:
    """Return when the resource is this run's alone, until the run ends.

    It waits for a database that is away, too: no run continues unprotected. The run's deadline counts from when it has
    the resource; while it waits, from the end of the longest wait. It asks every `poll_seconds`. `note` gets a line
    for each thing that it begins to wait for, and one when it has the resource after all. Raises PreflightError after
    `wait_seconds`, and for the last of runs that would wait for each other in a circle. The caller's thread may be
    interrupted at any moment.
    """
    what = resource.replace(":", " ", 1)
    started = time.monotonic()
    noted: str | None = None
    while True:
        reason = _try_to_take(
            engine,
            resource=resource,
            run_id=run_id,
            attempt=attempt,
            deadline_seconds=deadline_seconds,
            wait_seconds=wait_seconds,
        )
        if reason is None:
            break
        if reason and reason != noted:
            noted = reason
            note(f"waits for {reason}")
        if time.monotonic() - started > wait_seconds:
            waited_for = noted or "its own record in the ops database"
            raise PreflightError(
                f"timed out after {wait_seconds:g} s waiting for {what}: {waited_for}. Nothing was started"
            )
        time.sleep(poll_seconds if reason else poll_seconds / 20)
    if noted is not None:
        note(f"has {what} to itself, after {time.monotonic() - started:.0f} s of waiting")


def _try_to_take(
    engine: Engine, *, resource: str, run_id: UUID, attempt: int, deadline_seconds: float, wait_seconds: float
) -> str | None:
    """Take the resource. Returns None when that was possible, else whose end is waited for; empty for nobody's."""
    what = resource.replace(":", " ", 1)
    try:
        with engine.begin() as db:
            if take_resource(db, resource=resource, run_id=run_id, attempt=attempt, deadline_seconds=deadline_seconds):
                return None
            latest = wait_seconds + deadline_seconds
            note_waiting(db, resource=resource, run_id=run_id, attempt=attempt, deadline_seconds=latest)
            holder = holder_of(db, resource)
            circle = gives_way(db, resource=resource, run_id=run_id)
    except GONE as error:
        return f"the ops database ({first_line(error)}), which says who holds {what}"
    if holder is None or holder == run_id:
        return ""
    if circle:
        raise PreflightError(
            f"run {short_id(holder)} holds {what} and waits for what this run holds: neither would ever begin, and "
            f"this one gives way. Nothing was started. Hint: start it again when run {short_id(holder)} is over"
        )
    return f"run {short_id(holder)}, which holds {what}"
