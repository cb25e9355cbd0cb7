"""The database that is backed up: how it is reached, and what must be true of it before."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import cast

import psycopg

from flows.backup.contents import check_server
from flows.backup.filestore import check_filestore, estimate_filestore
from flows.backup.loading import prove_loading
from flows.backup.manifest import Locale, Manifest
from flows.backup.odoo_databases import find_odoo_databases
from flows.backup.postgres import Access, Connection, access_of, connect, connect_quietly, find_neighbour
from flows.backup.programs import major_of
from flows.backup.repository import Backup
from opsdb.errors import PreflightError, UnknownDatabaseError
from opsdb.near_names import did_you_mean
from opsdb.settings import Settings
from opsdb.shown import shown

FILESTORE = "the filestore"
"""How its archive is called among what needs room; it is hardly smaller than its files."""
_SHOWN = 20  # names in one message
_DUMPED = """nspname !~ '^pg_' AND nspname <> 'information_schema' AND NOT EXISTS (
    SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e')"""


@dataclass(frozen=True, slots=True)
class Database:
    """An Odoo database on the server of a URL."""

    name: str
    url: str = field(repr=False)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Connected to it, in a transaction that only reads. Raises PreflightError as connect() does.

        No setting outlives the transaction: behind a pooler the connection serves somebody else next.
        """
        with self.connect() as db:
            db.execute("BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY NOT DEFERRABLE")
            db.execute("SET LOCAL search_path = pg_catalog")  # hostile functions may lie in other schemas
            db.execute("SET LOCAL statement_timeout = '30s'")
            db.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            if db.info.server_version >= 170000:
                db.execute("SET LOCAL transaction_timeout = 0")
            db.execute("SET LOCAL DateStyle = 'ISO, YMD'")  # the database may have one that Python cannot read
            yield db
            db.rollback()

    def connect(self) -> Connection:
        """Connect to it. Raises PreflightError, UnknownDatabaseError when there is none, which one that allows no
        connections is not. The latter names those with Odoo's tables, or all where none has them.
        """
        try:
            return connect_quietly(self.url, database=self.name)
        except PreflightError as error:
            found = _databases(self.url)
            if found is None:
                raise
            if sql_name := found.closed.get(self.name):
                opening = f"ALTER DATABASE {shown(sql_name)} ALLOW_CONNECTIONS true"
                raise PreflightError(f"database {self.name!r} allows no connections: {opening}") from error
            if self.name in found.open:
                raise
            listed = find_odoo_databases(self.url) or found.open
            names = (", ".join(map(shown, listed[:_SHOWN])) or "none") + " and more" * (len(listed) > _SHOWN)
            meant = did_you_mean(self.name, found.open)
            raise UnknownDatabaseError(f"there is no database {self.name!r}.{meant} There are: {names}") from error


@dataclass(frozen=True, slots=True)
class Source:
    """A database that can be dumped, and what a backup of it needs to know."""

    database: Database
    access: Access
    filestore: Path | None
    """The folder with its attachments, where filestores are configured."""
    size_bytes: int
    """The disk that it takes, as far as its role may know."""
    tables_bytes: int
    """The same without indexes."""
    locale: Locale
    neighbour: str
    """A database of its server, to ask for what belongs to all."""
    clock: Callable[[], datetime]
    """The server's time: hosts that back up one database agree on the order of its backups."""
    last: Manifest | None = None
    """Of its last good backup in the folder, by which this one says how far it is."""
    needed: Mapping[str, int] = field(default_factory=dict)
    """What needed_bytes() found in its preflight."""

    def needed_bytes(self, earlier: list[Backup], folder: Path) -> dict[str, int]:
        """What its dump and its filestore's archive may need on disk in a folder of backups, by what earlier ones took.

        A guess that is too low costs a failed run and nothing else; one that is too high would refuse a good one.
        """
        good = [one.manifest for one in earlier if one.verified and one.manifest]
        dump = min(self.tables_bytes, good[-1].size_bytes * 3 // 2) if good else self.tables_bytes
        return {"the dump": dump, FILESTORE: estimate_filestore(self.filestore, good, folder)}


def check_source(database: Database, settings: Settings) -> Source:
    """All that must be true of a database before it is dumped. Raises PreflightError."""
    filestore = check_filestore(settings, database.name)
    with database.reading() as db:
        access = access_of(db, settings.pg_bin)
        check_server(db)
        check_readable(db)
        if access.encrypted or access.programs.major != major_of(access.server_version):
            prove_loading(access)
        row, asked = _row(db, "SELECT clock_timestamp()"), time.monotonic()
        return Source(
            database=database,
            access=access,
            filestore=filestore,
            size_bytes=_bytes(db, "pg_total_relation_size", "'r', 'm'"),
            tables_bytes=_bytes(db, "pg_table_size", "'r'"),
            locale=_locale(db),
            neighbour=find_neighbour(database.url, database.name).name,
            clock=lambda: cast("datetime", row[0]) + timedelta(seconds=time.monotonic() - asked),
        )


def check_readable(db: Connection) -> None:
    """The role sees every row of every table, as pg_dump needs."""
    role = shown(db.info.user)
    hidden = _names(
        db,
        f"""SELECT format('%I.%I', nspname, relname)
            FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
            WHERE relkind IN ('r', 'p', 'S') AND {_DUMPED}
              AND NOT (has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'))
            ORDER BY 1""",  # noqa: S608 - a constant
    )
    if hidden:
        raise PreflightError(f"role {role!r} may not read {hidden}: GRANT pg_read_all_data TO {role}")
    # pg_dump switches row security off, which is an error where it applies. --enable-row-security would leave out
    # rows and exit with 0: it is never passed.
    db.execute("SET LOCAL row_security = on")
    limited = _names(
        db,
        f"""SELECT format('%I.%I', nspname, relname)
            FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
            WHERE relkind IN ('r', 'p') AND {_DUMPED} AND row_security_active(c.oid)
            ORDER BY 1""",  # noqa: S608 - a constant
    )
    if limited:
        raise PreflightError(
            f"row-level security hides rows of {limited} from role {role!r}: ALTER ROLE {role} BYPASSRLS, "
            "or dump as the tables' owner"
        )


def _bytes(db: Connection, measured_by: str, kinds: str) -> int:
    """Who holds one of the tables alone is not waited for: then it is the size of the whole database."""
    query = f"SELECT coalesce(sum({measured_by}(oid)), 0)::bigint FROM pg_class WHERE relkind IN ({kinds})"  # noqa: S608 - constants
    try:
        with db.transaction():
            db.execute("SET LOCAL lock_timeout = '200ms'")
            row = _row(db, query)
    except psycopg.errors.LockNotAvailable:
        row = _row(db, "SELECT pg_database_size(current_database())")
    return int(str(row[0]))


def _locale(db: Connection) -> Locale:
    """Its encoding and order of texts."""
    encoding, provider, collate, ctype, locale = _row(
        db,
        """SELECT pg_encoding_to_char(encoding), coalesce(to_jsonb(d) ->> 'datlocprovider', 'c'), datcollate, datctype,
                  coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale')
           FROM pg_database d WHERE datname = current_database()""",
    )
    return Locale(
        encoding=str(encoding),
        provider=str(provider),
        collate=str(collate),
        ctype=str(ctype),
        locale=None if locale is None else str(locale),
    )


def _row(db: Connection, query: str) -> tuple[object, ...]:
    """The only row of a query that has one."""
    row = db.execute(query.encode()).fetchone()
    if row is None:
        raise PreflightError(f"the server answered with no row: {query}")
    return row


@dataclass(frozen=True, slots=True)
class _Databases:
    """The databases of a server."""

    open: list[str]
    """Those that can be dumped."""
    closed: dict[str, str]
    """Those that allow no connections, with their names as SQL has them."""


def _databases(url: str) -> _Databases | None:
    """The databases of the server, or None when it does not tell."""
    try:
        with connect(url) as db:
            rows = db.execute(
                "SELECT datname, pg_catalog.format('%I', datname), datallowconn, datistemplate"
                " FROM pg_catalog.pg_database ORDER BY 1"
            ).fetchall()
    except PreflightError:
        return None
    return _Databases(
        open=[str(name) for name, _, allows, template in rows if allows and not template and name != "postgres"],
        closed={str(name): str(sql_name) for name, sql_name, allows, _ in rows if not allows},
    )


def _names(db: Connection, query: str) -> str:
    names = [shown(str(row[0])) for row in db.execute(query.encode()).fetchall()]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
