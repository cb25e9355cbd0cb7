"""The step that loads a dump into a database: which pg_restore does it, and what of its errors counts."""

from __future__ import annotations

import os
import time

from flows.backup.postgres import Access
from flows.engine.step import step

RESTORE_SECONDS = 3600

RESTORE = """\
"$PG_RESTORE" --exit-on-error --no-password --jobs="$JOBS" $OPTIONS --no-subscriptions --dbname="$SCRATCH" -- "$DUMP"
"""


def load_dump(access: Access, dump: str, *, database: str, options: tuple[str, ...] = ()) -> float:
    """Load a dump into an empty database, as a step of the current runbook; returns the seconds that it took.

    `dump` is a path, and `options` are further ones of pg_restore, without blanks. `access` names the server, the login
    and the programs. Raises StepFailedError for any error of the dump, and StepTimeoutError.
    """
    started = time.monotonic()
    env = {"PG_RESTORE": str(access.programs.pg_restore), "DUMP": dump, "SCRATCH": database}
    env |= {"JOBS": str(min(4, os.cpu_count() or 1)), "OPTIONS": " ".join(options)}
    with access.environment() as variables:
        step("restore", RESTORE, timeout=RESTORE_SECONDS, env=variables | env)
    return round(time.monotonic() - started, 3)
