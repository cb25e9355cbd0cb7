"""The room of somebody who is not root: its PostgreSQL and all else runs as that user."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.room.desk import Desk
from tests.commands import Answer, run_ops_anew
from tests.programs import program

USER = "daemon"
"""Exists on every host. In a namespace of its own it owns what root owns outside, and has none of root's rights."""


def become() -> list[str]:
    """The words before a command of that user's. Skips where the host forbids to make user namespaces."""
    words = [program("unshare", package="util-linux"), "--user", f"--map-user={USER}", f"--map-group={USER}"]
    tried = subprocess.run([*words, "true"], check=False, capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"user namespaces are forbidden here: {tried.stderr.strip()}")
    return words


def test_room_of_an_ordinary_user_starts_backs_up_and_stops(own_folder: Path) -> None:
    desk = Desk(own_folder / "room")
    words = become()

    def ops(*arguments: str) -> Answer:
        env = {**desk.env, "HOME": str(own_folder)}
        return run_ops_anew(*arguments, env=env, cwd=own_folder, timeout=600, before=words)

    try:
        ops("up", "--detach").fine()
        inside = {int(Path(f"/proc/{pid}/loginuid").stat().st_uid) for pid in desk.processes()}
        assert inside == {os.geteuid()}  # nobody else's: no account of PostgreSQL's own
        with desk.database("postgres") as db:
            db.execute("CREATE DATABASE odoo_shop TEMPLATE template0")
        with desk.database("odoo_shop") as db:
            db.execute("CREATE TABLE partner AS SELECT n AS id FROM generate_series(1, 100) n")
        assert "succeeded" in ops("run", "odoo_db_backup", "-p", "odoo_db=odoo_shop", "--wait").fine()
    finally:
        ops("down").fine()
    assert desk.processes() == {}
