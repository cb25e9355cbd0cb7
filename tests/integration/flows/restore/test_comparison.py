"""What a restored database consists of: no false alarm for what a restore rewrites, a name for all that differs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from flows.backup.contents import summary
from flows.backup.inventory import Inventory, read_objects
from flows.backup.pinned import pin_settings
from flows.backup.postgres import Connection
from flows.backup.programs import find_programs
from flows.restore.comparison import differing_objects

PROGRAMS = find_programs(None, server_version="18")
T = '"T ""n, {x} ON z"'  # a name that trips whoever splits texts
# Whatever IN (...) of varchar is a part of comes back as another text.
ZOO = f"""
CREATE TYPE mood AS ENUM ('sad', 'it''s "so, so"', '');
CREATE TYPE pair AS (x int, y text);
CREATE DOMAIN short AS varchar(20) CHECK (value IN ('a', 'b')) NOT NULL;
CREATE TYPE span AS RANGE (subtype = int);
CREATE TABLE {T} (
    id int GENERATED ALWAYS AS IDENTITY, state varchar(9) CHECK (state IN ('a', 'b')) DEFAULT ('x'::text)::varchar(5),
    v int, g text GENERATED ALWAYS AS (CASE WHEN state IN ('q', 'w') THEN 'x' END) STORED, during tstzrange,
    EXCLUDE USING gist (during WITH &&) WHERE (state IN ('a', 'c')));
CREATE INDEX odd_i ON {T} (state, (v + 1)) WHERE state IN ('draft', 'sent');
CREATE UNIQUE INDEX odd_u ON {T} (lower(state) text_pattern_ops DESC NULLS LAST) INCLUDE (v) WITH (fillfactor = 70);
CREATE VIEW odd_v AS SELECT id, state FROM {T} WHERE state IN ('a', 'b');
CREATE MATERIALIZED VIEW odd_m AS SELECT count(*) FROM odd_v WHERE state IN ('k', 'l');
CREATE RULE odd_r AS ON UPDATE TO {T} WHERE new.state IN ('r', 's') DO INSTEAD NOTHING;
CREATE FUNCTION trig() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE TRIGGER odd_t BEFORE UPDATE OF state ON {T}
    FOR EACH ROW WHEN (new.state IN ('r', 's')) EXECUTE FUNCTION trig('x');
ALTER TABLE {T} ENABLE ROW LEVEL SECURITY;
CREATE POLICY odd_p ON {T} FOR SELECT USING (state IN ('p', 'q'));
CREATE FUNCTION sqlbody(s varchar) RETURNS boolean LANGUAGE sql RETURN s IN ('a', 'b');
CREATE TABLE parted (at date NOT NULL, n int, k varchar, PRIMARY KEY (at, n)) PARTITION BY RANGE (at);
CREATE INDEX ON parted (n) WHERE k IN ('1', '2');
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE refs (at date, n int, FOREIGN KEY (at, n) REFERENCES parted);
CREATE TABLE plain (id int PRIMARY KEY, p int, "order" int DEFAULT 1);
ALTER TABLE parted ADD CONSTRAINT pfk FOREIGN KEY (n) REFERENCES plain;
CREATE TABLE kid (extra text) INHERITS (plain);
CREATE STATISTICS st ON id, p FROM plain;
CREATE AGGREGATE mysum(int) (sfunc = int4pl, stype = int);
COMMENT ON COLUMN plain.p IS 'a comment';
CREATE TABLE whole (a varchar, b int);
CREATE FUNCTION f(whole) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
ALTER TABLE whole ADD CHECK (f(whole.*) AND a IN ('x', 'y'));
CREATE SCHEMA "two.b";
CREATE TABLE "two.b".plain (id serial, d date DEFAULT CURRENT_DATE);
CREATE COLLATION co (locale = 'C', provider = 'libc');
CREATE OPERATOR === (leftarg = int, rightarg = int, procedure = int4eq);
CREATE EXTENSION unaccent;
ALTER FUNCTION unaccent(text) IMMUTABLE;
"""
PREPARED = "CREATE EXTENSION unaccent; ALTER FUNCTION unaccent(text) IMMUTABLE"


@pytest.fixture(autouse=True)
def room() -> None:
    """None is needed: these tests start no runbook."""


def new_database(postgres: str, *, prepare: str = "") -> str:
    name = f"compared_{uuid4().hex}"
    with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as db:
        db.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    url = postgres.format(database=name)
    with psycopg.connect(url, autocommit=True) as db:
        for statement in filter(None, prepare.split("; ")):
            db.execute(statement.encode())
    return url


def connected(url: str) -> Connection:
    db = psycopg.connect(url, autocommit=True)
    pin_settings(db, statement_seconds=60)
    return db


def copied(url: str, into: str, folder: Path) -> None:
    dump = folder / "copied.dump"
    subprocess.run([PROGRAMS.pg_dump, "-Fc", "-f", dump, url], check=True, timeout=60)
    subprocess.run([PROGRAMS.pg_restore, "-d", into, dump], check=True, timeout=60)


@pytest.fixture(scope="module")
def zoo(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Inventory, Connection]]:
    """What the zoo is recorded as, and its restored copy."""
    source = new_database(postgres)
    with psycopg.connect(source, autocommit=True) as db:
        db.execute(ZOO)
    copy = new_database(postgres, prepare=PREPARED)
    copied(source, copy, tmp_path_factory.mktemp("zoo"))
    with connected(source) as db, connected(copy) as restored:
        yield Inventory.of(read_objects(db)), restored


def found(zoo: tuple[Inventory, Connection], *, dumped_by: int | None = None) -> list[str]:
    expected, db = zoo
    return differing_objects(expected, db, dumped_by=dumped_by or db.info.server_version // 10000)


def test_what_a_restore_rewrites_is_no_difference(zoo: tuple[Inventory, Connection]) -> None:
    expected, db = zoo
    texts = expected.texts()
    rewritten = {
        kind
        for kind, objects in read_objects(db).items()
        for name, one in objects.items()
        if texts[kind][name] != one.text
    }
    assert rewritten == {
        "constraint",
        "domain constraint",
        "function",
        "generated column",
        "index",
        "policy",
        "query",
        "rule",
        "trigger",
    }
    assert found(zoo) == []


CHANGES = {
    "DROP INDEX odd_i": "index public.odd_i is missing",
    "CREATE INDEX more ON plain (p)": "index public.more is there as well",
    f"DROP INDEX odd_i; CREATE INDEX odd_i ON {T} (state, (v + 1)) WHERE state IN ('draft', 'done')": (
        "index public.odd_i is defined otherwise"
    ),
    "ALTER TABLE parted DROP CONSTRAINT pfk": "constraint pfk on public.parted is missing",
    "ALTER TABLE whole DROP CONSTRAINT whole_check; ALTER TABLE whole ADD CHECK (f(whole.*) AND a IN ('x', 'z'))": (
        "constraint whole_check on public.whole is defined otherwise"
    ),
    "ALTER DOMAIN short DROP CONSTRAINT short_check": "domain constraint short_check on public.short is missing",
    "DROP MATERIALIZED VIEW odd_m": "materialized view public.odd_m is missing",
    f"CREATE OR REPLACE VIEW odd_v AS SELECT id, state FROM {T} WHERE state IN ('a', 'c')": "query public.odd_v is",
    "CREATE OR REPLACE FUNCTION trig() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN old; END'": (
        "function public.trig() is defined otherwise"
    ),
    f"DROP TRIGGER odd_t ON {T}": "trigger odd_t on public.",
    f"ALTER TABLE {T} DISABLE TRIGGER odd_t": "trigger odd_t on public.",
    f"DROP RULE odd_r ON {T}": "rule odd_r on public.",
    f"ALTER POLICY odd_p ON {T} USING (true)": "policy odd_p on public.",
    f"ALTER TABLE {T} DISABLE ROW LEVEL SECURITY": "table public.",
    "ALTER TABLE plain ALTER p SET NOT NULL": "column public.plain.p is integer NOT NULL instead of integer",
    'ALTER TABLE plain ALTER "order" SET DEFAULT 2': "default public.plain.order is 2 instead of 1",
    "ALTER TYPE mood RENAME VALUE 'sad' TO 'bad'": "type public.mood is e ENUM 'bad'",
    "ALTER TABLE parted DETACH PARTITION parted_1": "table public.parted_1 is defined otherwise",
    "ALTER TABLE kid NO INHERIT plain": "table public.kid is p heap instead of",
    'ALTER SEQUENCE "two.b".plain_id_seq INCREMENT 2': 'sequence "two.b".plain_id_seq is',
    "DROP AGGREGATE mysum(int)": "function public.mysum(integer) is missing",
    "DROP STATISTICS st": "statistics statistics object public.st is missing",
    "DROP COLLATION co": "collation collation public.co is missing",
    "DROP OPERATOR ===(int, int)": "operator operator public.===(integer,integer) is missing",
    "COMMENT ON COLUMN plain.p IS 'another'": "comment table column public.plain.p is",
    "ALTER FUNCTION unaccent(text) STABLE": "function of an extension public.unaccent(text) is STABLE STRICT PARALLEL",
    "CREATE ROLE somebody; ALTER TABLE plain OWNER TO somebody": "owner of table public.plain is ",
    "GRANT SELECT ON plain TO PUBLIC": "privileges of table public.plain is ",
    "REVOKE EXECUTE ON FUNCTION unaccent(text) FROM PUBLIC": "privileges of function public.unaccent(",
    "CREATE ROLE one; ALTER DEFAULT PRIVILEGES FOR ROLE one GRANT SELECT ON TABLES TO PUBLIC": "default privileges",
    f"CREATE ROLE one; ALTER POLICY odd_p ON {T} TO one": "roles of policy of odd_p on public.",
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.promise(11)
def test_what_differs_is_named(zoo: tuple[Inventory, Connection], change: str) -> None:
    with zoo[1].transaction(force_rollback=True):
        zoo[1].execute("SET LOCAL search_path = public")
        zoo[1].execute(change.encode())
        zoo[1].execute("SET LOCAL search_path = ''")
        wrong = found(zoo)
    assert [one for one in wrong if one.startswith(CHANGES[change])], wrong


def test_of_another_version_names_and_columns_are_compared_and_no_texts(zoo: tuple[Inventory, Connection]) -> None:
    db = zoo[1]
    assert found(zoo, dumped_by=15) == []
    with db.transaction(force_rollback=True):
        db.execute(f"DROP INDEX public.odd_i; CREATE INDEX odd_i ON public.{T} (v)")
        db.execute("ALTER TABLE public.plain ALTER p TYPE bigint; DROP VIEW public.odd_v CASCADE")
        wrong = found(zoo, dumped_by=15)
    assert "column public.plain.p is bigint instead of integer" in wrong
    assert "view public.odd_v is missing" in wrong
    assert not [one for one in wrong if "odd_i" in one]


def test_hostile_name_is_shown_in_one_line(zoo: tuple[Inventory, Connection]) -> None:
    with zoo[1].transaction(force_rollback=True):
        zoo[1].execute('CREATE INDEX "a\n\x1b[31mb" ON public.plain (p)')
        assert summary(found(zoo)) == r'index public."a\n\x1b[31mb" is there as well'


def test_a_text_that_is_read_again_executes_nothing_else(zoo: tuple[Inventory, Connection]) -> None:
    expected, db = zoo
    texts = {kind: dict(objects) for kind, objects in expected.texts().items()}
    texts["constraint"]["whole_check on public.whole"] = "CHECK (true); COMMIT; CREATE TABLE public.canary ()"
    objects = read_objects(db)
    forged = Inventory.of(
        {
            kind: {name: objects[kind][name].__class__(text) for name, text in found.items()}
            for kind, found in texts.items()
        }
    )
    wrong = differing_objects(forged, db, dumped_by=db.info.server_version // 10000)
    assert wrong == ["constraint whole_check on public.whole is defined otherwise"]
    assert db.execute("SELECT to_regclass('public.canary')").fetchone() == (None,)
