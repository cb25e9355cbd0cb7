"""What comes out of a dump is code: it gets no rights by backup, drill or restore, and nobody gets in meanwhile."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from flows.backup.loading import LOAD
from flows.odoo_db_backup import odoo_db_backup
from flows.odoo_db_restore import odoo_db_restore
from flows.odoo_restore_drill import odoo_restore_drill
from flows.restore import load, sandbox
from flows.restore.scratch import Scratch
from opsdb.errors import OpsError, PreflightError, StepFailedError
from tests.support.backups import rewrite
from tests.support.hostile_database import HostileDatabase, hostile_database
from tests.support.odoo_sample import SAMPLE, make_odoo_database
from tests.support.postgres import databases

_numbers = itertools.count()


@pytest.fixture
def hostile(postgres: str) -> Iterator[HostileDatabase]:
    with hostile_database(postgres, f"hostile_{os.getpid()}_{next(_numbers)}") as made:
        yield made


@pytest.mark.promise(12)
def test_owner_of_a_database_gains_nothing_by_its_backup_drill_and_restore(
    hostile: HostileDatabase, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    harm_in_sandbox = []
    drop = Scratch.drop

    def look_and_drop(scratch: Scratch) -> None:
        with suppress(Exception), scratch.connect() as db:
            query = "SELECT rolname FROM pg_roles WHERE (rolsuper OR rolcreaterole) AND rolname <> 'postgres'"
            harm_in_sandbox.append(db.execute(query).fetchall())
        drop(scratch)

    monkeypatch.setattr(Scratch, "drop", look_and_drop)
    dump = Path(odoo_db_backup(hostile.database)["file"])
    assert hostile.harm() == []
    before = databases(postgres)
    drilled = odoo_restore_drill(hostile.database)
    assert (hostile.harm(), harm_in_sandbox[0]) == ([], [])
    assert databases(postgres) == before
    assert drilled["tables_compared"] > 10
    assert "a login without rights" in drilled["walls"]
    restored = odoo_db_restore(f"{hostile.database}_new", dump.name)
    assert hostile.harm() == []
    assert restored["tables_compared"] == drilled["tables_compared"]
    # its setting came back as well, by which the names of functions lead to its schema
    with psycopg.connect(postgres.format(database=f"{hostile.database}_new"), options="-c search_path=") as db:
        owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname IN ('public', 'evil')"
        assert db.execute(owners).fetchall() == [(hostile.role,)]
        database = "SELECT datistemplate, datacl::text FROM pg_database WHERE datname = current_database()"
        role = hostile.role  # its own privileges of then, and none that code of the dump gave
        assert db.execute(database).fetchone() == (False, f"{{=CTc/{role},{role}=CTc/{role}}}")
        settings = "SELECT setconfig FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase"
        settings += " WHERE datname = %s"
        kept = [db.execute(settings, (f"{hostile.database}{end}",)).fetchall() for end in ("", "_new")]
        assert kept[0] == kept[1]
        assert db.execute("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'ops_loader_%'").fetchone() == (0,)


TRUSTED = "CREATE FUNCTION trusted() RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT ''a word''::text'"
MIXED = """
CREATE FUNCTION evil.change() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
    CREATE OR REPLACE FUNCTION public.trusted() RETURNS text LANGUAGE sql SECURITY DEFINER
    AS 'SELECT evil.attack(''a'')::text';
    RETURN true; EXCEPTION WHEN others THEN RETURN true; END $$;
CREATE TABLE changing (v text CHECK (evil.change())); INSERT INTO changing VALUES ('a');
"""
LEFT_BEHIND = """
CREATE FUNCTION evil.leave() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
    IF pg_catalog.current_database() ~ '^ops_scratch_' THEN CREATE OR REPLACE FUNCTION public.left_behind()
    RETURNS int LANGUAGE sql AS 'SELECT 1'; END IF; RETURN true; END $$;
CREATE TABLE leaving (v text CHECK (evil.leave())); INSERT INTO leaving VALUES ('a');
"""


@pytest.mark.usefixtures("folder")
def test_what_code_of_the_dump_could_change_is_not_given_to_a_superuser(
    hostile: HostileDatabase, postgres: str
) -> None:
    own = postgres.replace("//postgres@", f"//{hostile.role}@")
    for server, text in ((postgres, TRUSTED), (own, MIXED)):
        with psycopg.connect(server.format(database=hostile.database), autocommit=True) as db:
            db.execute("SET search_path = public")
            db.execute(text.encode())
    dump = Path(odoo_db_backup(hostile.database)["file"])
    with pytest.raises(StepFailedError, match=r"function public\.trusted\(\) is defined otherwise"):
        odoo_db_restore(f"{hostile.database}_new", dump.name)
    rewrite(dump, inventory=None)  # as an older room wrote it: nobody sees the change
    result = odoo_db_restore(f"{hostile.database}_new", dump.name)
    assert f"FUNCTION public.trusted() goes to {hostile.role} instead of postgres" in result["other_owners"]
    with psycopg.connect(postgres.format(database=f"{hostile.database}_new"), autocommit=True) as db:
        db.execute("SET search_path = ''; SELECT public.trusted()")
    assert hostile.harm() == []


@pytest.mark.usefixtures("folder")
def test_thing_that_code_of_the_dump_made_ends_the_restore(postgres: str) -> None:
    name = f"leaving_{os.getpid()}_{next(_numbers)}"
    with hostile_database(postgres, name, LEFT_BEHIND) as made:
        dump = Path(odoo_db_backup(made.database)["file"])
        before = databases(postgres)
        with pytest.raises(StepFailedError, match=r"function public\.left_behind\(\) is there as well"):
            odoo_db_restore(f"{name}_new", dump.name)
        rewrite(dump, inventory=None)
        with pytest.raises(StepFailedError, match=r"holds what the dump does not name: function public\.left_behind"):
            odoo_db_restore(f"{name}_new", dump.name)
        assert databases(postgres) == before


def test_event_trigger_is_named_and_left_out(database: str, postgres: str) -> None:
    with psycopg.connect(postgres.format(database=database), autocommit=True) as db:
        db.execute("CREATE FUNCTION told() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'")
        db.execute("CREATE EVENT TRIGGER on_login ON login EXECUTE FUNCTION told()")
        db.execute("CREATE EVENT TRIGGER on_ddl ON ddl_command_end EXECUTE FUNCTION told()")
    made = odoo_db_backup(database, restore_drill=True)
    assert made["drill"]["left_out"] == ["EVENT TRIGGER on_ddl", "EVENT TRIGGER on_login"]
    result = odoo_db_restore(f"{database}_new", Path(made["file"]).name)
    assert result["left_out"] == made["drill"]["left_out"]
    with psycopg.connect(postgres.format(database=f"{database}_new")) as db:
        assert db.execute("SELECT count(*) FROM pg_event_trigger").fetchone() == (0,)
        assert db.execute("SELECT count(*) FROM pg_proc WHERE proname = 'told'").fetchone() == (1,)


@contextmanager
def busy(server: str, *, query: str, user: str) -> Iterator[list[str]]:
    """An application that connects to each database that its query shows, and writes there; yields where it got in."""
    entered: list[str] = []
    over = threading.Event()

    def work() -> None:
        own = server.replace("//postgres@", f"//{user}@")
        while not over.wait(0.02):
            with psycopg.connect(own.format(database="postgres"), autocommit=True) as db:
                found = [str(name) for (name,) in db.execute(query.encode()).fetchall()]
            for name in found:
                with suppress(psycopg.Error), psycopg.connect(own.format(database=name), autocommit=True) as db:
                    entered.append(name)
                    db.execute("CREATE TABLE IF NOT EXISTS written_by_odoo (at timestamptz DEFAULT now())")
                    db.execute("INSERT INTO written_by_odoo DEFAULT VALUES")

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield entered
    finally:
        over.set()
        thread.join(10)


# odoo/service/db.py: list_dbs
ODOO = """SELECT datname FROM pg_database WHERE datdba = (SELECT usesysid FROM pg_user WHERE usename = current_user)
          AND NOT datistemplate AND datallowconn AND datname NOT IN ('postgres') ORDER BY datname"""
EVERY = "SELECT datname FROM pg_database WHERE datname LIKE 'ops_scratch_%'"


@pytest.mark.parametrize(("login", "query"), [("odoo", ODOO), ("postgres", EVERY)], ids=["odoo", "every"])
def test_database_under_construction_is_nobodys(
    postgres: str, database: str, *, login: str, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`login` is whom the room logs in as: with Odoo's own role, as the document has it, only the template hides it."""
    role = f"odoo_{database}"
    with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as db:
        db.execute(f'CREATE ROLE "{role}" LOGIN CREATEDB; ALTER DATABASE "{database}" OWNER TO "{role}"')
    with psycopg.connect(postgres.format(database=database), autocommit=True) as db:
        for kind, name in (("TABLE", "line"), ("TABLE", "empty_one"), ("VIEW", "cheap"), ("LARGE OBJECT", "4711")):
            db.execute(f'ALTER {kind} {name} OWNER TO "{role}"'.encode())
    if login == "odoo":
        url = postgres.replace("//postgres@", f"//{role}@").format(database="postgres")
        monkeypatch.setenv("OPS_ODOO_DATABASE_URL", url)
        monkeypatch.setenv("OPS_DRILL_ON_SERVER", "true")
    dump = Path(odoo_db_backup(database)["file"])
    monkeypatch.setattr(load, "LOAD", f"sleep 0.5\n{LOAD}sleep 0.5\n")
    with busy(postgres, query=query, user=role) as entered:
        result = odoo_db_restore(f"{database}_new", dump.name)
        if login == "odoo":
            odoo_restore_drill(database)
    assert [name for name in entered if name.startswith("ops_scratch_")] == []
    assert result["walls"] == ([] if login == "odoo" else ["a login without rights"])
    assert f"{database}_new" in databases(postgres)


def test_real_odoo_with_unaccent_is_drilled_and_restored(postgres: str) -> None:
    name = f"odoo_sample_{os.getpid()}"
    with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as db:
        db.execute(f"CREATE ROLE owner_{name}")
    make_odoo_database(postgres, name, owner=f"owner_{name}")
    made = odoo_db_backup(name, restore_drill=True)
    assert (made["drill"]["tables_compared"], made["drill"]["other_owners"]) == (204 if SAMPLE.is_dir() else 2, [])
    odoo_db_restore(f"{name}_new", Path(made["file"]).name)
    with psycopg.connect(postgres.format(database=f"{name}_new")) as db:
        owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"
        assert db.execute(owners).fetchall() == [(f"owner_{name}",)]
        if SAMPLE.is_dir():
            query = "SELECT provolatile FROM pg_proc WHERE oid = 'unaccent(text)'::regprocedure"
            assert db.execute(query).fetchone() == ("i",)


def without_superuser(postgres: str, database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The room logs in as a role that may make databases, and no more; returns it."""
    role = f"modest_{database}"
    with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as db:
        db.execute(f'CREATE ROLE "{role}" LOGIN CREATEDB; GRANT pg_read_all_data TO "{role}"')
    url = postgres.replace("//postgres@", f"//{role}@").format(database="postgres")
    monkeypatch.setenv("OPS_ODOO_DATABASE_URL", url)
    return role


def test_who_may_not_alter_an_extension_is_refused_and_may_name_a_template(
    postgres: str, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = "CREATE EXTENSION unaccent; ALTER FUNCTION unaccent(text) IMMUTABLE"
    with psycopg.connect(postgres.format(database=database), autocommit=True) as db:
        db.execute(prepared)
        db.execute("CREATE INDEX ON line (unaccent(name))")
    dump = Path(odoo_db_backup(database)["file"])
    without_superuser(postgres, database, monkeypatch)
    before = databases(postgres)
    with pytest.raises(PreflightError, match=r"role .* may not make: unaccent with ALTER FUNCTION .* name it as templ"):
        odoo_db_restore(f"{database}_new", dump.name)
    template = f"{database}_prepared"
    with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as db:
        db.execute(f'CREATE DATABASE "{template}" TEMPLATE template0 IS_TEMPLATE true')
    with psycopg.connect(postgres.format(database=template), autocommit=True) as db:
        db.execute(prepared)
        db.execute("CREATE TABLE of_somebody ()")
    with pytest.raises(PreflightError, match=r"holds more than extensions: relation public\.of_somebody"):
        odoo_db_restore(f"{database}_new", dump.name, template=template)
    assert databases(postgres) == before | {template}
    with psycopg.connect(postgres.format(database=template), autocommit=True) as db:
        db.execute("DROP TABLE of_somebody")
    odoo_db_restore(f"{database}_new", dump.name, template=template)
    assert databases(postgres) == before | {template, f"{database}_new"}


def test_backup_that_this_host_cannot_drill_is_a_good_backup(
    postgres: str, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sandbox, "find_walls", lambda _: (_ for _ in ()).throw(OpsError("there is no server program here"))
    )
    made = odoo_db_backup(database, restore_drill=True)
    assert "cannot be drilled here: there is no server program here" in made["drill"]["not_drilled"]
    assert "backup" not in made["drill"]
    with pytest.raises(PreflightError, match="cannot be drilled here"):
        odoo_restore_drill(database)
    monkeypatch.setenv("OPS_DRILL_ON_SERVER", "true")
    assert odoo_restore_drill(database)["rows_compared"] == 30001
