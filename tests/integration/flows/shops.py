"""Small databases with much in them: every kind of table and value whose text form could trip a comparison."""

from __future__ import annotations

import random

import psycopg
from psycopg import sql

_TYPES = """
CREATE TYPE mood AS ENUM ('sad', 'it''s "so, so"', '');
CREATE TYPE pair AS (x int, y text);
CREATE DOMAIN short AS text CHECK (length(value) < 100);
CREATE TABLE "Odd ""name, {x}" (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    "a b" text, short short, flag boolean, small smallint, big bigint, exact numeric, r real, d double precision,
    cash money, raw bytea, at timestamptz, local timestamp, day date, hour time, zoned timetz, span interval,
    doc json, docb jsonb, key uuid, net inet, bits varbit, chars char(9), mood mood, moods mood[], pair pair,
    grid int[][], texts text[], span_of tstzrange, spot point, words tsvector, regclass regclass,
    twice bigint GENERATED ALWAYS AS (small * 2) STORED
);
CREATE TABLE measured (at date NOT NULL, value double precision) PARTITION BY RANGE (at);
CREATE TABLE measured_2025 PARTITION OF measured FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE measured_rest PARTITION OF measured DEFAULT;
CREATE TABLE by_mood (mood mood, n int) PARTITION BY HASH (mood);
CREATE TABLE by_mood_0 PARTITION OF by_mood FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE by_mood_1 PARTITION OF by_mood FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE parent (id int, name text);
CREATE TABLE child (extra text) INHERITS (parent);
ALTER TABLE parent ADD COLUMN late int;
CREATE TABLE no_columns ();
CREATE TABLE empty_one (id int);
CREATE TABLE dropped (a int, b int, c int);
ALTER TABLE dropped DROP COLUMN b;
CREATE UNLOGGED TABLE unlogged (id int);
CREATE SCHEMA "other.schema";
CREATE TABLE "other.schema".parent (id int);
CREATE SEQUENCE down INCREMENT -3 MINVALUE -1000 MAXVALUE 10 START 10;
CREATE SEQUENCE untouched;
CREATE VIEW seen AS SELECT id, name FROM parent;
CREATE MATERIALIZED VIEW stale AS SELECT count(*) FROM parent;
CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql AS 'SELECT $1 * 2';
"""
_ODD = ["NaN", "Infinity", "-Infinity", "0", "-0.0", "1", "1.0", "1.00", "0.1", "12345678901234567890.123", "1e300"]
_TEXTS = ["", " ", "\\", "\\N", "NULL", '"', "'", "{}", "(,)", "a\nb\tc\r", "ż\u202eó😀", "x" * 90, "\x01"]


def fill(url: str, seed: int) -> None:
    """Put tables and rows that follow from the seed into an empty database."""
    some = random.Random(seed)
    with psycopg.connect(url) as db:
        db.execute(_TYPES)
        for _ in range(some.randrange(40)):
            db.execute(_row(some))
        for _ in range(some.randrange(30)):
            day = f"{some.randrange(2024, 2027)}-{some.randrange(1, 13):02}-01"
            db.execute("INSERT INTO measured VALUES (%s, %s)", (day, some.choice([None, some.random()])))
            db.execute("INSERT INTO by_mood VALUES (%s, %s)", (some.choice(["sad", "", None]), some.randrange(9)))
            db.execute(
                "INSERT INTO child (id, late, extra) VALUES (%s, %s, %s)", (some.randrange(9), 1, some.choice(_TEXTS))
            )
            db.execute("INSERT INTO parent VALUES (%s, %s, %s)", (some.randrange(9), some.choice(_TEXTS), None))
        db.execute(f"INSERT INTO no_columns SELECT FROM generate_series(1, {some.randrange(1, 5)})")
        db.execute("INSERT INTO dropped VALUES (1, 2), (NULL, 3)")
        db.execute("INSERT INTO unlogged SELECT generate_series(1, 9)")
        db.execute(f"SELECT nextval('down') FROM generate_series(1, {some.randrange(1, 9)})")
        for number in range(some.randrange(3)):
            size = some.choice([0, 1, 256 * 1024, 600_000])
            db.execute(
                "SELECT lo_from_bytea(%s, %s)", (some.randrange(20_000, 90_000) * 10 + number, some.randbytes(size))
            )


def _row(some: random.Random) -> sql.Composed:
    number, text = some.choice(_ODD), some.choice(_TEXTS)
    at = some.choice(["infinity", "-infinity", "0044-03-15 12:00:00+00 BC", "2026-03-29 01:30:00.123456+00", "epoch"])
    values: dict[str, object] = {
        "a b": text,
        "short": text,
        "flag": some.choice([True, False]),
        "small": some.randrange(-9999, 9999),
        "big": some.randrange(-(2**63), 2**63),
        "exact": number,
        "r": number if "1e" not in number else "0.3",
        "d": number,
        "cash": str(some.randrange(10**6) / 100),
        "raw": some.randbytes(some.randrange(50)),
        "at": at,
        "local": at.replace("+00", ""),
        "day": some.choice(["infinity", "2026-02-28", "4714-11-24 BC"]),
        "hour": "24:00:00",
        "zoned": "12:00:00.5+05:30",
        "span": some.choice(["1 year -2 mons 3 days -04:05:06.7", "0", "-1 days +02:03"]),
        "doc": '{"b": 1,  "a": [null, "\\u017c"], "b": 2}',
        "docb": '{"b": 1.00, "a": [null, "\\u017c"]}',
        "key": f"{some.getrandbits(128):032x}",
        "net": some.choice(["10.0.0.1/8", "::1"]),
        "bits": some.choice(["", "10101"]),
        "chars": some.choice(["", "a", "a b"]),
        "mood": some.choice(["sad", 'it\'s "so, so"', ""]),
        "moods": '{sad,NULL,""}',
        "pair": '(1,"a ""b""")',
        "grid": some.choice(["{{1,2},{3,NULL}}", "[0:1]={1,2}", "{}"]),
        "texts": '{"a,b",NULL,"NULL","\\\\"}',
        "span_of": some.choice(["empty", "(,)", "[2026-01-01Z,infinity)"]),
        "spot": "(1.1,-0)",
        "words": "'a':1A 'b c':2",
        "regclass": '"other.schema".parent',
    }
    chosen = {name: value for name, value in values.items() if some.random() > 0.2}
    table = sql.Identifier('Odd "name, {x}')
    if not chosen:
        return sql.SQL("INSERT INTO {} DEFAULT VALUES").format(table)
    names = sql.SQL(", ").join(map(sql.Identifier, chosen))
    literals = sql.SQL(", ").join(map(sql.Literal, chosen.values()))
    return sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(table, names, literals)
