"""A database whose name is mistyped: found before a run is started that could only fail."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import text

from cli.known_names import server_databases
from opsdb.errors import RoomUnreachableError, UsageError
from opsdb.near_names import near_name
from opsdb.runs.lookup import reading
from opsdb.settings import Settings

_NEAR = 0.8
_AWAITED = text("""
SELECT EXISTS (SELECT FROM ops.runs WHERE finished_at IS NULL AND params ->> 'odoo_db' = :database)
""")


def check_databases(settings: Settings, params: Mapping[str, Any], *, schema: Mapping[str, Any]) -> None:
    """Raise UsageError for a missing database if one with a similar name exists.

    `params` are those with defaults. Another name may be right: a missing name is left to the run. So is a database
    that has backups, or that a run which is not over makes, and all of them where the server cannot be asked.
    """
    doubted = [one for one in _named(params, schema) if not one[2] or _near(*one[1:])]
    if not doubted or params.get("target"):
        return
    there = server_databases(settings)
    for name, database, _ in doubted:
        near = _near(database, there)
        if near and not _has_backups(settings, params, database) and not _is_awaited(settings, database):
            raise UsageError(
                f"parameter {name}: there is no database {database!r} on the server. Did you mean {near!r}? "
                "Nothing was started"
            )


def _named(params: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[tuple[str, str, list[str]]]:
    """The databases in parameters whose form offers such as exist: parameter, database, and what is offered."""
    from flows.backup.names import DATABASE_PATTERN, parse_name

    for name, field in (schema.get("properties") or {}).items():
        offered = field.get("examples")
        if offered is None or not all(re.fullmatch(DATABASE_PATTERN, str(one)) for one in offered):
            continue
        given = params.get(name)
        for one in given if isinstance(given, list) else [given]:
            if isinstance(one, str) and one and parse_name(one) is None:
                yield name, one, offered


def _near(database: str, names: list[str]) -> str | None:
    """The name that was meant, perhaps; None where the database is among them."""
    return None if database in names else near_name(database, names, alike=_NEAR)


def _has_backups(settings: Settings, params: Mapping[str, Any], database: str) -> bool:
    from flows.backup.names import parse_name

    folder = Path(params.get("backup_dir") or settings.backups)
    files = folder.glob(f"{database}_*.dump") if folder.is_dir() else ()
    return any((name := parse_name(file.name)) and name.database == database for file in files)


def _is_awaited(settings: Settings, database: str) -> bool:
    """Whether a run is about it that may make it, which is so where the record cannot be asked."""
    try:
        with reading(settings) as db:
            return bool(db.scalar(_AWAITED, {"database": database}))
    except RoomUnreachableError:
        return True
