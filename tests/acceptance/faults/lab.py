"""A room whose parts can be killed one by one: PostgreSQL, Prefect's server, `ops worker`, `ops sync`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import httpx
import psutil
import psycopg
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_SSL_CERT_FILE,
    PREFECT_API_URL,
    PREFECT_CLIENT_CSRF_SUPPORT_ENABLED,
    PREFECT_CLIENT_MAX_RETRIES,
    temporary_settings,
)
from psycopg.rows import dict_row
from pydantic import SecretStr

from deployments.room.ports import prefect_sockets
from deployments.room.postgres import EmbeddedPostgres
from deployments.server import access
from opsdb.processes.find import find_processes
from opsdb.processes.running import entered
from opsdb.settings import Settings
from tests.support.children import free_port
from tests.support.cluster import copy_cluster, serve_command
from tests.support.commands import REPOSITORY, run_ops
from tests.support.postgres import short_folder
from tests.support.waiting import wait_for

T = TypeVar("T")

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Effect:
    """One line of the ledger: what a step did, of which run and attempt, and when (seconds since the epoch)."""

    what: str
    run: str
    attempt: int
    at: float


class Lab:
    """The parts, by name, and what the tests ask of them. Everything below one folder with a short path."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self._postgres = EmbeddedPostgres(folder / "pg")
        self.ledger = folder / "ledger"
        self.ledger.touch()
        self.hold = folder / "ledger.hold"
        self.settings = Settings(
            home=folder / "home",
            database_url=SecretStr(f"postgresql://postgres@/ops?host={self._postgres.socket_dir}"),
            prefect_port=free_port(),
            health_port=free_port(),
            prefect_yaml=HERE / "prefect.yaml",
            lane_limit=8,
            **settings,
        )
        self.second_health_port = free_port()
        self._held = ExitStack()
        self.parts: dict[str, subprocess.Popen[bytes]] = {}
        self.detoured: set[str] = set()
        """The parts that were started with another environment, which a test may have taken away since."""

    def open(self, shared: Path) -> None:
        """Start everything but worker and sync, for the first time. `shared` is where the cluster is copied from."""
        copy_cluster(shared, self._postgres)
        self._postgres.prepare()
        self.start_postgres()
        access.make_secrets(self.settings)
        self._hold_port()
        self.start_prefect()
        run_ops("deploy", env=self.environment, cwd=REPOSITORY).fine()

    def close(self) -> None:
        """End everything, the database last."""
        for name in reversed(list(self.parts)):
            self.kill(name, signal.SIGINT if name == "postgres" else signal.SIGKILL)
        for _, process in entered(self.settings):
            if process.alive:
                os.kill(process.pid, signal.SIGKILL)
        self._held.close()

    def url(self, database: str = "ops") -> str:
        """A database of the lab's server, without a proxy."""
        return f"postgresql://postgres@/{database}?host={self._postgres.socket_dir}"

    @property
    def socket(self) -> Path:
        """Where the database listens."""
        return self._postgres.socket_dir / ".s.PGSQL.5432"

    @cached_property
    def environment(self) -> dict[str, str]:
        """What a part of the room is started with."""
        settings = self.settings
        chosen = {
            "OPS_HOME": str(settings.home),
            "OPS_DATABASE_URL": settings.ops_url,
            "OPS_PREFECT_PORT": str(settings.prefect_port),
            "OPS_HEALTH_PORT": str(settings.health_port),
            "OPS_PREFECT_YAML": str(settings.prefect_yaml),
            "OPS_LANE_LIMIT": str(settings.lane_limit),
            "OPS_TIME_SCALE": str(settings.time_scale),
            "PYTHONPATH": str(REPOSITORY),
        }
        return access.inherited(os.environ) | access.client_env(settings) | chosen

    def start(self, name: str, *arguments: str, extra: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start `ops NAME` (`worker`, `sync`, or with a number behind it a second one)."""
        command = [sys.executable, "-m", "cli", name.rstrip("0123456789"), *arguments]
        self.detoured.discard(name)
        if extra:
            self.detoured.add(name)
        return self._spawn(name, command, self.environment | (extra or {}))

    def start_worker(self, name: str = "worker", *arguments: str, extra: dict[str, str] | None = None) -> None:
        """Start a worker and return when its lanes are served."""
        log = self.log(name)
        before = log.stat().st_size if log.exists() else 0
        process = self.start(name, *arguments, extra=extra)

        def started() -> bool:
            assert process.poll() is None, self.last_words(name)
            return log.read_bytes()[before:].count(b"started!") >= (2 if not arguments else 1)

        wait_for(started, seconds=60, what=f"{name} serves its lanes")

    def start_postgres(self) -> None:
        """Start the database and return when it answers."""

        def answers() -> bool:
            server = self.parts.get("postgres")
            if server is None or server.poll() is not None:  # what is left of a killed one may still have its memory
                self._spawn("postgres", self._postgres.command, {"PATH": "/usr/bin:/bin"}, **self._postgres.identity)
            return self.postgres_answers()

        wait_for(answers, seconds=30, what="PostgreSQL answers")

    def _hold_port(self) -> None:
        """As the supervisor does: whoever asks while no server runs waits for the next one."""
        self._prefect = [one.fileno() for one in self._held.enter_context(prefect_sockets(self.settings))]

    @contextmanager
    def port_lost(self) -> Iterator[None]:
        """Prefect's server killed, and its port free for everybody for the length of the block."""
        self.kill("prefect")
        self._held.close()
        try:
            yield
        finally:
            self._hold_port()

    def start_prefect(self) -> None:
        """Start Prefect's server and return when it answers."""
        environment = access.inherited(os.environ) | access.server_env(self.settings)
        self._spawn("prefect", serve_command(self._prefect), environment, pass_fds=self._prefect)
        wait_for(self.prefect_answers, seconds=90, what="Prefect answers")

    def postgres_answers(self) -> bool:
        """Whether the database lets us in."""
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=1).close()
        except psycopg.Error:
            return False
        return True

    def prefect_answers(self) -> bool:
        """Whether Prefect's server answers, which needs its database."""
        try:
            return self._http.post("/work_pools/filter", json={}).status_code in (200, 403)
        except httpx.HTTPError:
            return False

    @cached_property
    def _http(self) -> httpx.Client:
        user, password = access.read_secrets(self.settings).prefect_auth_string.split(":", 1)
        return httpx.Client(base_url=f"{access.ui_url(self.settings)}/api", auth=(user, password), timeout=2)

    def kill(self, name: str, number: int = signal.SIGKILL, *, seconds: float = 30) -> int:
        """Send a signal to a part and wait for its end. What it started is left alone."""
        process = self.parts.pop(name)
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(number)
        return process.wait(seconds)

    def kill_postgres(self) -> None:
        """SIGKILL the postmaster and its backends, as a power cut does."""
        postmaster = self.parts.pop("postgres")
        for pid in [postmaster.pid, *children(postmaster.pid)]:
            os.kill(pid, signal.SIGKILL)
        postmaster.wait(10)
        (self._postgres.data_dir / "postmaster.pid").unlink(missing_ok=True)

    @contextmanager
    def client(self) -> Iterator[SyncPrefectClient]:
        """Prefect's client for the lab's server."""
        auth = access.read_secrets(self.settings).prefect_auth_string
        wanted: dict[Any, Any] = {
            PREFECT_API_URL: f"{access.ui_url(self.settings)}/api",
            PREFECT_API_AUTH_STRING: auth,
            PREFECT_API_SSL_CERT_FILE: str(access.NO_AUTHORITY),
            PREFECT_CLIENT_CSRF_SUPPORT_ENABLED: True,
            PREFECT_CLIENT_MAX_RETRIES: 4,
        }
        with temporary_settings(wanted), get_client(sync_client=True) as client:
            yield client

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """Ask the ops database."""
        with psycopg.connect(self.url(), row_factory=dict_row) as db:
            return db.execute(query.encode(), values).fetchall()

    def run_row(self, run_id: UUID) -> dict[str, Any]:
        """The run in `ops.runs`; empty when it is not there yet."""
        found = self.rows("SELECT * FROM ops.runs WHERE id = %s", run_id)
        return found[0] if found else {}

    def wait_status(self, run_id: UUID, *statuses: str, seconds: float = 30) -> dict[str, Any]:
        """The row of the run as soon as it has one of the statuses."""
        row: dict[str, Any] = {}

        def there() -> bool:
            row.update(self.run_row(run_id))
            return row.get("status") in statuses

        try:
            wait_for(there, seconds=seconds, what=f"run {run_id} is {' or '.join(statuses)}")
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {row}") from None
        return row

    def wait_for_verdicts(self) -> None:
        """Return when the sync has swept and polled twice: whoever would end or retry a run has had the chance."""
        query = "SELECT name FROM ops.sync_marks WHERE name IN ('sweep', 'prefect') AND updated_at > %s"

        def swept_and_polled(since: datetime) -> bool:
            return len(self.rows(query, since)) == 2

        for _ in range(2):
            now = self.rows("SELECT clock_timestamp() AS now")[0]["now"]
            wait_for(partial(swept_and_polled, now), seconds=20, what="the sync swept and polled")

    def effects(self, run_id: UUID | None = None) -> list[Effect]:
        """What steps did, in order."""
        found = []
        for line in self.ledger.read_text().splitlines():
            what, run, attempt, at = line.split()
            if run_id is None or run == str(run_id):
                found.append(Effect(what, run, int(attempt), float(at)))
        return found

    def wait_effect(self, run_id: UUID, what: str, *, attempt: int = 1, seconds: float = 30) -> None:
        """Return when a step of the run has had an effect of that name."""
        wait_for(
            lambda: any((e.what, e.attempt) == (what, attempt) for e in self.effects(run_id)),
            seconds=seconds,
            what=f"run {run_id} did {what} in attempt {attempt}",
        )

    def run_process(self, run_id: UUID) -> int:
        """The pid of the run's own process."""
        return next(process.pid for _, process in entered(self.settings) if process.run_id == str(run_id))

    def living(self, run_id: UUID) -> list[int]:
        """The pids of all that is alive of a run."""
        own = [p.pid for _, p in entered(self.settings) if p.run_id == str(run_id) and p.alive]
        return own + [process.pid for process in find_processes(run_id=str(run_id))]

    def log(self, name: str) -> Path:
        """The log of a part."""
        return self.folder / f"{name}.log"

    def last_words(self, name: str) -> str:
        """The end of a part's log."""
        return self.log(name).read_text(errors="replace")[-3000:]

    def _spawn(self, name: str, command: list[str], env: dict[str, str], **more: Any) -> subprocess.Popen[bytes]:
        cwd = "/" if name == "postgres" else REPOSITORY
        with self.log(name).open("ab") as out:
            self.parts[name] = subprocess.Popen(
                command,
                env=env,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                **more,
            )
        return self.parts[name]


def children(pid: int) -> list[int]:
    """The pids of a process's direct children."""
    return [child.pid for child in psutil.Process(pid).children()]


@contextmanager
def open_lab(shared: Path, **settings: Any) -> Iterator[Lab]:
    """A lab without worker and sync, with the room's own limits unless others are given."""
    with short_folder() as folder:
        lab = Lab(folder, **settings)
        try:
            lab.open(shared)
            yield lab
        finally:
            lab.close()
