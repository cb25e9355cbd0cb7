"""The step that loads a dump into a database, and the statistics without which its queries would be slow."""

from __future__ import annotations

import time
from collections.abc import Callable

import psycopg

from flows.backup.loading import LOAD, load_variables
from flows.backup.pinned import pin_settings
from flows.backup.postgres import Access, Connection
from flows.engine.active_run import current_run
from flows.engine.progress import read
from flows.engine.step import step
from opsdb.errors import PreflightError

RESTORE_SECONDS = 3600
ANALYZE_SECONDS = 600


def load_dump(access: Access, dump: str, *, database: str, options: tuple[str, ...] = ()) -> float:
    """Load a dump into an empty database, as a step of the current runbook; returns the seconds that it took.

    `dump` is a path, and `options` are further ones of pg_restore, without blanks. `access` names the server, the login
    and the programs. Raises StepFailedError for any error of the dump, and StepTimeoutError.
    """
    started = time.monotonic()
    with access.environment() as connection:
        env = connection | load_variables(access, dump, database=database, options=options)
        step("restore", LOAD, timeout=RESTORE_SECONDS, env=env, progress=read(dump))
    return round(time.monotonic() - started, 3)


def analyze(connected: Callable[[], Connection]) -> None:
    """Collect the planner's statistics of all tables that the login of a connection owns.

    They are not part of the backup: where that fails, an event says so, and autovacuum collects them in time.
    """
    try:
        with connected() as db:
            pin_settings(db, statement_seconds=ANALYZE_SECONDS)
            db.execute("ANALYZE")
    except (PreflightError, psycopg.Error) as error:
        current_run().event(f"the planner's statistics were not collected: {str(error).strip()}", level="warning")
