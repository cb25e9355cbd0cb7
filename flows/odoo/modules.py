"""What an Odoo database says of its modules."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import psycopg

from flows.backup.database import Database
from opsdb.database import first_line
from opsdb.errors import PreflightError, StepFailedError
from opsdb.shown import shown


@dataclass(frozen=True, slots=True)
class Module:
    """A module of one database. `version` is None while it was never installed."""

    state: str
    version: str | None


def read_modules(database: str, *, url: str) -> dict[str, Module]:
    """All modules that the database knows, by name. Raises PreflightError for one that is not Odoo's."""
    with Database(database, url).reading() as db:
        try:
            rows = db.execute("SELECT name, state, latest_version FROM public.ir_module_module").fetchall()
        except (psycopg.errors.UndefinedTable, psycopg.errors.InsufficientPrivilege) as error:
            raise PreflightError(f"{database} shows no Odoo modules: {first_line(error)}") from None
    return {str(name): Module(str(state), str(version) if version else None) for name, state, version in rows}


def read_uuid(database: str, *, url: str) -> str | None:
    """By what Odoo tells one database from another, or None where it does not say. Raises PreflightError."""
    with Database(database, url).reading() as db:
        try:
            row = db.execute("SELECT value FROM public.ir_config_parameter WHERE key = 'database.uuid'").fetchone()
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn, psycopg.errors.InsufficientPrivilege):
            return None
    return str(row[0]) if row and row[0] else None


def check_same(database: str, uuid: str | None, said: str) -> None:
    """Raise StepFailedError when what Odoo's shell `said` of its database is not what was read of ours."""
    found = re.search(r"^database: (\S+)$", said, re.MULTILINE)
    if uuid is not None and (found is None or found[1] != uuid):
        raise StepFailedError(
            f"Odoo upgraded another database {database}: its database.uuid is {found[1] if found else 'unknown'}, and "
            f"where OPS_ODOO_DATABASE_URL leads it is {uuid}: let it lead to the PostgreSQL of Odoo's container"
        )


def check_upgradable(wanted: Sequence[str], known: dict[str, Module], *, database: str) -> None:
    """Raise PreflightError unless all modules are installed: Odoo skips others without a word, and exits with 0.

    An Odoo that was killed in the middle leaves them `to upgrade`: the next upgrade goes on with those.
    """
    wrong = []
    for name in wanted:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            meant = f", did you mean {shown(close[0])}?" if close else ""
            wrong.append(f"{name} is unknown{meant}")
        elif known[name].state not in ("installed", "to upgrade"):
            wrong.append(f"{name} is {shown(known[name].state)}")
    if wrong:
        raise PreflightError(f"only installed modules can be upgraded. In {database}: {'; '.join(wrong)}")


def check_upgraded(wanted: Sequence[str], known: dict[str, Module], *, database: str) -> None:
    """Raise StepFailedError when a module is not installed after all: Odoo left it as it was, or half way."""
    left = [f"{name} is {known[name].state if name in known else 'gone'}" for name in wanted]
    left = [words for words in left if not words.endswith(" is installed")]
    if left:
        raise StepFailedError(f"Odoo ended well, but in {database} {'; '.join(left)}: read the log of upgrade_modules")
