"""A backup is made, drilled and restored by the commands of a room, and `ops backups` tells of it."""

from __future__ import annotations

import pytest

from tests.acceptance.room.desk import Desk
from tests.support.hostile_database import hostile_database


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
