"""A run that was started while its session was being cancelled."""

from __future__ import annotations

from contextlib import suppress
from uuid import UUID

from deployments.server.runs import PrefectServer
from opsdb.errors import RoomUnreachableError, UsageError
from opsdb.runs.lookup import reading, short_id
from opsdb.runs.sessions import is_cancelled
from opsdb.settings import Settings


def cancel_if_session_was(settings: Settings, server: PrefectServer, *, run_id: UUID, session_id: UUID) -> None:
    """Look at the session again, after the start of a run of it: who cancelled it may not have seen that run.

    Raises UsageError when the session is cancelled: the run then is as well. While the database is away, it is not.
    """
    try:
        with reading(settings) as db:
            cancelled = is_cancelled(db, session_id)
    except RoomUnreachableError:
        return
    if cancelled:
        with suppress(UsageError):  # the other one saw it, or it is over
            server.cancel(run_id, message=f"its session {session_id} was cancelled meanwhile")
        raise UsageError(
            f"session {session_id} was cancelled meanwhile: run {short_id(run_id)}, which had just been started, was "
            f"cancelled as well"
        )
