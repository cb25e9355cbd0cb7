"""`ops backups nights`: on how many nights each database had a fresh backup."""

from __future__ import annotations

from dataclasses import asdict

from cli.columns import Columns
from cli.known_names import check_about
from cli.options import DatabaseArgument, JsonOption
from cli.text import errors, print_json, safe_line, say, show
from opsdb.runs.backups import BackupNights, backup_nights
from opsdb.runs.lookup import reading
from opsdb.settings import load_settings


def nights(database: DatabaseArgument = None, *, as_json: JsonOption = False) -> None:
    """Show on how many of the last 30 nights each database had a fresh backup: a verified one, younger than 26 h.

    Judged at 06:00 UTC, from the record of runs. A new database has fewer nights: those since its first backup was
    tried. OPS_BACKUP_OBJECTIVE is the number of 30 that it should have; what misses it is red.

    Example: ops backups nights odoo_prod
    """
    settings = load_settings()
    with reading(settings) as db:
        found = backup_nights(db, database=database)
    if database is not None and not found:
        check_about(database, settings, what="DATABASE")
    if as_json:
        print_json({"objective": settings.backup_objective, "databases": [asdict(one) for one in found]})
    elif found:
        show(table(found, objective=settings.backup_objective))
    else:
        which = f"of {safe_line(database)}" if database else "of any database"
        made = f"`ops run odoo_db_backup -p odoo_db={safe_line(database) if database else 'NAME'}`"
        say(f"Nobody tried a backup {which} in the last 31 days. Make one: {made}", to=errors)


def table(found: list[BackupNights], *, objective: int) -> Columns:
    """A line for each database."""
    lines = Columns.of("database", ">fresh nights", "last night without one")
    for one in found:
        missed = one.nights - one.fresh_nights
        lines.add(
            safe_line(one.database, width=63),
            f"{one.fresh_nights} of {one.nights}",
            f"{one.last_without_at:%Y-%m-%d}" if one.last_without_at else "",
            style="bold red" if missed > 30 - objective else "",
        )
    return lines
