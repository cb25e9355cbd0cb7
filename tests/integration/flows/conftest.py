"""What the tests of runbooks share: a Prefect client, a room, databases, stand-ins."""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import psutil
import psycopg
import pytest
from prefect.logging.handlers import APILogHandler
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_SSL_CERT_FILE,
    PREFECT_API_URL,
    PREFECT_CLIENT_CSRF_SUPPORT_ENABLED,
    temporary_settings,
)

from blocks.backup_target import BackupTarget
from deployments.room.postgres import PROGRAMS as EMBEDDED
from deployments.server.access import NO_AUTHORITY, client_env
from flows.backup.keyring import room_keyring
from flows.backup.programs import find_programs
from flows.engine.active_run import ActiveRun
from flows.offsite import owner
from flows.offsite.target import load_target
from opsdb.settings import Settings, load_settings
from tests.integration.flows.odoo_sites import Site, odoo_site
from tests.integration.flows.targets import MEBIBYTE, Bucket
from tests.support.backups import KEY
from tests.support.bucket_server import BucketServer
from tests.support.postgres import new_database
from tests.support.tcp_proxy import TcpProxy

PROGRAMS = find_programs(EMBEDDED, server_version="1")
_numbers = itertools.count()


@pytest.fixture(scope="module")
def prefect_client(prefect_room: Settings) -> Iterator[dict[str, str]]:
    """This process talks to the server of the tests; yields the environment for others that shall."""
    env = client_env(prefect_room)
    values = {
        PREFECT_API_URL: env["PREFECT_API_URL"],
        PREFECT_API_AUTH_STRING: env["PREFECT_API_AUTH_STRING"],
        PREFECT_API_SSL_CERT_FILE: str(NO_AUTHORITY),
        PREFECT_CLIENT_CSRF_SUPPORT_ENABLED: True,
    }
    with pytest.MonkeyPatch.context() as patch, temporary_settings(values):
        patch.setenv("NO_PROXY", env["NO_PROXY"])
        patch.setenv("no_proxy", env["no_proxy"])
        yield env
        APILogHandler().flush()  # while the server is there


@pytest.fixture(autouse=True)
def room(
    prefect_client: dict[str, str], postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """The environment of a room whose backups lie in `tmp_path/home/backups`."""
    env = {
        "OPS_HOME": str(tmp_path / "home"),
        "OPS_BACKUP_ROOTS": str(tmp_path),
        "OPS_FILESTORE_ROOTS": str(tmp_path),
        "OPS_DATABASE_URL": postgres.format(database="postgres"),
        "OPS_RUN_ID": "",  # the runbook sets it: taken back after the test
    }
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return env


@pytest.fixture
def folder(room: dict[str, str], tmp_path: Path) -> Path:
    """Where they lie. The room accepts those that tests make."""
    assert room
    room_keyring(load_settings()).accept(KEY)
    return tmp_path / "home" / "backups"


@pytest.fixture(autouse=True)
def _reaps_what_it_adopted() -> Iterator[None]:
    """A flow that runs in the process of the tests makes that one adopt what its steps leave: hundreds by the end."""
    yield
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess, ChildProcessError):
            if child.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(child.pid, os.WNOHANG)


@pytest.fixture(scope="session")
def shop(postgres: str) -> str:
    """A database to copy, with content of many kinds, 2 MB of it incompressible."""
    with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as db:
        db.execute("CREATE DATABASE shop TEMPLATE template0")
    with psycopg.connect(postgres.format(database="shop")) as db:
        db.execute("CREATE TABLE line (id serial PRIMARY KEY, name text, data bytea, price numeric, at timestamptz)")
        db.execute(
            "INSERT INTO line (name, data, price, at) SELECT 'Zażółć ' || g || E'\\n\\t\\\\.', sha512(g::text::bytea),"
            " g / 7.0, timestamptz '2026-01-01Z' + g * interval '1 s' FROM generate_series(1, 30000) g"
        )
        db.execute("INSERT INTO line DEFAULT VALUES")
        db.execute("CREATE TABLE empty_one (id int)")
        db.execute("CREATE VIEW cheap AS SELECT * FROM line WHERE price < 10")
        db.execute("SELECT lo_from_bytea(4711, 'a large object')")
    return "shop"


@pytest.fixture
def database(postgres: str, shop: str) -> Iterator[str]:
    """A database of this test alone."""
    name = f"shop_{os.getpid()}_{next(_numbers)}"  # marks what the stand-in Docker runs, on the host of other tests
    with new_database(postgres, name, template=shop):
        yield name


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Puts a pg_dump of the test's own (bash; $REAL is the real one) beside the real pg_restore.

    The real one says its version, and makes the empty dump of the preflight.
    """

    def install(body: str) -> Path:
        folder = tmp_path / "programs"
        folder.mkdir()
        script = folder / "pg_dump"
        before = '[[ " $* " = *" --version "* || " $* " = *" --schema-only "* ]] && exec "$REAL" "$@"'
        script.write_text(f"#!/bin/bash\nREAL={PROGRAMS.pg_dump}\n{before}\n{body}\n")
        script.chmod(0o755)
        (folder / "pg_restore").symlink_to(PROGRAMS.pg_restore)
        (folder / "pg_dumpall").symlink_to(PROGRAMS.pg_dumpall)
        monkeypatch.setenv("OPS_PG_BIN", str(folder))
        return folder

    return install


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    mounted = []

    def mount(megabytes: int) -> Path:
        folder = tmp_path / "disk"
        folder.mkdir()
        options = f"size={megabytes}m,mode=0700"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True, timeout=10)
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", folder], check=True, timeout=10)


@pytest.fixture
def start_flow(
    prefect_client: dict[str, str], room: dict[str, str], tmp_path: Path
) -> Iterator[Callable[..., psutil.Popen]]:
    """Starts the runbook in a process of its own; what is left of it at the end of the test is killed."""
    code = "import json, sys; from importlib import import_module as load; kind = sys.argv[2]"
    code += "; getattr(load(f'flows.{kind}'), kind)(odoo_db=sys.argv[1], **json.loads(sys.argv[3]))"
    started: list[psutil.Popen] = []

    def start(database: str, kind: str = "odoo_db_backup", **parameters: object) -> psutil.Popen:
        with (tmp_path / "flow.log").open("ab") as out:
            argv = [sys.executable, "-c", code, database, kind, json.dumps(parameters)]
            env = {**os.environ, **prefect_client, **room}
            started.append(psutil.Popen(argv, env=env, stdout=out, stderr=out, cwd=Path(__file__).parents[3]))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait(10)


@pytest.fixture
def line(buckets: BucketServer) -> Iterator[TcpProxy]:
    """The way to the bucket."""
    with TcpProxy(buckets.port) as proxy:
        yield proxy


@pytest.fixture
def target(
    prefect_client: object, buckets: BucketServer, bucket: str, line: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> Bucket:
    """A bucket that was claimed already: a run that claims one looks again 2 s later."""
    BackupTarget.register_type_and_schema()
    made = Bucket(buckets, bucket, line.port)
    monkeypatch.setattr(owner, "_SETTLE_SECONDS", 0.0)
    known = load_target(made.block, room_keyring(load_settings()))
    owner.take_ownership(known.store, known.room)
    return made


@pytest.fixture
def attachments(tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A filestore that is sent in two parts."""
    folder = tmp_path / "filestore" / database
    folder.mkdir(parents=True)
    (folder / "large").write_bytes(random.Random(1).randbytes(17 * MEBIBYTE))
    monkeypatch.setenv("OPS_FILESTORE_DIR", str(folder.parent))
    return folder


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The events of all runs of the test: their messages."""
    found: list[str] = []
    monkeypatch.setattr(ActiveRun, "event", lambda _run, message, **_: found.append(message))
    return found


@pytest.fixture
def block(prefect_client: object) -> Callable[[Path], str]:
    """Makes a block of a folder; returns its name."""
    BackupTarget.register_type_and_schema()

    def make(folder: Path) -> str:
        name = f"folder-{uuid4().hex}"
        BackupTarget(folder=str(folder)).save(name)
        return name

    return make


@pytest.fixture
def site(database: str, postgres: str, tmp_path: Path, path_folder: Path) -> Iterator[Site]:
    """An Odoo on this host."""
    with odoo_site(tmp_path, path_folder, database=database, url=postgres.format(database=database)) as made:
        yield made


def content(url: str) -> list[object]:
    with psycopg.connect(url) as db:
        return [
            db.execute(query.encode()).fetchall()
            for query in (
                "SELECT count(*), md5(string_agg(line::text, '|' ORDER BY id)) FROM line",
                "SELECT count(*), md5(string_agg(cheap::text, '|' ORDER BY id)) FROM cheap",
                "SELECT count(*) FROM empty_one",
                "SELECT last_value, is_called FROM line_id_seq",
                "SELECT oid, lo_get(oid) FROM pg_largeobject_metadata",
            )
        ]
