"""A backup through the CLI holds what the database held."""

from __future__ import annotations

import hashlib
import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.room.postgres import PROGRAMS
from tests.acceptance.room.desk import Desk
from tests.support.commands import Answer

DATABASE = "odoo_known-content"
CONTENT = r"""
CREATE TYPE mood AS ENUM ('calm', 'busy');
CREATE SCHEMA warehouse;
CREATE TABLE partner (
    id serial PRIMARY KEY, name text NOT NULL UNIQUE, mood mood, data jsonb, scan bytea, at timestamptz, paid numeric
);
INSERT INTO partner (name, mood, data, scan, at, paid)
SELECT 'Zoë ' || n || E'\n\t"quoted", \\ back; DROP TABLE partner;--', (ARRAY['calm', 'busy', NULL]::mood[])[1 + n % 3],
       jsonb_build_object('n', n, 'text', E'\u00e9\U0001F600'), decode(md5(n::text), 'hex'),
       timestamptz '2020-02-29 23:59:59.123456+00' + n * interval '1 hour', n / 7.0
FROM generate_series(1, 5000) n;
CREATE TABLE warehouse.stock (partner_id integer REFERENCES partner, amount integer CHECK (amount > 0));
INSERT INTO warehouse.stock SELECT 1 + n % 5000, n FROM generate_series(1, 9000) n;
CREATE INDEX stock_amount ON warehouse.stock (amount DESC);
CREATE VIEW rich AS SELECT name FROM partner WHERE paid > 700;
DELETE FROM partner WHERE id NOT IN (SELECT partner_id FROM warehouse.stock);
"""
QUERIES = (
    "SELECT md5(string_agg(p::text, E'\\n' ORDER BY id)), count(*) FROM partner p",
    "SELECT md5(string_agg(s::text, ',' ORDER BY amount)), count(*) FROM warehouse.stock s",
    "SELECT md5(string_agg(name, ',' ORDER BY name)), count(*) FROM rich",
    "SELECT last_value, is_called::int FROM partner_id_seq",
)


def content(desk: Desk, database: str) -> list[object]:
    """Hashes of all rows, the state of the sequence, and the whole schema as SQL."""
    with desk.database(database) as db:
        rows: list[object] = [db.execute(query.encode()).fetchone() for query in QUERIES]
    schema = subprocess.run(
        [str(PROGRAMS / "pg_dump"), "--schema-only", f"--dbname={desk.url(database)}"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    # a random word against injection, new in every dump
    return [*rows, re.sub(r"^\\(un)?restrict .*$", "", schema, flags=re.MULTILINE)]


@pytest.fixture(scope="module")
def answer(desk: Desk) -> Iterator[Answer]:
    """What `ops run` said of the backup of a database with known content."""
    with desk.database("postgres") as db:
        db.execute(f'CREATE DATABASE "{DATABASE}" TEMPLATE template0'.encode())
        with desk.database(DATABASE) as inside:
            inside.execute(CONTENT.encode())
        yield desk.ops("run", "odoo_db_backup", "-p", f"odoo_db={DATABASE}", "--lane", "B", "--wait")
        db.execute(f'DROP DATABASE "{DATABASE}" WITH (FORCE)'.encode())


def shown(answer: Answer, name: str) -> str:
    """The value of a line of the result."""
    found = re.search(rf"^ *{name} +(\S.*?) *$", answer.fine(), re.MULTILINE)
    assert found, answer
    return found[1]


def test_backup_restores_to_the_same_content(desk: Desk, answer: Answer) -> None:
    dump = Path(shown(answer, "file"))
    with desk.database("postgres") as db:
        db.execute("CREATE DATABASE restored TEMPLATE template0")
        try:
            command = [str(PROGRAMS / "pg_restore"), "--exit-on-error", f"--dbname={desk.url('restored')}", str(dump)]
            subprocess.run(command, check=True, capture_output=True)
            assert content(desk, "restored") == content(desk, DATABASE)
        finally:
            db.execute("DROP DATABASE restored WITH (FORCE)")


def test_backup_says_where_the_dump_lies_its_size_and_checksum(desk: Desk, answer: Answer) -> None:
    dump = Path(shown(answer, "file"))
    assert dump.parent == desk.home / "backups"
    assert re.fullmatch(rf"{DATABASE}_\d{{8}}T\d{{6}}Z\.dump", dump.name)
    assert stat.S_IMODE(dump.stat().st_mode) & 0o077 == 0
    assert shown(answer, "sha256") == hashlib.sha256(dump.read_bytes()).hexdigest()
    assert re.fullmatch(r"\d+\.\d [kM]B", shown(answer, "size of the dump"))
    assert list(dump.parent.glob(f".*{DATABASE}*")) == []


def test_backup_shows_its_steps_in_order(answer: Answer) -> None:
    finished = re.findall(r"step (\d) (\w+): succeeded", answer.fine())
    names = ("preflight", "reserve", "snapshot", "pg_dump", "fingerprint", "globals", "verify", "publish", "prune")
    assert finished == [(str(number), name) for number, name in enumerate(names, start=1)]


def test_dry_run_shows_the_steps_and_starts_nothing(desk: Desk, answer: Answer) -> None:
    before = desk.json("runs")
    kind = ("run", "odoo_db_backup", "-p", f"odoo_db={DATABASE}", "--dry-run")
    shown = desk.ops(*kind).fine()
    for word in ("preflight", "executed", "pg_dump", "600 s", f"ODOO_DB={DATABASE}", "It could start"):
        assert word in shown, shown
    told = desk.json(*kind)
    names = ("preflight", "reserve", "snapshot", "pg_dump", "fingerprint", "globals", "verify", "publish", "prune")
    assert tuple(step["name"] for step in told["steps"]) == names
    assert (told["error"], told["steps"][3]["timeout_seconds"]) == (None, 600)
    failing = desk.ops("run", "odoo_db_backup", "-p", "odoo_db=odoo_nowhere", "--dry-run")
    assert failing.code == 1
    assert "there is no database 'odoo_nowhere'" in failing.out
    assert desk.json("runs") == before
