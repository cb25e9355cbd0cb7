"""What the room consists of: each part with its command, its environment and how it shows that it works."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url

from deployments.room.database_work import DatabaseWork, database_work
from deployments.room.postgres import EmbeddedPostgres
from deployments.room.pulse import Pulse
from deployments.room.readiness import (
    alerter_works,
    exporter_is_ready,
    postgres_answers,
    sync_is_current,
)
from deployments.room.runner import Part
from deployments.server import access
from deployments.server.api import PrefectApi
from opsdb.setting_sources import as_environment
from opsdb.settings import Settings


def parts(settings: Settings, *, prefect_sockets: Sequence[int]) -> list[Part]:
    """What the room consists of, in the order in which it starts.

    `prefect_sockets` are the descriptors on which Prefect's server is to answer.
    """
    # what is written to a settings file from now on counts for the next start of the room, not for one part of it
    common = access.inherited(os.environ) | as_environment(settings)
    ours = common | access.client_env(settings)
    without_prefect = common | {"OPS_HOME": str(settings.home)}  # what reports outages must work in one
    api = PrefectApi(access.ui_url(settings), access.read_secrets(settings).prefect_auth_string)
    database = settings.ops_url
    patience = settings.timings.unanswered
    pulse = Pulse(
        ("127.0.0.1", settings.prefect_port),
        "/api/health",  # neither a password nor the database
        seconds=patience,
        excused=lambda: not postgres_answers(database),
    )
    here = Path.cwd()

    def elsewhere() -> DatabaseWork:
        return database_work(database, [make_url(database).database or "", settings.prefect_database])

    def python(
        name: str,
        module: str,
        ready: Callable[[datetime], bool] | None,
        *,
        after: str,
        awaited: str,
        env: Mapping[str, str] = ours,
        **more: Any,
    ) -> Part:
        command = [sys.executable, "-m", *module.split()]
        given: dict[str, Any] = {"after": (after,), "early": True, "awaited": awaited, "elsewhere": elsewhere}
        return Part(name, command, env, here, ready, **given | more)

    found: list[Part] = []
    if settings.embedded:
        postgres = EmbeddedPostgres(settings.home / "postgres", listen=settings.database_address)
        maintenance = f"postgresql://postgres@/postgres?host={settings.socket_dir}"
        found.append(
            Part(
                "postgres",
                postgres.command,
                {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
                Path("/"),
                lambda _started: postgres_answers(maintenance),
                prepare=lambda: _opened(postgres.prepare()),
                user=postgres.identity,
                stop_signal=signal.SIGINT,  # a fast shutdown: sessions are ended, not waited for
                orphan_signal=signal.SIGINT,
                grace_seconds=20,
                awaited="it takes connections",
                address=str(settings.socket_dir),
            )
        )
    found.append(
        Part(
            "databases",
            [sys.executable, "-m", "deployments.room.databases"],
            ours,
            here,
            None,
            after=("postgres",) if settings.embedded else (),
            silent_seconds=90,  # longer than it waits for locks, after which it says more itself
            elsewhere=elsewhere,
        )
    )
    found.append(
        Part(
            "prefect",
            [sys.executable, "-m", "deployments.server.serve", *map(str, prefect_sockets)],
            common | access.server_env(settings),
            settings.home / "prefect",  # away from a `.env` or prefect.toml of the operator's folder
            # its port takes connections at any time: whoever asks it must not wait before it answers
            lambda started: pulse.prompt(started) and api.answers(),
            after=("databases",),
            early=True,
            awaited=f"its API answers at {access.ui_url(settings)}",
            elsewhere=elsewhere,
            prepare=lambda: shutil.rmtree(access.ui_folder(settings), ignore_errors=True),  # copied again
            # after TERM it waits for open connections without end; its state is in PostgreSQL
            orphan_signal=signal.SIGKILL,
            grace_seconds=5,
            address=access.ui_url(settings),
            fault=pulse.fault,
            pass_fds=tuple(prefect_sockets),
        )
    )
    # a template that someone is editing must not stop the room
    found.append(
        python("deploy", "cli deploy --skip-broken", None, after="prefect", awaited="the runbooks are deployed")
    )
    found.append(
        python(
            "worker",
            "cli worker",
            lambda started: api.workers_online(since=started),
            after="deploy",
            awaited="a worker of each lane is online in Prefect",
            grace_seconds=settings.timings.drain + 20,
        )
    )
    recorded = "it has left its marks in the ops database"
    found.append(
        python("sync", "cli sync", lambda _started: sync_is_current(database), after="prefect", awaited=recorded)
    )
    metrics = exporter_url(settings)
    found.append(
        python(
            "exporter",
            "exporter.metrics",
            lambda _started: exporter_is_ready(metrics),
            after="databases",
            awaited=f"{metrics}/-/ready says that the metrics are complete",
            env=without_prefect,
            address=f"{metrics}/metrics",
            fault=Pulse(exporter_host(settings), "/-/healthy", seconds=patience).fault,
        )
    )
    found.append(
        python(
            "alerter",
            "exporter.alerting",
            lambda started: alerter_works(database, since=started),
            after="databases",
            awaited="it has looked at the rules",
            env=without_prefect,
            grace_seconds=25,  # a delivery that is under way ends, or its message would be sent again
        )
    )
    return found


def exporter_url(settings: Settings) -> str:
    """Where the metrics answer, as seen from this host."""
    address, port = exporter_host(settings)
    host = f"[{address}]" if ":" in address else address
    return f"{'https' if settings.exporter_tls_cert else 'http'}://{host}:{port}"


def exporter_host(settings: Settings) -> tuple[str, int]:
    """Address and port at which this host reaches the metrics."""
    address = ip_address(settings.exporter_address)
    if address.is_unspecified:
        address = ip_address("127.0.0.1" if address.version == 4 else "::1")
    return str(address), settings.exporter_port


def _opened(folders: list[str]) -> str | None:
    """What an operator should know that the start of PostgreSQL changed."""
    if not folders:
        return None
    return f"made passable (o+x) for the user of the embedded PostgreSQL: {', '.join(folders)}"
