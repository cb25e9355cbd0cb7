"""`ops worker`, `ops sync`, `ops exporter` and `ops alerter`: the parts that `ops up` runs, each for itself."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Coroutine
from functools import partial
from typing import Annotated, Any, NoReturn

import typer

from opsdb.errors import UsageError
from opsdb.open_files import allow_open_files
from opsdb.own_loggers import log_at_info
from opsdb.settings import load_settings
from opsdb.start_signal import await_start
from opsdb.tables import Lane

WORKER_ENV = {
    "PREFECT_WORKER_QUERY_SECONDS": "1",  # a run starts within a second or so; stock: 10
    "PREFECT_WORKER_ENABLE_CANCELLATION": "true",
    "PREFECT_LOGGING_LEVEL": "WARNING",  # Prefect's own; flows/engine/run_logger.py says what runs log
    "PREFECT_LOGGING_TO_API_ENABLED": "false",  # flows/engine/page.py sends what a run shows
}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (worker, sync, exporter, alerter):
        app.command(rich_help_panel="Parts of the room: `ops up` runs them")(command)


def worker(
    lanes: str = typer.Option("A,B,C,D", help="The lanes to serve, separated by commas."),
) -> None:
    """Execute the runs of the lanes, until stopped.

    SIGTERM takes no new runs and gives running ones OPS_DRAIN_SECONDS; a second one ends them at once.

    Example, on a second host: OPS_DATABASE_URL=postgresql://... ops worker --lanes A,B
    """
    from deployments.server import access

    settings = load_settings()
    try:
        chosen = [Lane(name.strip().upper()) for name in lanes.split(",")]
    except ValueError:
        raise UsageError(f"--lanes {lanes}: expected one or more of A, B, C, D, as in `--lanes A,B`") from None
    allow_open_files()
    access.use(settings)
    os.environ.update(WORKER_ENV)
    from deployments.worker.serve import serve

    await_start()
    _run_until_told(serve(settings, chosen))


def sync() -> None:
    """Copy the state of runs from Prefect into the ops database, until stopped."""
    from deployments.server import access

    settings = load_settings()
    access.use(settings)
    from deployments.prune.daily import keep_pruning
    from deployments.server.plan_watch import PlanWatch
    from deployments.sync.sync import Beside
    from deployments.sync.sync import sync as follow

    beside: dict[str, Beside] = {
        "plans": lambda client, engine: PlanWatch(client, engine).keep_watching(),
        "prune": partial(keep_pruning, settings),
    }
    await_start()
    _run_until_told(follow(settings, beside=beside))


def exporter(
    *,
    hash_password: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Ask for a password and print the value of OPS_EXPORTER_BASIC_AUTH."),
    ] = None,
) -> None:
    """Serve metrics for Prometheus from the ops database, until stopped. Alerts are `ops alerter`.

    They are on 127.0.0.1:9464/metrics unless OPS_EXPORTER_PORT and OPS_EXPORTER_ADDRESS say otherwise.
    """
    if hash_password is not None:
        _print_hash(hash_password)
        return
    _become("exporter.metrics")


def alerter() -> None:
    """Watch the rules and deliver alerts to the addresses of OPS_ALERT_URLS, until stopped.

    One alerter of an OPS_HOME works; a second one waits until the first has ended.
    """
    _become("exporter.alerting")


def _become(module: str) -> NoReturn:
    """Run a module in place of this process, without the weight of the command line."""
    os.execv(sys.executable, [sys.executable, "-m", module])  # noqa: S606  # no shell is what is wanted


def _print_hash(name: str) -> None:
    from exporter.metrics import credentials

    if not name or ":" in name:
        raise UsageError("--hash-password: expected a name without a colon")
    if sys.stdin.isatty():
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        password = sys.stdin.readline().rstrip("\n")
    if not password:
        raise UsageError("--hash-password: no password was given")
    sys.stdout.write(credentials.hash_password(name, password) + "\n")


def _run_until_told(work: Coroutine[Any, Any, None]) -> None:
    """Run until SIGTERM or SIGINT, then let the work clean up."""
    log_at_info()

    async def supervised() -> None:
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            logging.getLogger("ops").info("stopped")

    asyncio.run(supervised())
