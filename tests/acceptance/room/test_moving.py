"""A room that works moves to another host: by `ops db backup` here and `ops db restore` there, and nothing else."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from deployments.room.postgres import EmbeddedPostgres
from tests.acceptance.room.conftest import save_block
from tests.acceptance.room.desk import START_SECONDS, Desk
from tests.support.children import free_port
from tests.support.cluster import copy_cluster
from tests.support.commands import run_ops_anew
from tests.support.programs import needs_root
from tests.support.waiting import wait_for

HOST = "the-other-host"
BACKUP = ("odoo_db_backup", "-p", "odoo_db=odoo_shop", "-p", "target=second-disk")
SECRET = "what-only-the-block-knows-7Q"
TEMPLATES = {
    "asking": 'kind: asking\ndescription: Asks.\nsteps:\n  - {name: apply, command: "echo applied", timeout: 60, '
    'approval: {question: "Shall it?", timeout: 3600}}\n',
    "lasting": 'kind: lasting\ndescription: Lasts.\nsteps:\n  - {name: wait, command: "sleep 300", timeout: 600}\n',
}


@pytest.fixture
def shared(own_folder: Path) -> dict[str, str]:
    """The settings that the rooms on both hosts have: what is on disks that move along, and the alerts."""
    templates = own_folder / "templates"
    templates.mkdir()
    for name, text in TEMPLATES.items():
        (templates / f"{name}.yaml").write_text(text)
    for name in ("backups", "disk"):
        (own_folder / name).mkdir(mode=0o700)
    return {
        "OPS_TEMPLATES": str(templates),
        "OPS_BACKUP_DIR": str(own_folder / "backups"),
        "OPS_ALERT_URLS": "json://127.0.0.1:9/alerts",
        "OPS_LOST_SECONDS": "10",
        "OPS_DRAIN_SECONDS": "1",
    }


def listening(settings: dict[str, str]) -> dict[str, str]:
    return {**settings, "OPS_DATABASE_LISTEN": f"127.0.0.1:{free_port()}"}


@pytest.fixture
def old(own_folder: Path, shared_folder: Path, shared: dict[str, str]) -> Desk:
    desk = Desk(own_folder / "old" / ".ops", listening(shared))
    desk.home.mkdir(mode=0o700, parents=True)
    copy_cluster(shared_folder, EmbeddedPostgres(desk.home / "postgres"))
    return desk


@pytest.fixture
def new(own_folder: Path, shared: dict[str, str]) -> Iterator[Desk]:
    desk = Desk(own_folder / "elsewhere" / "room", listening(shared))
    desk.home.parent.mkdir(parents=True)
    yield desk
    desk.stop()


def start_as(desk: Desk, host: str) -> None:
    """Start a room on a host of another name."""
    named = ("unshare", "--uts", "sh", "-c", f'hostname {host}; exec "$@"', "sh")
    run_ops_anew("up", "--detach", env=desk.env, cwd=desk.home.parent, timeout=START_SECONDS, before=named).fine()


def python_in(desk: Desk, code: str) -> str:
    """What a program prints that uses Prefect's client in that room."""
    begin = (
        "from deployments.server import access\nfrom opsdb.settings import load_settings\naccess.use(load_settings())\n"
    )
    done = subprocess.run(
        [desk.command()[0], "-c", begin + code],
        env=desk.env,
        cwd=desk.home.parent,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def make_database(desk: Desk, name: str) -> None:
    with desk.database("postgres") as db:
        db.execute(f"CREATE DATABASE {name} TEMPLATE template0".encode())
    with desk.database(name) as db:
        db.execute("CREATE TABLE res_partner AS SELECT n AS id FROM generate_series(1, 100) n")


def owner_of(disk: Path) -> str:
    return str(json.loads((disk / "ops-room.json").read_text())["room"])


def status_of(desk: Desk, run: dict[str, Any]) -> str:
    return str(desk.json("show", run["id"])["status"])


class Life:
    """What a room has done, and what it holds, before it moves."""

    def __init__(self, desk: Desk, folder: Path) -> None:
        make_database(desk, "odoo_shop")
        save_block(desk, "backup_target.BackupTarget", "second-disk", folder=str(folder / "disk"))
        self.proven = desk.run(*BACKUP)
        assert self.proven["status"] == "succeeded", self.proven
        python_in(desk, f"from prefect.blocks.system import Secret\nSecret(value={SECRET!r}).save('mine')")
        desk.ops("schedule", "set", "nightly-backup", "--at", "03:30", "--tz", "Asia/Manila").fine()
        self.password = desk.ops("db", "login", "superset", "--role", "superset_ro").fine().strip()
        self.asking = json.loads(desk.ops("run", "asking", "--json").fine())
        self.lasting = json.loads(desk.ops("run", "lasting", "--lane", "B", "--json").fine())
        wait_for(lambda: desk.json("show", self.asking["id"])["waits_for_approval"], seconds=60, what="it asks")
        wait_for(lambda: status_of(desk, self.lasting) == "running", seconds=60, what="it runs")
        self.schedules = desk.json("schedule", "list")
        self.place = owner_of(folder / "disk")

    def is_shown(self, desk: Desk) -> None:
        """All of it is there, and can be used."""
        ids = {run["id"] for run in (self.proven, self.asking, self.lasting)}
        assert ids <= {run["id"] for run in desk.json("runs")}
        assert python_in(desk, "from prefect.blocks.system import Secret\nprint(Secret.load('mine').get())") == SECRET
        (backup,) = desk.json("backups", "odoo_shop", "--check")
        assert (backup["good"], backup["bytes_checked"], backup["made_by_run"]) == (True, True, self.proven["id"])
        schedules = desk.json("schedule", "list")
        assert len(schedules) == len(self.schedules)
        assert "Asia/Manila" in json.dumps(schedules)
        host, _, port = desk.settings["OPS_DATABASE_LISTEN"].rpartition(":")
        with psycopg.connect(host=host, port=port, user="superset", password=self.password, dbname="ops") as db:
            counted = db.execute("SELECT count(*) FROM ops.runs WHERE id = %s", [self.proven["id"]]).fetchone()
            assert counted == (1,)

    def goes_on(self, desk: Desk, folder: Path) -> None:
        """What ran is over, what waits waits, and what is new works, at the place that was the old room's."""
        wait_for(lambda: status_of(desk, self.lasting) == "failed", seconds=120, what="the run that was lost is over")
        told = desk.json("show", self.lasting["id"])
        assert told["error"]["type"] == "HeartbeatTimeout", told["error"]
        assert any("No worker confirmed" in event["message"] for event in told["events"]), told["events"]
        assert told["attempt"] == 1
        assert desk.json("show", self.asking["id"])["waits_for_approval"]
        desk.ops("approve", self.asking["id"]).fine()
        wait_for(lambda: status_of(desk, self.asking) == "succeeded", seconds=90, what="what was approved is done")
        make_database(desk, "odoo_shop")
        copied = desk.run(*BACKUP)
        assert copied["status"] == "succeeded", copied
        assert owner_of(folder / "disk") != self.place
        with desk.database("ops") as db:
            twice = db.execute("SELECT tick FROM ops.runs WHERE tick IS NOT NULL GROUP BY 1 HAVING count(*) > 1")
            assert twice.fetchall() == []


@needs_root
def test_room_moves_to_another_host_with_all_that_it_knows(old: Desk, new: Desk, own_folder: Path) -> None:
    passphrase = own_folder / "passphrase"
    passphrase.write_text("correct horse battery staple\n")
    passphrase.chmod(0o600)
    by = ("--passphrase-file", str(passphrase))
    old.start()
    try:
        life = Life(old, own_folder)
        made = old.json("db", "backup", "--to", str(own_folder), *by)
        assert (made["room_ran"], made["unfinished"]["running"]) == (True, 1)
        assert SECRET.encode() not in Path(made["file"]).read_bytes()
    finally:
        old.stop()
    forgetful = replace(new, settings={name: new.settings[name] for name in new.settings if name != "OPS_ALERT_URLS"})
    assert "OPS_ALERT_URLS" in forgetful.ops("db", "restore", made["file"], "--take-over", *by).fine()
    start_as(new, HOST)
    life.is_shown(new)
    life.goes_on(new, own_folder)
    dry = new.ops("db", "restore", made["file"], "--take-over", "--replace", "--dry-run", *by)
    assert (dry.code, "A room runs in " in dry.err, "database ops_before_" in dry.out) == (0, True, True), dry
