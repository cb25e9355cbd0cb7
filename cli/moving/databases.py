"""The room's two databases: snapshots taken together, dumps proven, and how they are loaded and put aside."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, cast

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from blocks.inherited import inherited
from flows.backup.postgres import Access, Connection, access_of, connect, find_neighbour
from opsdb.database import driver_url
from opsdb.errors import OpsError
from opsdb.migrate import create_database
from opsdb.schema import SCHEMA
from opsdb.settings import Settings

URL_VARIABLE = "OPS_DATABASE_URL"
_DUMP = ("--format=custom", "--no-password", "--lock-wait-timeout=60s")
OPS_DUMP = (*_DUMP, f"--schema={SCHEMA}")
PREFECT_DUMP = (*_DUMP, f"--exclude-schema={SCHEMA}", "--no-owner", "--no-privileges")
"""Prefect's tables belong to whoever the room is there, and the room closes that database itself."""
_HOLDS = {
    "ops": f"SELECT to_regnamespace('{SCHEMA}') IS NOT NULL",
    "prefect": "SELECT to_regclass('public.flow_run') IS NOT NULL",
}

_EXPORT = "SELECT pg_export_snapshot(), clock_timestamp()"
# The tables of the schema, or of all others: what stands beside the room in its database is not dumped with it.
_SIZE = """
SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND (n.nspname = %s) = %s
      AND n.nspname <> 'information_schema' AND NOT starts_with(n.nspname, 'pg_')
"""


@dataclass(frozen=True)
class Snapshot:
    """A database as it was at one moment, for as long as its transaction is open."""

    db: Connection
    access: Access
    id: str
    taken_at: datetime
    table_bytes: int
    """What the tables that are dumped take on disk, with their indexes."""


def connected(settings: Settings, database: str) -> Connection:
    """A connection to a database of the room's server, in autocommit, with the server's own names alone."""
    db = connect(settings.ops_url, database=database, variable=URL_VARIABLE)
    db.execute("SELECT set_config('search_path', 'pg_catalog', false), set_config('statement_timeout', '0', false)")
    return db


def ops_database(settings: Settings) -> str:
    """The name of the database with the record."""
    return str(conninfo_to_dict(settings.ops_url)["dbname"])


@contextmanager
def snapshots(settings: Settings) -> Iterator[tuple[Snapshot, Snapshot]]:
    """The record's, and right after it Prefect's: what Prefect knows and the record does not, the sync repeats."""
    with connected(settings, ops_database(settings)) as ops, connected(settings, settings.prefect_database) as prefect:
        for db in (ops, prefect):
            db.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            db.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        taken = [(db, db.execute(_EXPORT).fetchone()) for db in (ops, prefect)]  # what takes longer comes after both
        sizes = [db.execute(_SIZE, [SCHEMA, of_room]).fetchone() for db, of_room in ((ops, True), (prefect, False))]
        ops_snapshot, prefect_snapshot = [
            _snapshot(db, (*row, *bytes_), settings)
            for (db, row), bytes_ in zip(taken, sizes, strict=True)
            if row and bytes_
        ]
        yield ops_snapshot, prefect_snapshot


def dump(snapshot: Snapshot, options: Sequence[str], to: IO[bytes]) -> None:
    """Write a dump of a snapshot into an open file, and read all of it again. Raises OpsError."""
    programs, variables = snapshot.access.programs, snapshot.access
    with variables.environment() as env:
        _run([str(programs.pg_dump), *options, f"--snapshot={snapshot.id}"], env, what="pg_dump", stdout=to.fileno())
    to.flush()
    read = [str(programs.pg_restore), "--file=/dev/null", f"/proc/self/fd/{to.fileno()}"]
    _run(read, {}, what="pg_restore, which reads the dump again,", pass_fds=[to.fileno()])


def holds(settings: Settings, part: str, database: str) -> bool:
    """Whether a database is there and has what a room puts into it. `part` is `ops` or `prefect`."""
    if not is_there(settings, database):
        return False
    with connected(settings, database) as db:
        row = db.execute(_HOLDS[part].encode()).fetchone()
        return bool(row and row[0])


def is_there(settings: Settings, database: str) -> bool:
    """Whether the server has a database of this name."""
    with connected(settings, maintenance(settings)) as db:
        return db.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database]).fetchone() is not None


def aside_database(name: str, stamp: str) -> str:
    """What a database is called once it is put aside."""
    return f"{name[:40]}_before_{stamp}"  # a name has 63 bytes


def put_aside(settings: Settings, database: str, new_name: str) -> None:
    """Rename a database, unless that was done, and end its connections. Raises OpsError."""
    with connected(settings, maintenance(settings)) as db:
        if db.execute("SELECT 1 FROM pg_database WHERE datname = %s", [new_name]).fetchone():
            return
        try:
            db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database])
            names = {"old": sql.Identifier(database), "new": sql.Identifier(new_name)}
            db.execute(sql.SQL("ALTER DATABASE {old} RENAME TO {new}").format(**names))
        except psycopg.Error as error:
            raise OpsError(
                f"the database {database} could not be put aside ({str(error).splitlines()[0]}). Hint: its owner with "
                "CREATEDB may rename it, while nobody is connected"
            ) from error


def load(settings: Settings, database: str, dump_file: Path, *, dumped_by: str, options: Sequence[str] = ()) -> None:
    """Load a dump in one transaction: the database has all of it, or nothing. It is made where it is missing."""
    create_database(_url(settings, maintenance(settings)), database)
    with connected(settings, database) as db:
        access = access_of(db, settings.pg_bin, dumped_by=dumped_by)
    command = [str(access.programs.pg_restore), "--exit-on-error", "--single-transaction", "--no-password"]
    with access.environment() as env:
        _run([*command, *options, f"--dbname={database}", str(dump_file)], env, what=f"loading {dump_file.name}")


def maintenance(settings: Settings) -> str:
    """A database of the server from which the others are made and renamed."""
    return "postgres" if settings.embedded else find_neighbour(settings.ops_url, ops_database(settings)).name


def _url(settings: Settings, database: str) -> str:
    return driver_url(settings.ops_url, database=database).render_as_string(hide_password=False)


def _snapshot(db: Connection, row: tuple[object, ...], settings: Settings) -> Snapshot:
    name, taken_at, table_bytes = cast("tuple[str, datetime, int]", row)
    return Snapshot(db, access_of(db, settings.pg_bin), name, taken_at, table_bytes)


def _run(
    command: list[str],
    env: dict[str, str],
    *,
    what: str,
    stdout: int = subprocess.DEVNULL,
    pass_fds: Sequence[int] = (),
) -> None:
    done = subprocess.run(
        command,
        env={**inherited(), **env},
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        pass_fds=pass_fds,
        check=False,
    )
    if done.returncode:
        said = "; ".join(done.stderr.strip().splitlines()[-2:]) or f"exit code {done.returncode}"
        raise OpsError(f"{what} failed: {said}")
