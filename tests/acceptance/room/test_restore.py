"""A backup is made, drilled and restored by the commands of a room, and `ops backups` tells of it."""

from __future__ import annotations

import pytest

from tests.acceptance.room.desk import Desk
from tests.support.hostile_database import hostile_database
from tests.support.live_odoo import make_live_odoo
from tests.support.waiting import wait_for


@pytest.mark.promise(9)
@pytest.mark.promise(11)
def test_backup_is_drilled_restored_and_listed_with_its_proof(desk: Desk, database: str) -> None:
    with desk.database("postgres") as db:
        db.execute(f"ALTER DATABASE {database} OWNER TO pg_monitor".encode())
        db.execute(f"ALTER DATABASE {database} SET search_path = app, public".encode())
    made = desk.run("odoo_db_backup", "-p", f"odoo_db={database}")
    assert made["status"] == "succeeded", made
    (listed,) = desk.json("backups", database)
    assert (listed["good"], listed["made_by_run"], listed["restored_at"]) == (True, made["id"], None)
    assert listed["rows"] == made["result"]["rows"]

    drill = desk.run("odoo_restore_drill", "-p", f"odoo_db={database}")
    assert drill["status"] == "succeeded", drill
    assert drill["result"]["rows_compared"] == listed["rows"]
    (listed,) = desk.json("backups", database, "--check")
    assert (listed["good"], listed["bytes_checked"], listed["restored_by_run"]) == (True, True, drill["id"])
    assert listed["restore_seconds"] == drill["result"]["restore_seconds"]

    new = f"{database}_restored"
    restored = desk.run("odoo_db_restore", "-p", f"odoo_db={new}", "-p", f"backup={listed['file']}")
    assert restored["status"] == "succeeded", restored
    assert restored["result"]["not_restored"] == []
    with desk.database(new) as db:
        assert db.execute("SHOW search_path").fetchone() == ("app, public",)
        owner = "SELECT datdba::regrole::text FROM pg_database WHERE datname = current_database()"
        assert db.execute(owner).fetchone() == ("pg_monitor",)
    with desk.database("postgres") as db:
        left = db.execute("SELECT datname FROM pg_database WHERE datname LIKE 'ops\\_scratch%'").fetchall()
        assert left == []
        again = desk.run("odoo_db_restore", "-p", f"odoo_db={new}", "-p", f"backup={listed['file']}")
        assert "is not touched" in again["error"]["message"]
        db.execute(f"DROP DATABASE {new} WITH (FORCE)".encode())


@pytest.mark.promise(12)
def test_owner_of_a_database_gains_nothing_in_a_room(desk: Desk) -> None:
    with hostile_database(desk.url("{database}"), "hostile_in_a_room") as hostile:
        made = desk.run("odoo_db_backup", "-p", f"odoo_db={hostile.database}", "-p", "restore_drill=true")
        assert made["status"] == "succeeded", made
        assert made["result"]["drill"]["tables_compared"] > 10
        (listed,) = desk.json("backups", hostile.database)
        new = f"{hostile.database}_new"
        restored = desk.run("odoo_db_restore", "-p", f"odoo_db={new}", "-p", f"backup={listed['file']}")
        assert restored["status"] == "succeeded", restored
        assert hostile.harm() == []


@pytest.mark.promise(12)
def test_copy_of_an_odoo_is_neutralised_and_production_waits_for_a_person(desk: Desk) -> None:
    name = "live_in_a_room"
    make_live_odoo(desk.url("{database}"), name, owner="postgres")
    desk.run("odoo_db_backup", "-p", f"odoo_db={name}")
    parameters = ("-p", f"backup={name}", "-p", f"odoo_db={name}_copy")
    planned = desk.json("run", "odoo_db_restore", *parameters, "--dry-run")["steps"]
    assert planned[1]["command"].startswith(f"{name}_copy will be published neutralised")
    copied = desk.run("odoo_db_restore", *parameters)
    assert copied["status"] == "succeeded", copied
    with desk.database(f"{name}_copy") as db:
        assert db.execute("SELECT count(*) FROM ir_cron WHERE active").fetchone() == (1,)
        assert db.execute("SELECT count(*) FROM mail_mail WHERE state = 'outgoing'").fetchone() == (0,)
    again = ("-p", f"backup={name}", "-p", f"odoo_db={name}_again", "-p", "as_production=true")
    run = desk.json("run", "odoo_db_restore", *again)["id"]
    question = f"publish {name}_again as production? {name} has the same database.uuid"
    wait_for(lambda: question in "".join(desk.json("show", run)["waits_for"]), seconds=30, what="it asks")
    desk.ops("approve", run).fine()
    wait_for(lambda: desk.json("show", run)["status"] == "succeeded", seconds=60, what="it is restored")
    with desk.database(f"{name}_again") as db:
        assert db.execute("SELECT count(*) FROM mail_mail WHERE state = 'outgoing'").fetchone() == (1,)
    with desk.database("postgres") as db:
        for database in (name, f"{name}_copy", f"{name}_again"):
            db.execute(f"DROP DATABASE {database} WITH (FORCE)".encode())
