"""What an Odoo database says of its modules."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psycopg

from flows.backup.database import Database
from flows.backup.postgres import Connection
from opsdb.database import first_line
from opsdb.errors import PreflightError, StepFailedError
from opsdb.near_names import near_name
from opsdb.shown import shown

MARKS = ("to install", "to upgrade", "to remove")
"""The states of modules that the next Odoo to load the database changes."""
_SHOWN = 20
_UNLIKE_ODOO = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.InsufficientPrivilege,
)


@dataclass(frozen=True, slots=True)
class Module:
    """A module of one database. `version` is None while it was never installed."""

    state: str
    version: str | None


def read_modules(database: str, *, url: str) -> dict[str, Module]:
    """All modules that the database knows, by name. Raises PreflightError for one that is not Odoo's."""
    with Database(database, url).reading() as db:
        try:
            return read_modules_of(db)
        except _UNLIKE_ODOO as error:
            raise PreflightError(f"{database} shows no Odoo modules: {first_line(error)}") from None


def read_modules_of(db: Connection) -> dict[str, Module]:
    """The same, in an open transaction."""
    rows = db.execute("SELECT name, state, latest_version FROM public.ir_module_module").fetchall()
    return {str(name): Module(str(state), str(version) if version else None) for name, state, version in rows}


def read_uuid(database: str, *, url: str) -> str | None:
    """How Odoo distinguishes databases, or None where it does not say. Raises PreflightError."""
    with Database(database, url).reading() as db:
        try:
            row = db.execute("SELECT value FROM public.ir_config_parameter WHERE key = 'database.uuid'").fetchone()
        except _UNLIKE_ODOO:
            return None
    return str(row[0]) if row and row[0] else None


def check_same(database: str, uuid: str | None, said: str) -> None:
    """Raise StepFailedError when what Odoo's shell `said` of its database is not what was read of ours."""
    found = re.search(r"^database: (\S+)$", said, re.MULTILINE)
    if uuid is not None and (found is None or found[1] != uuid):
        raise StepFailedError(
            f"Odoo works with another database {database}: its database.uuid is {found[1] if found else 'unknown'}, "
            f"and where OPS_ODOO_DATABASE_URL leads it is {uuid}. Hint: let OPS_ODOO_DATABASE_URL lead to the "
            "PostgreSQL of Odoo's container"
        )


def check_unmarked(known: Mapping[str, Module], *, database: str) -> None:
    """Raise PreflightError when modules stand `to ...`: an upgrade carries out whatever is marked."""
    if marked := name_marked(known):
        raise PreflightError(
            f"modules of {database} are marked already, and an upgrade would carry that out as well: {marked}. Hint: "
            "in Odoo, under Apps, cancel it or apply it. Where an upgrade of the room was killed, `ops retry` of that "
            "run puts them back"
        )


def check_upgradable(wanted: Sequence[str], known: Mapping[str, Module], *, database: str) -> None:
    """Raise PreflightError unless all modules are installed: Odoo skips others without a word, and exits with 0."""
    wrong = []
    for name in wanted:
        if name not in known:
            near = near_name(name, known)
            meant = f", did you mean {shown(near)}?" if near else ""
            wrong.append(f"{name} is unknown{meant}")
        elif known[name].state != "installed":
            wrong.append(f"{name} is {shown(known[name].state)}")
    if wrong:
        raise PreflightError(f"only installed modules can be upgraded. In {database}: {'; '.join(wrong)}")


def check_upgraded(wanted: Sequence[str], known: Mapping[str, Module], *, database: str) -> None:
    """Raise StepFailedError when a module is not installed after all, or any is left half way: Odoo exits with 0."""
    left = [f"{name} is {known[name].state if name in known else 'gone'}" for name in wanted]
    left = [words for words in left if not words.endswith((" is installed", *MARKS))]
    if marked := name_marked(known):
        left.insert(0, marked)
    if left:
        raise StepFailedError(
            f"Odoo exited with 0, but in {database} {'; '.join(left)}. Hint: read the log of upgrade_modules; often "
            "the code of a module or of what it needs is missing"
        )


def check_versions(wanted: Sequence[str], known: Mapping[str, Module], said: str) -> None:
    """Raise StepFailedError unless each module has the version that Odoo `said` its code has."""
    of_code = dict(re.findall(r"^code: (\S+) (\S+)$", said, re.MULTILINE))
    wrong = [
        f"{name} is at {known[name].version}, and its code at {of_code.get(name, 'no known version')}"
        for name in wanted
        if known[name].version != of_code.get(name)
    ]
    if wrong:
        raise StepFailedError(
            f"Odoo exited with 0 and did not upgrade: {'; '.join(wrong)}: read the log of upgrade_modules"
        )


def check_not_lowered(wanted: Sequence[str], known: Mapping[str, Module], before: Mapping[str, str | None]) -> None:
    """Raise StepFailedError when a module has a lower version than `before`: no migration leads back."""
    lower = [
        f"{name} from {before[name]} to {known[name].version}"
        for name in wanted
        if _numbers(known[name].version) < _numbers(before.get(name))
    ]
    if lower:
        raise StepFailedError(
            f"the code is older than the database: {', '.join(lower)}. Odoo has no migrations for that. Hint: name a "
            "newer git_ref; `ops rollback` takes an upgrade back with its database"
        )


def versions_of(known: Mapping[str, Module]) -> dict[str, str | None]:
    """The versions of the modules that are installed."""
    return {name: module.version for name, module in sorted(known.items()) if module.state == "installed"}


def changed(before: Mapping[str, str | None], known: Mapping[str, Module]) -> dict[str, dict[str, str | None]]:
    """The installed modules whose version is another than `before`: `{name: {"before": ..., "after": ...}}`."""
    return {
        name: {"before": before.get(name), "after": module.version}
        for name, module in sorted(known.items())
        if module.state == "installed" and module.version != before.get(name)
    }


def name_marked(known: Mapping[str, Module]) -> str:
    """The modules that stand `to ...`, as a phrase; empty where none does."""
    found = [f"{shown(name)} is {module.state}" for name, module in sorted(known.items()) if module.state in MARKS]
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return "; ".join(found[:_SHOWN]) + more


def _numbers(version: str | None) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version or "")]
