"""A room of its own for the benchmark: PostgreSQL, Prefect's server and `ops sync` in a temporary folder."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import yaml

from benchmarks.process_tree import stop_tree
from cli.parts import WORKER_ENV
from deployments.room import child
from deployments.room.parts import parts
from deployments.room.ports import prefect_sockets
from deployments.room.runner import Part
from deployments.server import access
from deployments.server.api import PrefectApi
from opsdb.database import driver_url
from opsdb.settings import Settings, load_settings
from tests.support.children import free_port

REPOSITORY = Path(__file__).parent.parent
ENTRYPOINTS = ("benchmarks.runbooks.one_step", "benchmarks.runbooks.sleeper", "benchmarks.plain_flow.plain")
SETTINGS = {
    # a stock worker claims a burst at once and starts it minutes later: that is to be measured, not to be failed
    "OPS_CLAIM_SECONDS": "3600",
    "OPS_LOST_SECONDS": "600",
}


@dataclass(frozen=True)
class System:
    """A worker that is compared. Both pools have the name of a lane, so `ops` records the runs of both."""

    name: str
    pool: str
    pool_type: str
    command: tuple[str, ...]


OURS = System("ours", "lane-a", "lane", (sys.executable, "-m", "cli", "worker", "--lanes", "A"))
STOCK = System(
    "stock",
    "lane-b",
    "process",
    (sys.executable, "-m", "prefect", "worker", "start", "--pool", "lane-b", "--type", "process"),
)
SYSTEMS = (OURS, STOCK)


@dataclass
class BenchRoom:
    """The running room."""

    settings: Settings
    env: dict[str, str] = field(repr=False)
    pids: dict[str, int] = field(default_factory=dict)
    deployments: dict[tuple[str, str], UUID] = field(default_factory=dict)
    _database: psycopg.Connection | None = field(default=None, repr=False)

    @property
    def log(self) -> Path:
        """The folder of the logs."""
        return self.settings.home / "log"

    def query(self, sql: str, values: list[Any]) -> list[tuple[Any, ...]]:
        """Ask Prefect's database, which costs its server nothing."""
        if self._database is None:
            server = driver_url(self.settings.ops_url, database=self.settings.prefect_database)
            url = server.set(drivername="postgresql").render_as_string(hide_password=False)
            self._database = psycopg.connect(url, autocommit=True)
        return self._database.execute(sql.encode(), values).fetchall()

    def create_runs(self, system: System, kind: str, params: list[dict[str, Any]]) -> list[UUID]:
        """Create a run per entry of `params`, eight requests at a time. Returns their ids."""
        from prefect.client.orchestration import get_client

        deployment = self.deployments[system.name, kind]

        async def create() -> list[UUID]:
            slots = asyncio.Semaphore(8)
            async with get_client() as client:

                async def one(parameters: dict[str, Any]) -> UUID:
                    async with slots:
                        run = await client.create_flow_run_from_deployment(deployment, parameters=parameters)
                    return run.id

                # one alone: requests at once that have no CSRF token yet make each other's invalid, and wait up to
                # 17 minutes for it (Prefect 3.8.8 doubles a pause after each such refusal)
                first = await one(params[0])
                return [first, *await asyncio.gather(*(one(parameters) for parameters in params[1:]))]

        return asyncio.run(create()) if params else []

    @contextmanager
    def worker(self, system: System, *, api_port: int | None = None) -> Iterator[int]:
        """Run a worker. Yields its pid when it is ready. `api_port` leads it to the API by another way."""
        port = api_port or self.settings.prefect_port
        env = self.env | WORKER_ENV | {"OPS_PREFECT_PORT": str(port), "PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}
        api = PrefectApi(access.ui_url(self.settings), access.read_secrets(self.settings).prefect_auth_string)
        started = datetime.now(UTC)
        log = self.log / f"{system.name}.log"
        process = child.spawn(system.command, env=env, cwd=REPOSITORY, log=log, orphan_signal=signal.SIGTERM)
        try:
            _wait(process, lambda: api.workers_online([system.pool], since=started), 120, log)
            yield process.pid
        finally:
            stop_tree(process, grace_seconds=20)


@contextmanager
def bench_room(home: Path) -> Iterator[BenchRoom]:
    """Start the room below `home`; everything is stopped on the way out."""
    if "prefect" in sys.modules:  # it would go on with the settings of before
        raise RuntimeError("prefect was imported before the room's address is known")
    for name in [name for name in os.environ if name.startswith(("OPS_", "PREFECT_"))]:
        del os.environ[name]
    registered = home / "prefect.yaml"
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    registered.write_text(yaml.safe_dump({"deployments": [{"entrypoint": name} for name in ENTRYPOINTS]}))
    os.environ.update(
        SETTINGS,
        OPS_HOME=str(home),
        OPS_PREFECT_PORT=str(free_port()),
        OPS_HEALTH_PORT=str(free_port()),
        OPS_EXPORTER_PORT=str(free_port()),
        OPS_PREFECT_YAML=str(registered),
        PYTHONPATH=str(REPOSITORY),
    )
    settings = load_settings()
    access.make_secrets(settings)
    with ExitStack() as stack:
        sockets = stack.enter_context(prefect_sockets(settings))
        wanted = {part.name: part for part in parts(settings, prefect_sockets=[one.fileno() for one in sockets])}
        room = BenchRoom(settings, env=access.inherited(os.environ) | access.client_env(settings))
        access.use(settings)  # for this process; after `parts`, whose programs have an environment of their own
        for name in ("postgres", "databases", "prefect"):
            room.pids[name] = stack.enter_context(_part(wanted[name], room.log / f"{name}.log"))
        _deploy(room)
        room.pids["sync"] = stack.enter_context(_part(wanted["sync"], room.log / "sync.log"))
        yield room


@contextmanager
def counting_proxy(room: BenchRoom, log: Path) -> Iterator[int]:
    """Run a proxy to the API that writes requests to `log`. Yields its port."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.counting_proxy", str(port), str(room.settings.prefect_port), str(log)]
    errors = room.log / "proxy.log"
    process = child.spawn(command, env=room.env, cwd=REPOSITORY, log=errors, orphan_signal=signal.SIGTERM)
    try:
        _wait(process, log.exists, 20, errors)
        yield port
    finally:
        child.stop(process, number=signal.SIGTERM, grace_seconds=5)


@contextmanager
def _part(part: Part, log: Path) -> Iterator[int]:
    if part.prepare:
        part.prepare()
    part.cwd.mkdir(parents=True, exist_ok=True)
    process = child.spawn(
        part.command,
        env=part.env,
        cwd=part.cwd,
        log=log,
        orphan_signal=part.orphan_signal,
        user=part.user,
        pass_fds=part.pass_fds,
    )
    started, ready = datetime.now(UTC), part.ready
    try:
        if ready is None:
            if process.wait(120):
                raise RuntimeError(f"{part.name} failed: {_tail(log)}")
        else:
            _wait(process, lambda: ready(started), 300, log)
        yield process.pid
    finally:
        stop_tree(process, number=part.stop_signal, grace_seconds=part.grace_seconds)


def _deploy(room: BenchRoom) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.utilities.callables import parameter_schema_from_entrypoint
    from prefect.workers.process import ProcessWorker

    from deployments.worker.lane_worker import BASE_JOB_TEMPLATE

    templates = {"lane": BASE_JOB_TEMPLATE, "process": ProcessWorker.get_default_base_job_template()}
    with get_client(sync_client=True) as client:
        for system in SYSTEMS:
            template = templates[system.pool_type]
            client.create_work_pool(WorkPoolCreate(name=system.pool, type=system.pool_type, base_job_template=template))
            for entrypoint in ENTRYPOINTS:
                module, _, kind = entrypoint.rpartition(".")
                file = REPOSITORY.joinpath(*module.split(".")).with_suffix(".py")
                room.deployments[system.name, kind] = client.create_deployment(
                    client.create_flow_from_name(kind),
                    system.pool,
                    entrypoint=entrypoint,
                    work_pool_name=system.pool,
                    tags=[] if kind == "plain" else ["runbook"],
                    parameter_openapi_schema=parameter_schema_from_entrypoint(
                        f"{file}:{kind}"
                    ).model_dump_for_openapi(),
                )


def _wait(process: subprocess.Popen[bytes], ready: Any, seconds: float, log: Path) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{' '.join(map(str, process.args))} is not ready: {_tail(log)}")  # type: ignore[arg-type]
        time.sleep(0.1)


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]
