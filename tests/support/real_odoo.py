"""A real Odoo for tests: its web server on a PostgreSQL of the tests, and the stand-in's `docker` in front of it.

It is taken from the folder that OPS_TEST_ODOO names: one with `odoo-bin`, `addons`, and the interpreter that runs it as
`venv/bin/python`. Nothing of Odoo's own lies in this repository.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.support.children import free_port
from tests.support.stand_ins.docker import Docker
from tests.support.waiting import wait_for

FOLDER = os.environ.get("OPS_TEST_ODOO", "")
ROLE = "real_odoo"
"""Odoo's own role: no superuser, as in production."""
TEMPLATE = "real_odoo_template"
SOCKET = ".s.PGSQL.5432"
_PROGRAM = """#!/bin/sh
exec {python} {odoo} "$@"
"""
_CONFIGURATION = """\
[options]
addons_path = {addons}
data_dir = {data}
db_host = {host}
db_user = {role}
db_name = {database}
dbfilter = ^{database}$
http_interface = 127.0.0.1
http_port = {port}
list_db = False
max_cron_threads = 1
workers = 0
"""


@dataclass
class RealOdoo:
    """An Odoo of one database, as in a container of its own. `folder` holds its configuration, programs and files."""

    folder: Path
    postgres: str
    """The URL of the superuser, with `{database}` in it."""
    database: str
    addons: Path | None = None
    """The team's own modules."""
    data: Path | None = None
    """Where its filestores are, if not in a folder of its own."""
    port: int = field(default_factory=free_port)
    web: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        """Write the program `odoo`, and the configuration that ODOO_RC names."""
        source = Path(FOLDER)
        self.programs.mkdir(parents=True)
        self.filestore.mkdir(parents=True, mode=0o700, exist_ok=True)
        self.socket.mkdir()
        self.reach_postgres()
        odoo = self.programs / "odoo"
        odoo.write_text(_PROGRAM.format(python=source / "venv/bin/python", odoo=source / "odoo-bin"))
        odoo.chmod(0o755)
        addons = [source / "odoo/addons", source / "addons", *([self.addons] if self.addons else [])]
        facts = {"addons": ",".join(map(str, addons)), "data": self.filestore.parent, "host": self.socket}
        facts |= {"role": ROLE, "database": self.database, "port": self.port}
        (self.folder / "odoo.conf").write_text(_CONFIGURATION.format(**facts))

    @property
    def programs(self) -> Path:
        return self.folder / "programs"

    @property
    def filestore(self) -> Path:
        """The folder of the filestores."""
        return (self.data or self.folder / "data") / "filestore"

    @property
    def socket(self) -> Path:
        """Where Odoo finds PostgreSQL."""
        return self.folder / "pg"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """Of all programs in the container."""
        return {"ODOO_RC": str(self.folder / "odoo.conf"), "HOME": str(self.folder)}

    @property
    def log(self) -> str:
        """What the web server said so far."""
        return (self.folder / "web.log").read_text()

    def run(self, *words: str, script: str = "") -> str:
        """Run `odoo` in the container to its end, and return all it said. Fails when it fails."""
        done = subprocess.run(
            [self.programs / "odoo", *words],
            env={"PATH": "/usr/bin:/bin", **self.environment},
            input=script,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=1800,  # on a machine with other work to do
        )
        assert done.returncode == 0, done.stdout[-3000:]
        return done.stdout

    def start(self, *words: str) -> None:
        """Start the web server, with its scheduled jobs; it answers at the end."""
        assert self.web is None
        with (self.folder / "web.log").open("ab") as log:
            self.web = subprocess.Popen(
                [self.programs / "odoo", *words],
                env={"PATH": "/usr/bin:/bin", **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for(self._answers, what="Odoo answers")

    def stop(self) -> None:
        """Stop it, if it runs."""
        if self.web is None:
            return
        os.killpg(self.web.pid, signal.SIGTERM)
        try:
            self.web.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(self.web.pid, signal.SIGKILL)
            self.web.wait(5)
        self.web = None

    def reach_postgres(self) -> None:
        """Let Odoo find PostgreSQL (again)."""
        there = conninfo_to_dict(self.postgres.format(database="postgres"))["host"]
        (self.socket / SOCKET).symlink_to(Path(str(there)) / SOCKET)

    def lose_postgres(self) -> None:
        """PostgreSQL is away, for Odoo alone: it is not found any more, and what was connected is cut off."""
        (self.socket / SOCKET).unlink()
        with psycopg.connect(self.postgres.format(database="postgres"), autocommit=True) as db:
            db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (ROLE,))

    def call(self, model: str, method: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of a model, as `admin` does who works with it."""
        body = {"service": "object", "method": "execute_kw"}
        words = [self.database, self._uid(), "admin", model, method, list(arguments), options]
        return self._rpc(body | {"args": words})

    def _uid(self) -> int:
        login = {"service": "common", "method": "login", "args": [self.database, "admin", "admin"]}
        return int(self._rpc(login))

    def _rpc(self, params: dict[str, Any]) -> Any:
        asked = {"jsonrpc": "2.0", "method": "call", "params": params}
        answer = httpx.post(f"{self.url}/jsonrpc", json=asked, timeout=60, trust_env=False).json()
        assert "error" not in answer, answer["error"]["data"]["debug"]
        return answer.get("result")  # a method that returns None gives none

    def _answers(self) -> bool:
        assert self.web is not None
        assert self.web.poll() is None, self.log[-3000:]
        try:
            return httpx.get(f"{self.url}/web/health", timeout=5, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False


@dataclass(kw_only=True)
class OdooContainer(Docker):
    """The daemon of the stand-in, whose service is a real Odoo."""

    odoo: RealOdoo
    once_started: Callable[[], None] = lambda: None
    """Happens when its service was started."""

    def start_service(self) -> None:
        """Start the web server in place of one that runs."""
        self.stop_service()
        self.stopped = False
        self.odoo.start()
        self.once_started()

    def stop_service(self) -> None:
        """Stop it, if it runs."""
        self.stopped = True
        self.odoo.stop()


def needs_odoo() -> None:
    """Skip the test where there is no real Odoo."""
    if not FOLDER:
        reason = "OPS_TEST_ODOO names no folder with a real Odoo"
        pytest.skip(reason)  # Odoo is not part of this repository, and no stand-in will do


def make_role(postgres: str) -> None:
    """Make Odoo's role on a server."""
    with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as db:
        db.execute(f"CREATE ROLE {ROLE} LOGIN CREATEDB")


def make_template(folder: Path, postgres: str, modules: str) -> None:
    """Make the database `TEMPLATE` of the modules and what they need, without demo data, and its filestore.

    That takes half a minute. Odoo's role must be there.
    """
    with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as db:
        db.execute(f"CREATE DATABASE {TEMPLATE} OWNER {ROLE} TEMPLATE template0 LC_COLLATE 'C'")
    with psycopg.connect(postgres.format(database=TEMPLATE)) as db:
        db.execute("CREATE EXTENSION unaccent")
        db.execute("CREATE EXTENSION pg_trgm")
    odoo = RealOdoo(folder, postgres, TEMPLATE)
    odoo.run("-i", modules, "--without-demo=all", "--stop-after-init", "--no-http")
    with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as db:
        db.execute(f"ALTER DATABASE {TEMPLATE} IS_TEMPLATE true")  # no Odoo of another test of this server


def copy_template(made: Path, odoo: RealOdoo) -> None:
    """Give that Odoo a database of its own, with the filestore of the template in the folder `made`."""
    with psycopg.connect(odoo.postgres.format(database="postgres"), autocommit=True) as db:
        db.execute(f'CREATE DATABASE "{odoo.database}" TEMPLATE {TEMPLATE} OWNER {ROLE}')
    with psycopg.connect(odoo.postgres.format(database=odoo.database)) as db:
        db.execute("UPDATE ir_config_parameter SET value = gen_random_uuid() WHERE key = 'database.uuid'")
    shutil.copytree(made / "data/filestore" / TEMPLATE, odoo.filestore / odoo.database)
