"""What a database holds, as row counts and hashes that a restored copy must have as well."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TypeVar, cast

from flows.backup.inventory import GoneError, unquoted
from flows.backup.manifest import Contents, Rows
from flows.backup.postgres import Connection
from opsdb.errors import PreflightError
from opsdb.shown import shown

T = TypeVar("T")

OLDEST_SERVER = 12
LARGE_OBJECTS = "large objects"
"""How what was not counted is named, if it is these."""
_MODULUS = 2**64
_PIECE_BYTES = 256 * 1024
_SHOWN = 3  # differences in one message

# What pg_dump writes rows of: no foreign tables, no materialized views (a restore computes them again), and no tables
# that belong to an extension. A partition counts for the table it is a part of: a restore may sort rows into others.
# Columns by name: a restored child of an inherited table may have another order. Generated ones are not dumped.
# Names go no further than the server: it writes the statements, in its own encoding.
_TABLES = """
SELECT format('%I.%I', rn.nspname, root.relname), c.oid,
  convert_to(format('ONLY %I.%I', n.nspname, c.relname), getdatabaseencoding()),
  CASE WHEN NOT (c.relpersistence = 'u' AND pg_is_in_recovery()) THEN convert_to(format(
    'SELECT pg_relation_filenode(%s) = %s, count(*), sum(hashtextextended(ROW(%s)::text COLLATE "C", 0))'
    ' FROM ONLY %I.%I AS t', c.oid, c.relfilenode,
    (SELECT string_agg(format('t.%I', attname), ', ' ORDER BY attname::text COLLATE "C") FROM pg_attribute
     WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = ''),
    n.nspname, c.relname), getdatabaseencoding()) END
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class root ON root.oid = coalesce(pg_partition_root(c.oid), c.oid)
JOIN pg_namespace rn ON rn.oid = root.relnamespace
WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e')
ORDER BY 1, n.nspname, c.relname
"""
_SEQUENCES = """
SELECT format('%I.%I', n.nspname, c.relname),
  convert_to(format('SELECT last_value, is_called FROM %I.%I', n.nspname, c.relname), getdatabaseencoding())
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'S' AND n.nspname !~ '^pg_'
  AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e')
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


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose rows pg_dump writes."""

    label: str
    """Its name, or that of the table whose partition it is."""
    oid: int
    lock: bytes
    """How a LOCK statement names it."""
    count: bytes | None
    """The statement that counts and hashes its rows; None on a standby that has none of them."""


def list_tables(db: Connection) -> list[Table]:
    """All tables in the order of their names. `db` has the settings of pin_settings()."""
    rows = db.execute(_TABLES.encode()).fetchall()
    return [
        Table(str(label), cast("int", oid), cast("bytes", lock), cast("bytes | None", count))
        for label, oid, lock, count in rows
    ]


def lock_statement(tables: list[Table]) -> bytes:
    """Keeps tables from being emptied, changed or dropped until the transaction ends; rows may change."""
    return b"LOCK TABLE " + b", ".join(table.lock for table in tables) + b" IN ACCESS SHARE MODE NOWAIT"


def read_rows(db: Connection, table: Table) -> Rows:
    """Count and hash the rows of a table. The server reads each once and keeps none.

    Its indexes, which each query locks, are let go of afterwards. Raises GoneError where it was emptied or rewritten
    since the snapshot, which sees none of its rows any more.
    """
    if table.count is None:
        return _rows(None)
    with db.transaction(force_rollback=True):
        row = db.execute(table.count).fetchone()
    if row is None or not row[0]:
        raise GoneError("it was emptied or rewritten since the snapshot, and earlier rows may be missing in the dump")
    return _rows(row[1:])


def add_rows(found: dict[str, Rows], label: str, part: Rows) -> None:
    """The rows of one more table of this name, or of a partition."""
    found[label] = _together(found[label], part) if label in found else part


def read_sequences(db: Connection) -> dict[str, tuple[int, bool]]:
    """The last value of each sequence, and whether it was given out."""
    found = {}
    for label, query in db.execute(_SEQUENCES.encode()).fetchall():
        row = db.execute(cast("bytes", query)).fetchone()
        if row:
            found[str(label)] = (int(str(row[0])), bool(row[1]))
    return found


def read_tables(db: Connection, *, without: Collection[str] = ()) -> dict[str, Rows | None]:
    """Count and hash the rows of every table; None of those whose rows are not read."""
    found: dict[str, Rows] = {}
    tables = list_tables(db)
    for table in tables:
        if unquoted(table.label) not in without:
            add_rows(found, table.label, read_rows(db, table))
    return {table.label: found.get(table.label) for table in tables}


def read_large_objects(db: Connection) -> Rows:
    """Count and hash the large objects, a piece at a time."""
    with db.transaction(force_rollback=True):
        return _rows(db.execute(_LARGE_OBJECTS.encode()).fetchone())


def differences(expected: Contents, db: Connection) -> list[str]:
    """What the database behind `db` holds otherwise than expected: a phrase for each thing."""
    uncounted = {unquoted(name) for name in expected.uncounted} - {LARGE_OBJECTS}
    tables, found = _unquoted(expected.tables), _unquoted(read_tables(db, without=uncounted))
    wrong = [f"table {name} is missing" for name in (tables.keys() | uncounted) - found.keys()]
    wrong += [f"table {name} is there as well" for name in found.keys() - tables.keys() - uncounted]
    for name in tables.keys() & found.keys():
        want, have = tables[name], found[name]
        if have is None:
            continue
        if want.rows != have.rows:
            wrong.append(f"table {name} has {have.rows} rows instead of {want.rows}")
        elif want != have:
            wrong.append(f"table {name} has other contents in its {want.rows} rows")
    values, sequences = _unquoted(expected.sequences), _unquoted(read_sequences(db))
    for name, value in values.items():
        if name not in sequences or not value.allows(sequences[name]):
            stands = sequences[name][0] if name in sequences else "nowhere"
            wrong.append(f"sequence {name} stands at {stands} instead of {value.after[0]}")
    if expected.large_objects is not None and (large := read_large_objects(db)) != expected.large_objects:
        wrong.append(f"the {large.rows} large objects are not the {expected.large_objects.rows} of that time")
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
