"""What a database holds, as row counts and hashes that a restored copy must have as well."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar, cast

from psycopg import sql

from flows.backup.inventory import unquoted
from flows.backup.manifest import Contents, Rows
from flows.backup.postgres import Connection
from opsdb.errors import PreflightError
from opsdb.shown import shown

T = TypeVar("T")

OLDEST_SERVER = 12
_MODULUS = 2**64
_PIECE_BYTES = 256 * 1024
_SHOWN = 3  # differences in one message

# A value's text form depends on these. UTF8 and not the database's own encoding: only the text of it is hashed.
_PINNED = {
    "search_path": "",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "xmloption": "content",
    "lc_monetary": "C",
    "row_security": "off",
    "jit": "off",
}

# What pg_dump writes rows of: no foreign tables, no materialized views (a restore computes them anew), and no tables
# that belong to an extension. A partition counts for the table it is a part of: a restore may sort rows anew.
# Columns by name: a restored child of an inherited table may have another order. Generated ones are not dumped.
_TABLES = """
SELECT n.nspname, c.relname, format('%%I.%%I', rn.nspname, root.relname),
       (SELECT coalesce(array_agg(attname::text ORDER BY attname), '{}') FROM pg_catalog.pg_attribute
        WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = '')
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_class root ON root.oid = coalesce(pg_catalog.pg_partition_root(c.oid), c.oid)
JOIN pg_catalog.pg_namespace rn ON rn.oid = root.relnamespace
WHERE c.relkind = %s AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend
                  WHERE classid = 'pg_catalog.pg_class'::regclass AND objid = c.oid AND deptype = 'e')
ORDER BY 3, 1, 2
"""
_SUM = """
SELECT count(*), sum(pg_catalog.hashtextextended(ROW({row})::pg_catalog.text COLLATE pg_catalog."C", 0))
FROM ONLY {table} AS t
"""
_LARGE_OBJECTS = f"""
WITH RECURSIVE piece(id, number, size, text) AS (
    SELECT o.oid, 0::bigint, read.size, read.text FROM pg_catalog.pg_largeobject_metadata o CROSS JOIN LATERAL (
        SELECT length(data) AS size, concat_ws(':', o.oid, 0, md5(data)) AS text
        FROM (SELECT pg_catalog.lo_get(o.oid, 0, {_PIECE_BYTES}) AS data OFFSET 0) one) read
    UNION ALL
    SELECT id, number + 1, read.size, read.text FROM piece CROSS JOIN LATERAL (
        SELECT length(data) AS size, concat_ws(':', id, number + 1, md5(data)) AS text
        FROM (SELECT pg_catalog.lo_get(id, (number + 1) * {_PIECE_BYTES}, {_PIECE_BYTES}) AS data OFFSET 0) one) read
    WHERE piece.size = {_PIECE_BYTES}
)
SELECT count(*) FILTER (WHERE number = 0), sum(pg_catalog.hashtextextended(text COLLATE pg_catalog."C", 0)) FROM piece
"""  # noqa: S608 - a constant


def check_server(db: Connection) -> None:
    """The server is new enough for the queries here. Raises PreflightError."""
    if db.info.server_version < OLDEST_SERVER * 10000:
        raise PreflightError(
            f"the server is PostgreSQL {db.info.server_version // 10000}: its rows can be hashed from version "
            f"{OLDEST_SERVER} on. Upgrade it"
        )


def pin_settings(db: Connection, *, statement_seconds: float) -> None:
    """Make texts the same on each server, and let each statement take that long."""
    limits = {
        "statement_timeout": str(int(statement_seconds * 1000)),
        "lock_timeout": "120s",
        "idle_in_transaction_session_timeout": "0",
    }
    if db.info.server_version >= 140000:  # else a query goes on for a while after this process was killed
        limits["client_connection_check_interval"] = "2s"
    if db.info.server_version >= 170000:
        limits["transaction_timeout"] = "0"
    for name, value in (_PINNED | limits).items():
        db.execute("SELECT pg_catalog.set_config(%s, %s, false)", (name, value))
    db.execute("SET client_encoding = 'UTF8'")


def lock_tables(db: Connection) -> None:
    """Keep every table from being emptied, changed or dropped until the transaction ends; rows may change."""
    names = [sql.Identifier(str(schema), str(table)) for schema, table, *_ in db.execute(_TABLES, ("r",)).fetchall()]
    if names:
        db.execute(sql.SQL("LOCK TABLE ONLY {} IN ACCESS SHARE MODE").format(sql.SQL(", ONLY ").join(names)))


def read_sequences(db: Connection) -> dict[str, tuple[int, bool]]:
    """The last value of each sequence, and whether it was given out."""
    found = {}
    for schema, name, label, _ in db.execute(_TABLES, ("S",)).fetchall():
        query = sql.SQL("SELECT last_value, is_called FROM {}").format(sql.Identifier(str(schema), str(name)))
        row = db.execute(query).fetchone()
        if row:
            found[str(label)] = (int(str(row[0])), bool(row[1]))
    return found


def read_tables(db: Connection) -> dict[str, Rows]:
    """Count and hash the rows of every table. The server reads each row once and keeps none."""
    found: dict[str, Rows] = {}
    for schema, table, label, columns in db.execute(_TABLES, ("r",)).fetchall():
        names = [sql.Identifier("t", str(column)) for column in cast("list[str]", columns)]
        query = sql.SQL(_SUM).format(row=sql.SQL(", ").join(names), table=sql.Identifier(str(schema), str(table)))
        part = _rows(db.execute(query).fetchone())
        found[str(label)] = _together(found[str(label)], part) if str(label) in found else part
    return found


def read_large_objects(db: Connection) -> Rows:
    """Count and hash the large objects, a piece at a time."""
    return _rows(db.execute(_LARGE_OBJECTS.encode()).fetchone())


def differences(expected: Contents, db: Connection) -> list[str]:
    """What the database behind `db` holds otherwise than expected: a phrase for each thing."""
    tables, found = _unquoted(expected.tables), _unquoted(read_tables(db))
    wrong = [f"table {name} is missing" for name in tables.keys() - found.keys()]
    wrong += [f"table {name} is there as well" for name in found.keys() - tables.keys()]
    for name in tables.keys() & found.keys():
        want, have = tables[name], found[name]
        if want.rows != have.rows:
            wrong.append(f"table {name} has {have.rows} rows instead of {want.rows}")
        elif want != have:
            wrong.append(f"table {name} has other contents in its {want.rows} rows")
    values, sequences = _unquoted(expected.sequences), _unquoted(read_sequences(db))
    for name in values.keys() | sequences.keys():
        value = values.get(name)
        if value is None or name not in sequences or not value.allows(sequences[name]):
            stands = sequences[name][0] if name in sequences else "nowhere"
            wrong.append(f"sequence {name} stands at {stands} instead of {value.after[0] if value else 'nowhere'}")
    large_objects = read_large_objects(db)
    if large_objects != expected.large_objects:
        wrong.append(f"the {large_objects.rows} large objects are not the {expected.large_objects.rows} of then")
    return sorted(wrong)


def summary(wrong: list[str]) -> str:
    """The first differences, for a message."""
    more = f", and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    return ", ".join(map(shown, wrong[:_SHOWN])) + more


def _unquoted(found: Mapping[str, T]) -> dict[str, T]:
    return {unquoted(name): value for name, value in found.items()}


def _rows(row: tuple[object, ...] | None) -> Rows:
    count, total = row or (0, None)
    return Rows(rows=int(str(count)), hash=f"{int(str(total or 0)) % _MODULUS:016x}")


def _together(one: Rows, other: Rows) -> Rows:
    return Rows(rows=one.rows + other.rows, hash=f"{(int(one.hash, 16) + int(other.hash, 16)) % _MODULUS:016x}")
