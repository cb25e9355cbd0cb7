"""What runbooks need before they begin, and what hinders a preflight as the operator's error instead of a traceback."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import psycopg
from sqlalchemy.exc import DBAPIError

from opsdb.database import first_line
from opsdb.errors import PreflightError, UsageError

PROGRAMS: dict[str, tuple[str, ...]] = {
    "odoo_db_backup": ("bash", "dd", "grep", "sha256sum", "stat", "sync", "tee", "timeout"),
    "odoo_db_restore": ("bash", "sha256sum", "timeout"),
    "odoo_fresh_deploy": ("bash", "awk", "curl", "doctl", "getent", "ssh"),
    "odoo_module_upgrade": ("bash", "curl", "docker", "git"),
    "odoo_restore_drill": ("bash", "sha256sum", "timeout"),
    "odoo_staging_copy": ("bash", "comm", "cut", "find", "grep", "sed", "sha256sum", "sort", "timeout", "xargs"),
    "odoo_upgrade_rollback": ("bash", "curl", "docker", "git", "sha256sum", "timeout"),
    "stored_command": ("bash",),
}
"""Beside those of PostgreSQL, which are looked for in more places. An upgrade on another host needs bash and ssh."""


def missing_programs(*names: str) -> list[str]:
    """Those of them that a step would not find on its PATH."""
    return [name for name in names if shutil.which(name) is None]


@contextmanager
def as_preflight_errors(name: str) -> Iterator[None]:
    """Turn what refuses the step meanwhile into a PreflightError: the system, a database, Prefect, a file of the room.

    It quotes what they said, and neither SQL nor values.
    """
    try:
        yield
    except UsageError as error:
        raise PreflightError(str(error)) from error
    except (psycopg.Error, DBAPIError) as error:
        raise PreflightError(
            f"{name}: database query failed: {first_line(error)}. Hint: if the server is busy, look at "
            "pg_stat_activity; otherwise correct that, and try again"
        ) from error
    except httpx.HTTPError as error:
        raise PreflightError(
            f"{name}: no answer from Prefect ({type(error).__name__}): `ops status` shows what runs"
        ) from error
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise PreflightError(
            f"{name}: {where}{error.strerror or type(error).__name__}. Hint: correct that, and try again"
        ) from error
