"""A dump of the embedded pg_dump, loaded into a real server of an older version: what passes, and what does not."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from deployments.room.postgres import PROGRAMS
from flows.backup.database import Database, check_source
from flows.backup.loading import LOAD, load_variables, prove_loading
from flows.backup.postgres import Access, access_of, connect
from opsdb.errors import PreflightError
from opsdb.settings import Settings
from tests.support.postgres import databases
from tests.support.servers import server
from tests.support.tiers import in_soak

UNKNOWN = 'unrecognized configuration parameter "transaction_timeout"'
KNOWN = f"pg_restore: error: could not execute query: ERROR:  {UNKNOWN}\nCommand was: SET transaction_timeout = 0;"
COUNTED = "pg_restore: warning: errors ignored on restore: 2"
ROWS = ["SET transaction_timeout = 0;", "SET transaction_timeout = 0;\n", KNOWN, COUNTED, "\\.", "\\restrict x"]
_numbers = itertools.count()


@pytest.fixture(autouse=True)
def room() -> None:
    """None is needed: no runbook runs."""


@pytest.fixture(scope="module")
def older(short_folder: Path) -> Iterator[str]:
    """A server of version 16: a URL with `{database}` in it."""
    folder = short_folder / "16"
    folder.mkdir(mode=0o711)
    with server(16, folder) as url:
        yield url


@pytest.fixture
def shop(older: str) -> str:
    """The URL of a database with rows that look like what is passed over."""
    url = create(older, "shop")
    with psycopg.connect(url) as db:
        db.execute("CREATE TABLE line (id serial PRIMARY KEY, text text)")
        for row in ROWS:
            db.execute("INSERT INTO line (text) VALUES (%s)", (row,))
        db.execute("CREATE VIEW short AS SELECT * FROM line WHERE length(text) < 40")
        db.execute("CREATE INDEX ON line (text)")
    return url


def create(older: str, kind: str) -> str:
    name = f"{kind}_{next(_numbers)}"
    with psycopg.connect(older.format(database="postgres"), autocommit=True) as db:
        db.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    return older.format(database=name)


def access(url: str) -> Access:
    with connect(url) as db:
        return access_of(db, PROGRAMS)


def dump(url: str, folder: Path) -> Path:
    made = folder / "made.dump"
    subprocess.run([PROGRAMS / "pg_dump", "--format=custom", f"--file={made}", f"--dbname={url}"], check=True)
    return made


def load(way: Access, dumped: Path, url: str) -> subprocess.CompletedProcess[str]:
    variables = way.variables | load_variables(way, str(dumped), database=str(conninfo_to_dict(url)["dbname"]))
    bash = ["bash", "-euo", "pipefail", "-c", LOAD]
    return subprocess.run(
        bash, env={**os.environ, **variables}, capture_output=True, text=True, check=False, timeout=60
    )


def lines(url: str) -> list[object]:
    with psycopg.connect(url) as db:
        return [db.execute(f"SELECT * FROM {table} ORDER BY id").fetchall() for table in ("line", "short")]


@pytest.mark.parametrize("cores", [4, *in_soak([1])])
def test_dump_of_a_newer_pg_dump_is_loaded_with_rows_like_the_passed_over_line(
    older: str, shop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int
) -> None:
    monkeypatch.setattr("flows.backup.loading.os.cpu_count", lambda: cores)
    way, new = access(shop), create(older, "new")
    done = load(way, dump(shop, tmp_path), new)
    assert done.returncode == 0, done.stderr
    assert "Command was: SET transaction_timeout = 0;" in done.stderr  # shown, and passed over
    assert lines(new) == lines(shop)
    with psycopg.connect(new) as db:
        assert [text for (text,) in db.execute("SELECT text FROM line ORDER BY id").fetchall()] == ROWS


HOSTILE = {
    "the very error, raised": f"RAISE EXCEPTION '{UNKNOWN}'",
    "with its command": f"RAISE EXCEPTION E'{UNKNOWN}\\nCommand was: SET transaction_timeout = 0;'",
    "by its own condition": f"RAISE undefined_object USING MESSAGE = '{UNKNOWN}'",
    "really": "EXECUTE 'SET transaction_timeout = 0'",
    "with the last line": f"RAISE WARNING E'x\\n{COUNTED}'; RAISE EXCEPTION E'y\\n{COUNTED}\\n'",
    "another": "RAISE EXCEPTION 'no'",
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE.keys())
def test_error_of_the_dump_fails_the_load_whatever_it_says(older: str, shop: str, tmp_path: Path, body: str) -> None:
    with psycopg.connect(shop) as db:
        db.execute(
            "CREATE FUNCTION spoil() RETURNS text LANGUAGE plpgsql AS $$ BEGIN"
            f" IF current_database() LIKE 'new%' THEN {body}; END IF; RETURN 'fine'; END $$"
        )
        db.execute("CREATE MATERIALIZED VIEW spoilt AS SELECT public.spoil()")
    done = load(access(shop), dump(shop, tmp_path), create(older, "new"))
    assert done.returncode == 1
    assert "pg_restore could not load the dump. Its first error: " in done.stderr


def test_error_while_a_table_is_filled_fails_the_load(older: str, shop: str, tmp_path: Path) -> None:
    with psycopg.connect(shop) as db:
        db.execute(
            "CREATE FUNCTION fits(text) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN"
            f" IF current_database() LIKE 'new%' THEN RAISE EXCEPTION '{UNKNOWN}'; END IF; RETURN true; END $$"
        )
        db.execute("ALTER TABLE line ADD CHECK (public.fits(text))")
    done = load(access(shop), dump(shop, tmp_path), create(older, "new"))
    assert done.returncode == 1


def test_dump_that_is_cut_off_fails_the_load(older: str, shop: str, tmp_path: Path) -> None:
    made = dump(shop, tmp_path)
    made.write_bytes(made.read_bytes()[:-300])
    done = load(access(shop), made, create(older, "new"))
    assert done.returncode == 1
    assert "Its first error: pg_restore-" in done.stderr


def test_last_line_of_a_worker_does_not_stand_for_that_of_pg_restore(shop: str, tmp_path: Path) -> None:
    """pg_restore ends its workers after its last words: a message of the server may come after them."""
    way = stand_in(access(shop), tmp_path, f"echo 'pg_restore: error: a worker died'; echo '{COUNTED}'; exit 1")
    assert load(way, tmp_path / "made.dump", shop).returncode == 1


def test_server_is_not_told_the_name_by_which_pg_restore_speaks(older: str, shop: str, tmp_path: Path) -> None:
    with psycopg.connect(shop) as db:
        db.execute("CREATE MATERIALIZED VIEW told AS SELECT current_setting('application_name') AS name")
    new, way = create(older, "new"), access(shop)
    way.variables.pop("PGAPPNAME")
    assert load(way, dump(shop, tmp_path), new).returncode == 0
    with psycopg.connect(new) as db:
        assert db.execute("SELECT name FROM told").fetchall() == [("ops-backup",)]


def test_probe_passes_over_what_a_restore_passes_over_and_changes_nothing(older: str, shop: str) -> None:
    with psycopg.connect(shop) as db:  # what a dump of no schema holds all the same
        db.execute("CREATE EXTENSION pgcrypto")
        db.execute("CREATE PUBLICATION everything FOR ALL TABLES")
        db.execute("SELECT lo_from_bytea(4711, 'a large object')")
    before = databases(older)
    prove_loading(access(shop))
    assert databases(older) == before
    with psycopg.connect(shop) as db:
        assert db.execute("SELECT count(*) FROM pg_stat_user_tables WHERE schemaname = 'public'").fetchone() == (1,)


def test_probe_refuses_a_pg_restore_whose_first_words_the_server_does_not_know(shop: str) -> None:
    way = access(shop)
    with pytest.raises(PreflightError, match=rf"could not be restored .*, by .*pg_restore \(16\.9\), .*: .*{UNKNOWN}"):
        prove_loading(replace(way, programs=replace(way.programs, version="16.9")))  # nothing is passed over


def test_backup_is_refused_where_it_could_not_be_restored(shop: str, tmp_path: Path) -> None:
    for name in ("pg_dump", "pg_dumpall"):
        (tmp_path / name).symlink_to(PROGRAMS / name)
    version = f'[ "$1" = --version ] && exec {PROGRAMS / "pg_restore"} --version'
    stand_in(access(shop), tmp_path, f"{version}\necho no such library >&2; exit 1")
    settings, source = Settings(pg_bin=tmp_path), Database(str(conninfo_to_dict(shop)["dbname"]), shop)
    with pytest.raises(PreflightError, match=r"could not be restored into this server, PostgreSQL 16.*no such library"):
        check_source(source, settings)


def test_probe_refuses_a_pg_dump_that_fails_and_says_why(shop: str, tmp_path: Path) -> None:
    way = access(shop)
    broken = tmp_path / "pg_dump"
    broken.write_text("#!/bin/sh\necho 'pg_dump: error: no way' >&2; exit 1\n")
    broken.chmod(0o755)
    with pytest.raises(
        PreflightError, match=r"as an empty dump shows: pg_dump: error: no way\. Install the client pro"
    ):
        prove_loading(replace(way, programs=replace(way.programs, pg_dump=broken)))


def test_probe_of_a_pg_restore_that_hangs_ends(shop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.backup.loading.PROBE_SECONDS", 0.5)
    with pytest.raises(PreflightError, match=r"it did not end within 0\.5 s"):
        prove_loading(stand_in(access(shop), tmp_path, "sleep 300"))


def stand_in(way: Access, folder: Path, body: str) -> Access:
    """The same with another pg_restore."""
    script = folder / "pg_restore"
    script.write_text(f"#!{shutil.which('bash')}\n{body}\n")
    script.chmod(0o755)
    return replace(way, programs=replace(way.programs, pg_restore=script))
