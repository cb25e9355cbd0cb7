"""A value that fits its column is followed by a real server, and nothing is left."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import psycopg
import pytest

from flows.backup.pinned import pin_settings
from flows.backup.postgres import Connection
from flows.copies.anonymise import Anonymising, Rule
from flows.copies.catalogue import Catalogue
from flows.copies.columns import read_columns
from flows.copies.fitting import misfits
from flows.copies.literals import refusal_of_literal
from flows.copies.statements import send

TABLE = """
CREATE TYPE mood AS ENUM ('happy', 'it''s over');
CREATE DOMAIN zip AS varchar(5) NOT NULL;
CREATE DOMAIN price AS numeric(6,2);
CREATE TABLE p (name jsonb, ref varchar(20), code character(5), mood mood, tags text[], numbers int[], zip zip,
    born date, written timestamp, seen timestamptz(0), opens time, age integer, large bigint, rate numeric(16,2),
    cost price, share double precision, small real, works boolean, data bytea, spot point, network inet,
    lasts interval, days daterange, bits bit(3), made uuid, net cidr, moods mood[], words tsvector);
INSERT INTO p VALUES ('{"en_US": "Anna"}', 'Anna', 'Anna', 'happy', '{Anna}', '{1,2}', '12345', '1999-12-31',
    '1999-12-31 10:00', '1999-12-31 10:00', '10:00', 41, 41, 41.5, 41.5, 41.5, 41.5, true, 'Anna', '(1,2)', '10.0.0.1',
    '41 days', '[1999-12-31,2000-12-31)', '101', '00000000-0000-0000-0000-000000000000', '10.0.0.0/8', '{happy}',
    'anna'), (NULL, '', NULL, NULL, NULL, NULL, '54321', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    false, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
"""


@pytest.fixture(scope="module")
def db(postgres: str) -> Iterator[Connection]:
    """Table p, on a connection with the settings of a change."""
    with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as server:
        server.execute("DROP DATABASE IF EXISTS fitting_values")
        server.execute("CREATE DATABASE fitting_values")
    with psycopg.connect(postgres.format(database="fitting_values"), autocommit=True) as made:
        made.execute(TABLE)
        pin_settings(made, statement_seconds=10)
        made.execute("SET search_path = pg_catalog, pg_temp")
        yield made


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("name", "A name"),
        ("ref", "x" * 20),
        ("ref", ""),
        ("code", "x"),
        ("mood", "it's over"),
        ("tags", "{}"),
        ("tags", "{ a,  b }"),
        ("numbers", "{01}"),
        ("zip", "00000"),
        ("born", "1970-01-01"),
        ("born", "19700101"),
        ("written", "2000-01-01"),
        ("written", "2000-01-01T10:00:00.5"),
        ("seen", "2000-01-01 10:00:00.7+02:00"),
        ("opens", "9:00"),
        ("age", "30"),
        ("age", "-0"),
        ("large", " 7 "),
        ("rate", "0"),
        ("rate", "1.555"),
        ("rate", "1e3"),
        ("cost", "1.999"),
        ("share", "1.50"),
        ("small", "0.1"),
        ("works", "off"),
        ("works", "f"),
        ("works", "YES"),
        ("works", "1"),
        ("data", "plain"),
        ("spot", "3, 4"),
        ("network", "192.168.0.1/32"),
        ("lasts", "90 minutes"),
        ("born", "1970-1-1"),
        ("born", "epoch"),
        ("born", "infinity"),
        ("born", "Jan 1 1970"),
        ("written", "-infinity"),
        ("written", "epoch"),
        ("seen", "1970-1-1 9:5 Europe/Berlin"),
        ("opens", "allballs"),
        ("opens", "9:00 PM"),
        ("rate", "NaN"),
        ("share", "Infinity"),
        ("age", "  42"),
        ("works", "y"),
        ("works", "of"),
        ("numbers", "[0:1]={1,2}"),
        ("days", "(,2000-01-01]"),
        ("bits", "000"),
        ("made", "{11111111-1111-1111-1111-111111111111}"),
        ("net", "10.1.2.0/24"),
        ("moods", '{happy,"it\'s over"}'),
        ("words", "now then"),
        ("tags", "{now}"),
        ("ref", "now"),
    ],
)
def test_value_that_fits_is_followed_until_nothing_is_left(db: Connection, column: str, value: str) -> None:
    rule = Rule(table="p", column=column, method="constant", value=value)
    assert misfits([rule], Catalogue.read(db), partial(refusal_of_literal, db, own_types=True)) == []
    anonymising, found = Anonymising([rule]), (read_columns(db)["p"] or {})[column]
    left = anonymising.left(rule, found)
    with db.transaction(force_rollback=True):
        assert db.execute(left).fetchone() not in (None, (0,))
        send(db, anonymising.change(rule, found))
        assert db.execute(left).fetchone() == (0,)
        assert send(db, anonymising.change(rule, found)) == 0


@pytest.mark.parametrize(
    ("column", "value", "why"),
    [
        ("born", "today", "'today' means another time whenever it is read: write the time itself"),
        ("born", " ToMorrow ", "'ToMorrow' means another time"),
        ("written", "yesterday 10:00", "'yesterday' means another time"),
        ("seen", "now", "'now' means another time"),
        ("opens", "now", "'now' means another time"),
        ("days", "[epoch,today]", "'today' means another time"),
        ("born", "31.12.1999", "which does not take '31.12.1999': date/time field value out of range"),
        ("born", "long ago", "which does not take 'long ago': invalid input syntax for type date"),
        ("age", "1.5", "which does not take '1.5': invalid input syntax for type integer"),
        ("age", "1e3", "which does not take '1e3': invalid input syntax for type integer"),
        ("age", "3000000000", "which does not take '3000000000': value \"3000000000\" is out of range"),
        ("rate", "1e20", "which does not take '1e20': numeric field overflow"),
        ("works", "maybe", "which does not take 'maybe': invalid input syntax for type boolean"),
        ("numbers", "{1,a}", "which does not take '{1,a}': invalid input syntax"),
        ("tags", "a", "which does not take 'a': malformed array literal"),
        ("moods", "{sad}", "which does not take '{sad}': invalid input value for enum"),
        ("bits", "1", "which does not take '1': bit string length 1 does not match type bit(3)"),
        ("data", "\\x0", "which does not take"),
    ],
)
def test_value_that_the_server_refuses_is_refused_with_its_reason(
    db: Connection, column: str, value: str, why: str
) -> None:
    rule = Rule(table="p", column=column, method="constant", value=value)
    (said,) = misfits([rule], Catalogue.read(db), partial(refusal_of_literal, db, own_types=True))
    assert f"p.{column}: constant: the column is of type " in said
    assert why in said


def test_type_of_a_manifest_is_no_part_of_a_statement(db: Connection) -> None:
    """Whoever wrote it: what the room executes for it is a built-in type, or nothing."""
    for name in ("public.zip", "text); DROP TABLE p; --", 'text) AS "t"', "text, x text", "pg_temp.mood"):
        assert refusal_of_literal(db, "long ago", name, own_types=False) is None
    assert refusal_of_literal(db, "long ago", "timestamp(0) with time zone[]", own_types=False) is not None
    assert db.execute("SELECT count(*) FROM public.p").fetchone() == (2,)
