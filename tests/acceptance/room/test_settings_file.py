"""Commands in a second terminal, with nothing exported: below the room's folder they find it."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path

from tests.acceptance.room.desk import Desk
from tests.support.commands import Answer, run_ops
from tests.support.programs import needs_root


def elsewhere(folder: Path, *arguments: str) -> Answer:
    """A command in that folder, with an environment that knows nothing of the room."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OPS_", "PREFECT_", "PG"))}
    return run_ops(*arguments, env=clean | {"COLUMNS": "200"}, cwd=folder, timeout=180)


def test_room_wrote_where_it_is_and_a_command_below_finds_it(desk: Desk) -> None:
    written = tomllib.loads((desk.home / "ops.toml").read_text())
    ports = dict(zip(("prefect_port", "health_port", "exporter_port"), desk.ports, strict=True))
    assert written == {"home": ".", **ports}
    below = desk.home.parent / "some" / "where"
    below.mkdir(parents=True, exist_ok=True)
    status = json.loads(elsewhere(below, "status", "--json").out)
    assert (status["home"], status["state"]) == (str(desk.home), "ready")
    answer = elsewhere(below, "run", "odoo_db_backup", "-p", "odoo_db=no_such_database", "--lane", "A", "--json")
    assert json.loads(answer.fine())["address"].startswith(f"http://127.0.0.1:{desk.ports[0]}/v2/runs/flow-run/")


def test_command_outside_finds_no_room(desk: Desk, tmp_path: Path) -> None:
    assert f"no room runs in {tmp_path}/.ops" in elsewhere(tmp_path, "status").refused(3)


@needs_root
def test_room_that_another_user_planted_is_refused_and_named(desk: Desk, tmp_path: Path) -> None:
    planted = tmp_path / ".ops"
    planted.mkdir(mode=0o755)
    (planted / "ops.toml").write_text(f'home = "{desk.home}"\npg_bin = "/tmp/evil"\n')
    os.chown(planted, 65534, 65534)
    line = elsewhere(tmp_path, "runs").refused(2)
    assert f"{planted}/ops.toml is not read: {planted} belongs to nobody" in line
    assert "OPS_HOME=" in line
