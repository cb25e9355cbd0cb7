"""A room whose databases are on a server over TLS: its own connections, and those of the programs that it starts."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from deployments.room.postgres import PROGRAMS
from tests.acceptance.room.desk import Desk
from tests.support.servers import programs_with_tls
from tests.support.tls_servers import TAKES_BOTH, tls_server

PASSWORD = "correct-horse-battery-7Q"
BACKUP = ("odoo_db_backup", "-p", "odoo_db=odoo_shop")


@pytest.mark.promise(17)
def test_room_on_a_server_that_takes_both_sends_nothing_in_plaintext(own_folder: Path) -> None:
    (own_folder / "server").mkdir(mode=0o711)
    with tls_server(18, own_folder / "server", hba=TAKES_BOTH) as server:
        with psycopg.connect(server.socket.format(database="postgres"), autocommit=True) as db:
            db.execute(f"CREATE ROLE room LOGIN SUPERUSER PASSWORD '{PASSWORD}'".encode())
            db.execute("CREATE DATABASE ops TEMPLATE template0")
            db.execute("CREATE DATABASE odoo_shop TEMPLATE template0")
        with psycopg.connect(server.socket.format(database="odoo_shop"), autocommit=True) as db:
            db.execute("CREATE TABLE partner AS SELECT n AS id FROM generate_series(1, 1000) n")
        settings = {
            "OPS_DATABASE_URL": server.url("room", password=PASSWORD).format(database="ops"),
            "OPS_ODOO_DATABASE_URL": server.url("room", password=PASSWORD, sslmode="prefer").format(database="ops"),
            "OPS_PG_BIN": str(programs_with_tls()),
        }
        desk = Desk(own_folder / "room", settings)
        without = {"OPS_PG_BIN": str(PROGRAMS)}
        try:
            desk.start()
            run = desk.run(*BACKUP, "-p", "restore_drill=true")
            assert run["status"] == "succeeded", run
            planned = desk.ops("run", *BACKUP, "--dry-run", env=without)
            assert (planned.code, "It would fail, and change nothing" in planned.out) == (1, True), planned
            assert "built without TLS" in planned.out
            assert "built without TLS" in desk.ops("doctor", env=without).out
        finally:
            desk.stop()
        assert server.logins(tls=False) == []
        assert any("application_name=ops-backup" in one for one in server.logins(tls=True))
