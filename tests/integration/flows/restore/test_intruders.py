"""Who tries to get into a restore, or to slip something into what the room does as a superuser, does not."""

from __future__ import annotations

import hashlib
import itertools
import os
from pathlib import Path

import psycopg
import pytest

from flows.backup.attachments import read_names
from flows.odoo_db_backup import odoo_db_backup
from flows.odoo_db_restore import odoo_db_restore
from flows.odoo_restore_drill import odoo_restore_drill
from flows.restore.scratch import Scratch
from opsdb.errors import PreflightError
from tests.support.backups import manifest_at, unsigned_text
from tests.support.hostile_database import hostile_database

_numbers = itertools.count()
LETS_IN = """
CREATE FUNCTION evil.let_in() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO {role}', pg_catalog.current_database());
    RETURN true; EXCEPTION WHEN others THEN RETURN true; END $$;
CREATE TABLE letting (v text CHECK (evil.let_in())); INSERT INTO letting VALUES ('a');
"""
LONG = """
CREATE FUNCTION public.a_name_that_has_room_for_more_than_that_of_a_role_or_another() RETURNS int
LANGUAGE sql AS 'SELECT 1'
"""


def test_whoever_code_of_the_dump_lets_in_is_out_before_it_is_compared(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"letting_in_{os.getpid()}_{next(_numbers)}"
    shut, entered = Scratch.shut, list[str]()

    def enter_and_shut(scratch: Scratch) -> None:
        url = postgres.replace("//postgres@", f"//mallory_{name}@").format(database=scratch.name)
        inside = psycopg.connect(url)
        entered.append(scratch.name)
        shut(scratch)
        with pytest.raises(psycopg.OperationalError):
            inside.execute("SELECT 1")
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            psycopg.connect(url)

    with hostile_database(postgres, name, LETS_IN) as made:
        dump = Path(odoo_db_backup(made.database)["file"])
        monkeypatch.setattr(Scratch, "shut", enter_and_shut)
        odoo_db_restore(f"{name}_new", dump.name)
        assert len(entered) == 1
        assert made.harm() == []


def test_what_an_unsigned_archive_says_of_owners_is_not_executed(postgres: str) -> None:
    name = f"forged_{os.getpid()}_{next(_numbers)}"
    with hostile_database(postgres, name, LONG) as made:
        dump = Path(odoo_db_backup(made.database)["file"])
        manifest = manifest_at(Path(f"{dump}.json"))
        assert manifest is not None
        ours, data = (
            b"DROP FUNCTION public.a_name_that_has_room_for_more_than_that_of_a_role_or_another();",
            dump.read_bytes(),
        )
        assert data.count(ours) == 1
        dump.write_bytes(data.replace(ours, f"DROP ROLE {made.role} SUPERUSER --".encode().ljust(len(ours))))
        forged = manifest.model_copy(update={"sha256": hashlib.sha256(dump.read_bytes()).hexdigest()})
        Path(f"{dump}.json").write_text(unsigned_text(forged))
        assert odoo_restore_drill(made.database, dump.name)["signature"] == "unsigned"
        result = odoo_db_restore(f"{name}_new", dump.name, unsigned=True)
        assert (made.harm(), result["not_restored"]) == ([], [])
        with psycopg.connect(postgres.format(database=f"{name}_new")) as db:
            owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"
            assert db.execute(owners).fetchall() == [(f"{name}_new_owner",)]
            rights = "SELECT rolcanlogin, rolsuper, rolbypassrls FROM pg_roles WHERE rolname = %s"
            assert db.execute(rights, (f"{name}_new_owner",)).fetchone() == (False, False, False)
        with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as db:
            db.execute(f"DROP DATABASE {name}_new")
        with pytest.raises(PreflightError, match=f"there is a role {name}_new_owner already"):
            odoo_db_restore(f"{name}_new", dump.name, unsigned=True)
        with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as db:
            db.execute(f"DROP ROLE {name}_new_owner")


def test_children_of_a_table_are_not_asked_for_attachments(postgres: str, database: str) -> None:
    """A foreign table among them executes what another server says, with a login of its owner's choice."""
    with psycopg.connect(postgres.format(database=database), autocommit=True) as db:
        db.execute("CREATE TABLE ir_attachment (store_fname text); CREATE SCHEMA aside")
        db.execute("CREATE TABLE aside.child () INHERITS (ir_attachment)")
        db.execute("INSERT INTO aside.child VALUES ('ab/' || repeat('a', 40))")
        db.execute("INSERT INTO ir_attachment VALUES ('cd/' || repeat('c', 40))")
        assert read_names(db) == {f"cd/{'c' * 40}"}


def test_tables_that_force_policies_on_their_owner_are_compared(postgres: str, database: str) -> None:
    role = f"forced_{database}"
    with psycopg.connect(postgres.format(database=database), autocommit=True) as db:
        db.execute(f"CREATE ROLE {role}; GRANT CREATE ON SCHEMA public TO {role}; SET ROLE {role}")
        db.execute("CREATE TABLE forced (n int); INSERT INTO forced VALUES (1)")
        db.execute("ALTER TABLE forced ENABLE ROW LEVEL SECURITY; ALTER TABLE forced FORCE ROW LEVEL SECURITY")
    dump = Path(odoo_db_backup(database)["file"])
    assert (
        odoo_restore_drill(database)["rows_compared"] == odoo_db_restore(f"{database}_new", dump.name)["rows_compared"]
    )
