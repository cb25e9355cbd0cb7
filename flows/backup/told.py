"""What the page of a backup says, and that of a night of them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from flows.backup.names import parse_name
from flows.engine.active_run import current_run
from flows.engine.facts import Facts, listed
from flows.engine.markdown import code, text
from opsdb.amounts import seconds, size
from opsdb.errors import RoomUnreachableError
from opsdb.runs.backups import last_drills
from opsdb.runs.lookup import reading, short_id

RESTORES = "Restore it into a new database, of any name that is free:"
_SUFFIX = "_restored"
_ROOM_FOR_SUFFIX = 63 - len(_SUFFIX)  # characters that PostgreSQL allows
_LOOK_SECONDS = 3.0
"""How long the end of a run waits for what is only nice to know."""


def backup_facts(parameters: Mapping[str, Any], result: Mapping[str, Any]) -> Facts:
    """A backup: what is in it, where it is, what proves it, and how to restore it."""
    file = str(result["file"])
    name = file.rpartition("/")[2]
    target = result.get("target") or {}
    tables, rows = result.get("tables"), result.get("rows")
    found = [
        ("file", code(file)),
        ("size of the dump", size(result["size_bytes"])),
        ("size of all files", size(result["all_files_bytes"])),
        ("rows", f"{rows:,} in {tables} tables" if rows is not None else f"not counted, in {tables} tables"),
        ("sha256", code(result["sha256"])),
        ("checked", "read back with `pg_restore`, and its sha256 compared with what pg_dump wrote"),
        ("beside it", listed(result["other_files"]) if result.get("other_files") else "nothing"),
        ("copies", code(target["url"]) if target else "none: it is in its folder alone"),
        ("last drill", _last_drill(str(parameters["odoo_db"]), result.get("drill"))),
        ("deleted meanwhile", listed(result["pruned"]) if result.get("pruned") else "nothing"),
    ]
    return Facts(found, [restore_command(name, parameters)], RESTORES)


def restore_command(backup: str, parameters: Mapping[str, Any]) -> str:
    """For a shell: restore this backup, which a run with these parameters made or tried, beside its database."""
    given = {"backup": backup, "odoo_db": f"{str(parameters['odoo_db'])[:_ROOM_FOR_SUFFIX]}{_SUFFIX}"}
    given |= {key: str(parameters[key]) for key in ("backup_dir", "target") if parameters.get(key)}
    words = [word for key, value in given.items() for word in ("-p", f"{key}={value}")]
    return shlex.join(["ops", "run", "odoo_db_restore", *words])


def night_facts(_parameters: Mapping[str, Any], result: Mapping[str, Any]) -> Facts:
    """A night: what became of each database."""
    found = [
        (text(database), f"{text(one['outcome'])}, try {one['tries']}, run {code(short_id(UUID(one['run'])))}")
        for database, one in result["backups"].items()
    ]
    return Facts(found, [f"ops session show {result['session']}", "ops backups"], "Its backups:")


def _last_drill(database: str, drill: Mapping[str, Any] | None) -> str:
    """When a backup of this database was restored and compared last, as the record has it."""
    if drill and "not_drilled" not in drill:
        return f"this one was restored and compared, in {seconds(drill.get('restore_seconds'))}"
    try:
        with reading(current_run().settings, statement_seconds=_LOOK_SECONDS) as db:
            drills = last_drills(db)
    except RoomUnreachableError:
        return "not known: the ops database did not answer"
    ours = [each for file, each in drills.items() if (name := parse_name(file)) and name.database == database]
    if not ours:
        return "never: `ops run odoo_restore_drill` proves a backup"
    last = max(ours, key=lambda each: each.at)
    return f"an earlier one, {last.at:%Y-%m-%d %H:%M} UTC"
