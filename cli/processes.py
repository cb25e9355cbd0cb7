"""`ops worker` and `ops sync`: the processes that `ops up` runs, each for itself."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Coroutine
from typing import Any

import typer

from opsdb.settings import load_settings
from opsdb.tables import Lane

WORKER_ENV = {
    "PREFECT_WORKER_QUERY_SECONDS": "1",  # a run starts within a second or so; stock: 10
    "PREFECT_WORKER_ENABLE_CANCELLATION": "true",
    "PREFECT_LOGGING_LEVEL": "WARNING",  # Prefect's; the room's own loggers and the runs' stay at INFO
}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (worker, sync):
        app.command(rich_help_panel="Parts of the room: `ops up` runs them")(command)


def worker(
    lanes: str = typer.Option("A,B,C,D", help="The lanes to serve, separated by commas."),
) -> None:
    """Execute the runs of the lanes, until told to stop.

    SIGTERM takes no new runs and gives running ones OPS_DRAIN_SECONDS; a second one ends them at once.

    Example, on a second host: OPS_DATABASE_URL=postgresql://... ops worker --lanes A,B
    """
    from deployments.server import access
    from opsdb.errors import UsageError

    settings = load_settings()
    try:
        chosen = [Lane(name.strip().upper()) for name in lanes.split(",")]
    except ValueError:
        raise UsageError(f"--lanes {lanes}: want one or more of A, B, C, D, as in `--lanes A,B`") from None
    access.use(settings)
    os.environ.update(WORKER_ENV)
    from deployments.worker.serve import serve

    _run_until_told(serve(settings, chosen))


def sync() -> None:
    """Bring what Prefect knows of runs into the ops database, until told to stop."""
    from deployments.server import access

    settings = load_settings()
    access.use(settings)
    from deployments.sync.sync import sync as follow

    _run_until_told(follow(settings))


def _run_until_told(work: Coroutine[Any, Any, None]) -> None:
    """Run until SIGTERM or SIGINT, then let the work clean up."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)

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
