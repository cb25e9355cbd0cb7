"""The same room on a PostgreSQL server of the operator's."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.acceptance.room.desk import Desk
from tests.support.postgres import running

PASSWORD = "correct-horse-battery-7Q"


@pytest.fixture
def server(own_folder: Path) -> Iterator[str]:
    """A server with an empty database `ops` and an Odoo database: a URL with `{database}` in it."""
    with running(own_folder / "server") as url:
        with psycopg.connect(url.format(database="postgres"), autocommit=True) as db:
            db.execute("CREATE DATABASE ops TEMPLATE template0")
            db.execute("CREATE DATABASE odoo_shop TEMPLATE template0")
        with psycopg.connect(url.format(database="odoo_shop")) as db:
            db.execute("CREATE TABLE partner AS SELECT n AS id FROM generate_series(1, 1000) n")
        yield url.replace("postgres@", f"postgres:{PASSWORD}@")


def test_room_works_on_another_server_and_leaves_it_running(own_folder: Path, server: str) -> None:
    desk = Desk(own_folder / "room", {"OPS_DATABASE_URL": server.format(database="ops")})
    assert "OPS_DATABASE_URL" in desk.ops("up", "--demo").refused(2)
    assert not desk.home.exists()
    try:
        started = desk.start()
        assert "postgres" not in [part["name"] for part in desk.json("status")["parts"]]
        run = desk.run("odoo_db_backup", "-p", "odoo_db=odoo_shop")
        assert run["status"] == "succeeded", run
        assert Path(run["result"]["file"]).stat().st_size == run["result"]["size_bytes"]
        assert [line for line in desk.processes().values() if PASSWORD in line] == []
    finally:
        desk.stop()
    assert not (desk.home / "postgres").exists()
    assert PASSWORD not in started.out + started.err
    holders = [path for path in desk.home.rglob("*") if path.is_file() and PASSWORD.encode() in path.read_bytes()]
    assert holders == []
    assert stat.S_IMODE(desk.home.stat().st_mode) & 0o077 == 0
    with psycopg.connect(server.format(database="ops")) as db:
        assert db.execute("SELECT status FROM ops.runs").fetchall() == [("succeeded",)]
