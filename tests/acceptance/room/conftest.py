"""One room for all tests here that do not need one of their own; it ends with them, for it is never idle."""

from __future__ import annotations

import itertools
import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deployments.room.postgres import PROGRAMS, EmbeddedPostgres
from tests.acceptance.room.api import Api
from tests.acceptance.room.desk import Desk
from tests.support.cluster import copy_cluster
from tests.support.commands import Answer
from tests.support.mattermost import Mattermost, listening
from tests.support.postgres import short_folder

REPOSITORY = Path(__file__).parents[3]
_numbers = itertools.count()


@pytest.fixture(scope="package")
def programs() -> Iterator[Path]:
    """The folder of pg_dump, pg_restore and pg_dumpall that the room uses: a test may take a program away."""
    with short_folder() as folder:
        for name in ("pg_dump", "pg_restore", "pg_dumpall"):
            (folder / name).symlink_to(PROGRAMS / name)
        yield folder


@pytest.fixture(scope="package")
def chat() -> Iterator[Mattermost]:
    """What the room's alerts are posted to."""
    with listening(Mattermost()) as chat:
        yield chat


@pytest.fixture(scope="package")
def started(programs: Path, chat: Mattermost, shared_folder: Path) -> Iterator[tuple[Desk, Answer]]:
    """A room, started by `ops up --detach` on databases that are migrated already, and what the command said."""
    with short_folder() as folder:
        desk = Desk(
            folder / ".ops",
            {
                "OPS_PG_BIN": str(programs),
                "OPS_BACKUP_ROOTS": "/tmp",  # the disks that tests mount
                "OPS_STORED_COMMANDS": "true",
                "OPS_TEMPLATES": str(folder / "templates"),
                "OPS_RUNBOOKS": str(folder / "runbooks"),
                "OPS_PREFECT_YAML": str(folder / "prefect.yaml"),
                "OPS_ALERT_URLS": f"{chat.url} warning=block:chat",
            },
        )
        desk.home.mkdir(mode=0o700)
        (folder / "runbooks").mkdir()
        (folder / "prefect.yaml").write_bytes((REPOSITORY / "prefect.yaml").read_bytes())
        copy_cluster(shared_folder, EmbeddedPostgres(desk.home / "postgres"))
        try:
            answer = desk.start()
            pause_schedules(Api(desk))
            yield desk, answer
        finally:
            desk.stop()


def pause_schedules(api: Api) -> None:
    """No night falls on the tests, whatever time it is."""
    for name in ("nightly_backup/nightly-backup", "odoo_restore_drill/weekly-restore-drill"):
        deployment = api.deployment(name)
        (schedule,) = deployment["schedules"]
        assert schedule["active"], name
        api.patch(f"/deployments/{deployment['id']}/schedules/{schedule['id']}", active=False)


@pytest.fixture(scope="package")
def desk(started: tuple[Desk, Answer]) -> Desk:
    """The running room."""
    return started[0]


@pytest.fixture(scope="package")
def api(desk: Desk) -> Api:
    """The Prefect server of the running room."""
    return Api(desk)


@pytest.fixture
def own_folder() -> Iterator[Path]:
    """A short folder for a room of the test's own."""
    with short_folder() as folder:
        yield folder


@pytest.fixture
def database(desk: Desk) -> Iterator[str]:
    """A database with one small table."""
    name = f"odoo_{next(_numbers)}"
    with desk.database("postgres") as db:
        db.execute(f"CREATE DATABASE {name} TEMPLATE template0".encode())
        with desk.database(name) as inside:
            inside.execute("CREATE TABLE res_partner AS SELECT n AS id FROM generate_series(1, 100) n")
        yield name
        db.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture
def small_disk() -> Iterator[Callable[[int], Path]]:
    """Mounts a disk of so many megabytes."""
    mounted: list[Path] = []

    def mount(megabytes: int) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="disk", dir="/tmp"))
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "tmpfs", str(folder)], check=True)
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


@pytest.fixture(scope="package")
def store(desk: Desk) -> Callable[..., str]:
    """Registers commands as a Shell Operation block, through Prefect's client. Returns the block's name."""
    code = (
        "import sys\n"
        "from deployments.server import access\n"
        "from opsdb.settings import load_settings\n"
        "access.use(load_settings())\n"
        "from prefect_shell import ShellOperation\n"
        "ShellOperation(commands=sys.argv[2:]).save(sys.argv[1], overwrite=True)\n"
    )

    def save(name: str, *commands: str) -> str:
        python = desk.command()[0]
        subprocess.run(
            [python, "-c", code, name, *commands], env=desk.env, cwd=desk.home.parent, check=True, capture_output=True
        )
        return name

    return save


def save_block(desk: Desk, kind: str, name: str, **fields: str) -> None:
    """Fill in a block of a class, such as `backup_target.BackupTarget`, through Prefect's client."""
    module, _, kind = kind.rpartition(".")
    code = (
        "import json, sys\n"
        "from deployments.server import access\n"
        "from opsdb.settings import load_settings\n"
        "access.use(load_settings())\n"
        f"from blocks.{module} import {kind} as kind\n"
        "kind.register_type_and_schema()\n"
        "kind(**json.load(sys.stdin)).save(sys.argv[1], overwrite=True)\n"
    )
    argv, given = [desk.command()[0], "-c", code, name], json.dumps(fields).encode()
    subprocess.run(argv, env=desk.env, cwd=desk.home.parent, input=given, check=True, capture_output=True)


@pytest.fixture(scope="package")
def save_target(desk: Desk) -> Callable[..., str]:
    """Fills in a Backup Target block. Returns the block's name."""

    def save(name: str, **fields: str) -> str:
        save_block(desk, "backup_target.BackupTarget", name, **fields)
        return name

    return save
