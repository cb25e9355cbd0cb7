"""Filters by name: an unknown name is an error that suggests a similar one, not an empty list."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from opsdb.errors import RoomUnreachableError, UsageError
from opsdb.near_names import did_you_mean
from opsdb.runs.named import ABOUT

_CONNECT_SECONDS = 2
_LISTED = " Hint: `ops runs` lists runs with what they are about"

if TYPE_CHECKING:
    from opsdb.settings import Settings


def check_filters(
    settings: Settings, *, kind: str | None = None, session: str | None = None, about: str | None = None
) -> None:
    """Raise UsageError for the first filter with an unknown name. To be called when a list of runs is empty."""
    check_kind(kind, settings, what="--kind")
    if session is not None:
        from opsdb.runs.lookup import reading
        from opsdb.runs.sessions import check_session

        with reading(settings) as db:
            check_session(db, session, what="--session")
    if about is not None:
        check_about(about, settings, what="--for")


def check_kind(kind: str | None, settings: Settings, *, what: str) -> None:
    """Raise UsageError for a name of which no run is found and that never was a runbook of this room."""
    from opsdb.kinds.kind_names import read_kind_names

    names = read_kind_names(settings)
    if kind is not None and kind not in names.named and names.certain:
        known = sorted(names.here)
        raise UsageError(f"{what}: no runbook {kind[:60]!r}.{did_you_mean(kind, known)} There are: {', '.join(known)}")


def check_about(name: str, settings: Settings, *, what: str, also: Iterable[str] = ()) -> None:
    """Raise UsageError for a name that is neither a database of the server nor the subject of any run.

    `also` are other names that exist, to be offered. Nothing is raised where the record of runs cannot be asked: then
    nobody can say.
    """
    from flows.backup.odoo_databases import find_odoo_databases
    from opsdb.runs.lookup import reading
    from opsdb.runs.selection import any_run_concerns

    try:
        with reading(settings) as db:
            if any_run_concerns(db, name):
                return
            known = {str(word) for word, _ in db.exec_driver_sql(ABOUT)}
    except RoomUnreachableError:
        return
    there = server_databases(settings)
    if name in there:
        return
    server = "no database of the server has that name" if there else "the database server did not answer"
    meant = did_you_mean(name, known.union(find_odoo_databases(settings.odoo_url) or (), also))
    raise UsageError(f"{what}: {name[:70]!r} is not known: no run is about it, and {server}.{meant or _LISTED}")


def server_databases(settings: Settings) -> list[str]:
    """All databases of the server of the Odoo databases; none where it does not answer."""
    import psycopg

    from flows.backup.postgres import connect
    from opsdb.errors import PreflightError

    try:
        with connect(settings.odoo_url, connect_seconds=_CONNECT_SECONDS) as server:
            rows = server.execute("SELECT datname FROM pg_catalog.pg_database WHERE NOT datistemplate").fetchall()
    except (PreflightError, psycopg.Error):
        return []
    return [str(name) for (name,) in rows]
