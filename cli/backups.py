"""The command about backups: what there is, how old, and what proves it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from cli.amounts import seconds, size
from cli.harmless import harmless_line
from cli.output import console, errors, print_json
from cli.runs import JsonOption
from flows.backup_files import Backup, list_backups, list_databases
from opsdb.drills import Drill, last_drills
from opsdb.errors import OpsError, UsageError
from opsdb.lookup import reading, short_id
from opsdb.settings import Settings, load_settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Runs")(backups)


def backups(
    database: Annotated[str | None, typer.Argument(metavar="[DATABASE]", help="Only of this one.")] = None,
    *,
    folder: Annotated[
        Path | None, typer.Option("--dir", metavar="FOLDER", help="The folder. Default: the room's own.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Read all bytes, and compare them with their sha256.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the backups in the folder, the newest first: how old, how large, and what proves each.

    Works without a room, which then cannot say which backups were restored.

    Example: ops backups odoo_prod --check
    """
    settings = load_settings()
    drills = _drills(settings)
    where = (folder or settings.backups).absolute()
    try:
        names = list_databases(where) if database is None else [database]
        found = {name: list_backups(where, name)[::-1] for name in names}
    except OSError as error:
        raise UsageError(f"the folder {where} cannot be read: {error.strerror}") from error
    now = datetime.now(UTC)
    documents = [
        document(one, drills=drills or {}, now=now, check=check) for of_one in found.values() for one in of_one
    ]
    if as_json:
        print_json(documents)
    elif documents:
        console.print(f"{where}", markup=False, highlight=False, soft_wrap=True)
        console.print(_table(documents, drills_known=drills is not None))
    else:
        errors.print(f"No backups in {where}. Make one: ops run odoo_db_backup -p odoo_db=NAME", markup=False)


def document(backup: Backup, *, drills: Mapping[str, Drill], now: datetime, check: bool) -> dict[str, Any]:
    """What is known of a backup. `good` is whether its own files speak for it: with `check` every byte, else sizes."""
    manifest = backup.manifest
    companions = manifest.companions if manifest else []
    wrong = _wrong(backup, check=check)
    drill = drills.get(backup.name.dump)
    return {
        "database": backup.name.database,
        "file": backup.name.dump,
        "path": str(backup.path),
        "created_at": backup.name.created_at,
        "age_seconds": max(0.0, round((now - backup.name.created_at).total_seconds(), 1)),
        "size_bytes": backup.size_bytes + sum(one.size_bytes for one in companions),
        "good": wrong is None,
        "wrong": wrong,
        "bytes_checked": check and manifest is not None,
        "made_by_run": manifest.run_id if manifest else None,
        "tables": manifest.tables if manifest else None,
        "rows": manifest.contents.rows if manifest and manifest.contents else None,
        "other_files": [one.file for one in companions],
        "restored_at": drill.at if drill else None,
        "restored_by_run": drill.run_id if drill else None,
        "restore_seconds": drill.seconds if drill else None,
    }


def _wrong(backup: Backup, *, check: bool) -> str | None:
    manifest = backup.manifest
    if manifest is None:
        return "no manifest that is as it was written"
    files = [(manifest.file, manifest.size_bytes, manifest.sha256)]
    files += [(one.file, one.size_bytes, one.sha256) for one in manifest.companions]
    for name, expected_bytes, sha256 in files:
        try:
            with (backup.folder / name).open("rb") as file:
                if (backup.folder / name).stat().st_size != expected_bytes:
                    return f"{name} does not have its {expected_bytes} bytes"
                if check and hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                    return f"{name} is damaged: its sha256 differs"
        except OSError as error:
            return f"{name} cannot be read: {error.strerror}"
    return None


def _drills(settings: Settings) -> dict[str, Drill] | None:
    try:
        with reading(settings) as db:
            return last_drills(db)
    except OpsError as error:
        errors.print(f"Which were restored is not known: {harmless_line(str(error), width=300)}", markup=False)
        return None


def _table(documents: list[dict[str, Any]], *, drills_known: bool) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("database", "file", "age", "size", "verified", "restored", "took"):
        table.add_column(name, no_wrap=name != "verified", overflow="fold")
    for one in documents:
        at, by = one["restored_at"], one["restored_by_run"]
        table.add_row(
            one["database"],
            one["file"],
            _age(one["age_seconds"]),
            size(one["size_bytes"]),
            _verdict(one),
            f"{at:%Y-%m-%d %H:%M} by {short_id(by)}" if at else Text("never" if drills_known else "?", style="dim"),
            seconds(one["restore_seconds"]),
        )
    return table


def _verdict(one: dict[str, Any]) -> Text:
    if not one["good"]:
        return Text(one["wrong"], style="bold red")
    checked = ", all bytes read" if one["bytes_checked"] else ""
    counted = f", {one['rows']} rows hashed" if one["rows"] is not None else ""
    return Text(f"when made{counted}{checked}", style="green")


def _age(age_seconds: float) -> str:
    days = int(age_seconds // 86400)
    return f"{days} d {int(age_seconds % 86400 // 3600)} h" if days else seconds(age_seconds)
