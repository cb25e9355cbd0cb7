"""What plain pg_dump manages, a backup manages: both dump each case, the copy is compared, and nobody waits longer."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from deployments.room.postgres import PROGRAMS, EmbeddedPostgres
from flows.odoo_db_backup import odoo_db_backup
from tests.integration.flows.backup.beside import backup, create, pg_dump, uncounted, working
from tests.support.postgres import running
from tests.support.tiers import in_gate, in_soak

_numbers = itertools.count()
gate = pytest.mark.gate


SETTINGS = {
    "client_encoding": "LATIN1",
    "quote_all_identifiers": "on",
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "sql_standard",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "standard_conforming_strings": "off",
    "default_transaction_read_only": "on",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "search_path": "shadow, pg_catalog",
    "row_security": "off",
    "statement_timeout": "1s",
    "lock_timeout": "1s",
    "idle_in_transaction_session_timeout": "100ms",
    "transaction_timeout": "1s",
    "xmloption": "document",
}

CASES = {
    "settings": [
        "CREATE SCHEMA shadow",
        "CREATE FUNCTION shadow.count(anyelement) RETURNS bigint LANGUAGE sql AS 'SELECT 7::bigint'",
        'CREATE TABLE price (id serial PRIMARY KEY, "Name" text, at date, cost float8, data bytea, lasts interval)',
        "INSERT INTO price VALUES (1, '10 €', '2026-02-01', 0.1::float8 + 0.2, '\\xff00', '1 day')",
        'CREATE VIEW dear AS SELECT "Name" FROM price WHERE cost > 9',
        *(f"ALTER DATABASE {{database}} SET {name} = '{value}'" for name, value in SETTINGS.items()),
    ],
    "sequences": [
        "CREATE SEQUENCE round MAXVALUE 3 CYCLE",
        "CREATE SEQUENCE back INCREMENT -5 START 100 MINVALUE -100 MAXVALUE 100",
        "CREATE UNLOGGED SEQUENCE quick",
        'CREATE SEQUENCE "Odd ""name"',
        "CREATE TABLE of_identity (id int GENERATED ALWAYS AS IDENTITY, other bigserial)",
        "SELECT nextval('round'), nextval('round'), nextval('back'), nextval('quick')",
    ],
    "unlogged": [
        "CREATE UNLOGGED TABLE cache (id serial PRIMARY KEY, text text)",
        "INSERT INTO cache (text) SELECT 'a' FROM generate_series(1, 1000)",
    ],
    "no columns": ["CREATE TABLE bare ()", "INSERT INTO bare DEFAULT VALUES", 'CREATE TABLE """" ("""" int)'],
    "partitions": [
        "CREATE TABLE day (at date NOT NULL, what text) PARTITION BY RANGE (at)",
        "CREATE TABLE day_1 PARTITION OF day FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')",
        "CREATE TABLE day_2 PARTITION OF day DEFAULT",
        "INSERT INTO day SELECT date '2026-01-01' + g, g FROM generate_series(1, 300) g",
        "CREATE TABLE parent (a int)",
        "CREATE TABLE child (b int) INHERITS (parent)",
        "INSERT INTO child VALUES (1, 2)",
    ],
    "login trigger": [
        "CREATE TABLE logins (at timestamptz DEFAULT clock_timestamp())",
        "CREATE FUNCTION note() RETURNS event_trigger LANGUAGE plpgsql AS "
        "$$ BEGIN IF NOT pg_is_in_recovery() THEN INSERT INTO logins DEFAULT VALUES; END IF; END $$",
        "CREATE EVENT TRIGGER noted ON login EXECUTE FUNCTION note()",
        "ALTER EVENT TRIGGER noted ENABLE ALWAYS",
        "TRUNCATE logins",
    ],
}


@pytest.mark.parametrize("case", ["settings", *in_gate(case for case in CASES if case != "settings")])
def test_database_of_any_kind(case: str, postgres: str) -> None:
    database = create(postgres)
    with psycopg.connect(postgres.format(database=database), autocommit=True) as db:
        for statement in CASES[case]:
            db.execute(statement.replace("{database}", database).encode())
    pg_dump(postgres, database)
    with watched(postgres, database) as logins:
        backup(database)
    assert logins() == 0  # no connection of ours sets off a trigger
    with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as db:
        db.execute(f"DROP DATABASE {database}".encode())  # other tests look into every database of the server


@contextmanager
def watched(server: str, database: str) -> Iterator[Callable[[], int]]:
    """How many logins the database has noted itself meanwhile, if it notes any."""

    def count() -> int:
        with psycopg.connect(server.format(database=database), options="-c event_triggers=off") as db:
            if db.execute("SELECT to_regclass('logins')").fetchone() == (None,):
                return 0
            row = db.execute("SELECT count(*) FROM logins").fetchone()
            return int(row[0]) if row else 0

    before = count()
    yield lambda: count() - before


BYTES = {
    "SQL_ASCII": [b"caf\xe9", b"\x80\xff", "größe".encode()],
    "LATIN1": [b"caf\xe9"],
    "WIN1252": [b"caf\xe9", b"\x80", b"\x81"],  # the last one is no character there
    "KOI8R": ["счёт".encode("koi8_r")],
    "EUC_JP": ["東京".encode("euc_jp"), b"\xad\xa1"],
    "EUC_TW": [b"\xc4\xe3"],
}


@pytest.mark.parametrize(
    "encoding", ["SQL_ASCII", *in_gate(["WIN1252"]), *in_soak(["LATIN1", "KOI8R", "EUC_JP", "EUC_TW"])]
)
def test_database_in_any_encoding(encoding: str, postgres: str) -> None:
    database = create(postgres, options=f"ENCODING '{encoding}' LOCALE 'C'")
    with psycopg.connect(postgres.format(database=database), client_encoding="SQL_ASCII", autocommit=True) as db:
        for number, text in enumerate(BYTES[encoding]):
            name = b'"' + text + b'"'
            for statement in (
                b"CREATE TABLE %b (id serial PRIMARY KEY, %b text, CONSTRAINT %b CHECK (%b IN ('a', '%b')))"
                % (name, name, b'"c' + text + b'"', name, text),
                b"INSERT INTO %b (%b) VALUES ('%b')" % (name, name, text),
                b"CREATE INDEX ON %b (lower(%b))" % (name, name),
                b"CREATE VIEW v%d AS SELECT * FROM %b WHERE %b = '%b'" % (number, name, name, text),
                b"COMMENT ON TABLE %b IS '%b'" % (name, text),
                b"GRANT SELECT ON %b TO PUBLIC" % name,
            ):
                db.pgconn.exec_(statement)
        count = db.pgconn.exec_(
            b"SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'v') AND relnamespace = 'public'::regnamespace"
        )
        assert count.get_value(0, 0) == str(2 * len(BYTES[encoding])).encode()
    pg_dump(postgres, database)
    backup(database)


@pytest.mark.soak
def test_many_tables_and_indexes_take_no_more_locks_than_pg_dump_while_others_need_some(
    short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = short_folder / f"many{next(_numbers)}"
    folder.mkdir(mode=0o711)
    with running(folder) as server, psycopg.connect(server.format(database="postgres"), autocommit=True) as db:
        db.execute("ALTER SYSTEM SET max_connections = 100")
        db.execute("ALTER SYSTEM SET max_locks_per_transaction = 64")
        db.execute("ALTER SYSTEM SET fsync = off")
    with running(folder) as server:
        monkeypatch.setenv("OPS_ODOO_DATABASE_URL", server.format(database="postgres"))
        database = create(server)
        with psycopg.connect(server.format(database=database), autocommit=True) as db:
            for first in range(0, 3500, 100):
                db.execute(
                    f"""DO $$ BEGIN FOR n IN {first}..{first + 99} LOOP
                    EXECUTE format('CREATE TABLE t%s (a int PRIMARY KEY, b int, c int, d int)', n);
                    EXECUTE format('CREATE INDEX ON t%s (b); CREATE INDEX ON t%1$s (c); CREATE INDEX ON t%1$s (d)', n);
                    EXECUTE format('INSERT INTO t%s VALUES (1, 2, 3, 4)', n); END LOOP; END $$""".encode()
                )

        def need_locks(db: psycopg.Connection[Any]) -> None:
            with db.transaction():
                for number in range(300):
                    db.execute(f"SELECT count(*) FROM t{number}".encode())

        with working(server, database, need_locks) as plain:
            pg_dump(server, database)
        with working(server, database, need_locks) as beside:
            result = odoo_db_backup(database)
        assert result["tables"] == 3500
        assert result["rows"] == 3500
        assert uncounted(result) == []
        assert not plain.errors + beside.errors


@gate
def test_sequences_that_move_and_go_and_cycle(postgres: str, stand_in: Callable[[str], Path]) -> None:
    database = create(postgres)
    psql = f'"{PROGRAMS}/psql" -q "{postgres.format(database=database)}" -c "DROP SEQUENCE gone" >&2'
    stand_in(f'"$REAL" "$@" && {psql}')
    with psycopg.connect(postgres.format(database=database), autocommit=True) as db:
        db.execute("CREATE SEQUENCE round MAXVALUE 5 CYCLE")
        db.execute("CREATE TABLE job (id serial PRIMARY KEY)")
        db.execute("INSERT INTO job SELECT FROM generate_series(1, 10)")
        db.execute("CREATE SEQUENCE gone")

    def move(db: psycopg.Connection[Any]) -> None:
        db.execute("SELECT nextval('round'), setval('job_id_seq', (random() * 1000)::int + 1)")

    with working(postgres, database, move, every=0.001):
        pg_dump(postgres, database)
        backup(database)  # whatever of its definition was read before it went


@gate
def test_standby_is_backed_up_without_what_it_does_not_have(
    short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = short_folder / f"standby{next(_numbers)}"
    folder.mkdir(mode=0o711)
    with running(folder) as server:
        database = create(server)
        with psycopg.connect(server.format(database=database), autocommit=True) as db:
            db.execute("CREATE TABLE line (id serial PRIMARY KEY)")
            db.execute("INSERT INTO line SELECT FROM generate_series(1, 10)")
            db.execute("CREATE UNLOGGED TABLE cache (id serial PRIMARY KEY)")
            db.execute("INSERT INTO cache SELECT FROM generate_series(1, 10)")
            db.execute("SELECT lo_from_bytea(0, 'large')")
    signal = EmbeddedPostgres(folder / "postgres").data_dir / "standby.signal"
    signal.touch()
    shutil.chown(signal, signal.parent.owner())
    with running(folder) as server:
        monkeypatch.setenv("OPS_ODOO_DATABASE_URL", server.format(database="postgres"))
        pg_dump(server, database)
        result = backup(database)
    assert result["rows"] == 10
