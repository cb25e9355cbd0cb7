"""What must be true before a database is dumped. Each check raises PreflightError with what to do about it."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from flows.backup.files import Backup
from flows.backup.manifest import Locale
from flows.backup.postgres import Database, connect
from opsdb.errors import PreflightError

MARGIN_BYTES = 64 * 1024 * 1024
_SHOWN = 20  # names in one message
_OWN_SCHEMAS = "nspname !~ '^pg_' AND nspname <> 'information_schema'"


def connect_to(database: str, *, url: str) -> Database:
    """Connect to the database that is to be dumped; names those that exist when it does not."""
    try:
        db = connect(url, database=database)
    except PreflightError as error:
        existing = _databases(url)
        if existing is None or database in existing:
            raise
        close = get_close_matches(database, existing)
        listed = [*close, *(name for name in existing if name not in close)]
        shown = ", ".join(listed[:_SHOWN]) or "none"
        raise PreflightError(f"there is no database {database!r}; there are: {shown}") from error
    db.execute("SET search_path = pg_catalog")  # hostile functions may lie in other schemas
    db.execute("SET statement_timeout = '30s'")
    db.execute("SET DateStyle = 'ISO, YMD'")  # the database may have one that Python cannot read
    return db


def check_readable(db: Database) -> None:
    """The role sees every row of every table, as pg_dump needs."""
    role = db.info.user
    hidden = _names(
        db,
        f"""SELECT format('%I.%I', nspname, relname)
            FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
            WHERE relkind IN ('r', 'p', 'S') AND {_OWN_SCHEMAS}
              AND NOT (has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'))
            ORDER BY 1""",  # noqa: S608 - a constant
    )
    if hidden:
        raise PreflightError(f"role {role!r} may not read {hidden}: GRANT pg_read_all_data TO {role}")
    # pg_dump switches row security off, which is an error where it applies. --enable-row-security would leave out
    # rows and exit with 0: it is never passed.
    db.execute("SET row_security = on")
    limited = _names(
        db,
        f"""SELECT format('%I.%I', nspname, relname)
            FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
            WHERE relkind IN ('r', 'p') AND {_OWN_SCHEMAS} AND row_security_active(c.oid)
            ORDER BY 1""",  # noqa: S608 - a constant
    )
    if limited:
        raise PreflightError(
            f"row-level security hides rows of {limited} from role {role!r}: ALTER ROLE {role} BYPASSRLS, "
            "or dump as the tables' owner"
        )


def estimate_bytes(db: Database, previous: list[Backup]) -> int:
    """What the dump may need: the tables without their indexes, or half more than the last good dump if that is less.

    A guess that is too low costs a failed run and nothing else; one that is too high would refuse a good one.
    """
    row = db.execute("SELECT coalesce(sum(pg_table_size(oid)), 0)::bigint FROM pg_class WHERE relkind = 'r'").fetchone()
    tables = int(str(row[0])) if row else 0
    verified = [backup.size_bytes for backup in previous if backup.verified]
    return min(tables, verified[-1] * 3 // 2) if verified else tables


def database_bytes(db: Database) -> int:
    """The disk that the connected database takes, as far as this role may know."""
    row = db.execute(
        "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class WHERE relkind IN ('r', 'm')"
    )
    found = row.fetchone()
    return int(str(found[0])) if found else 0


def locale_of(db: Database) -> Locale:
    """The connected database's encoding and order of texts."""
    row = db.execute(
        """SELECT pg_encoding_to_char(encoding), coalesce(to_jsonb(d) ->> 'datlocprovider', 'c'), datcollate, datctype,
                  coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale')
           FROM pg_database d WHERE datname = current_database()"""
    ).fetchone()
    encoding, provider, collate, ctype, locale = row or ("UTF8", "c", "C", "C", None)
    return Locale(
        encoding=str(encoding),
        provider=str(provider),
        collate=str(collate),
        ctype=str(ctype),
        locale=None if locale is None else str(locale),
    )


def prepare_folder(folder: Path) -> None:
    """Make the folder, closed to others, unless it is there."""
    try:
        for one in reversed([folder, *folder.parents]):
            if not one.exists():
                one.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise PreflightError(f"cannot make the backup folder {folder}: {error.strerror}") from error
    if not folder.is_dir():
        raise PreflightError(f"the backup folder {folder} is not a folder")
    if folder.stat().st_mode & stat.S_IWOTH:
        raise PreflightError(f"everybody may write to the backup folder {folder}: chmod o-w it, or choose another")


def check_space(folder: Path, needed_bytes: Mapping[str, int]) -> None:
    """The folder has room for all that is needed, by what needs it, and a margin."""
    free = shutil.disk_usage(folder).free
    if free < sum(needed_bytes.values()) + MARGIN_BYTES:
        needed = ", ".join(f"{what} may need {megabytes(size)}" for what, size in needed_bytes.items() if size)
        raise PreflightError(
            f"{folder} has {megabytes(free)} free, {needed} and {megabytes(MARGIN_BYTES)} must stay: "
            "make room, or choose another folder"
        )


def _databases(url: str) -> list[str] | None:
    """The databases that can be dumped, or None when the server does not tell."""
    try:
        with connect(url) as db:
            rows = db.execute(
                "SELECT datname FROM pg_catalog.pg_database"
                " WHERE datallowconn AND NOT datistemplate AND datname <> 'postgres' ORDER BY 1"
            ).fetchall()
    except PreflightError:
        return None
    return [str(name) for (name,) in rows]


def _names(db: Database, query: str) -> str:
    names = [str(row[0]) for row in db.execute(query.encode()).fetchall()]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def megabytes(size: int) -> str:
    """A size for people."""
    return f"{size / 1_000_000:,.0f} MB"
