"""`ops worker`: one process that serves the lanes of a host."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from socket import gethostname
from uuid import UUID

import httpx
import psutil
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from deployments.worker.health import HealthServer
from deployments.worker.lane_worker import LaneWorker, worker_name
from deployments.worker.missed_ticks import EVERY_SECONDS, plan_missed
from deployments.worker.reaper import reap
from opsdb.database import clock_ahead, connect, first_line, server_is_down
from opsdb.errors import UsageError
from opsdb.record.journal import journal_dir
from opsdb.record.recorder import deliver_abandoned
from opsdb.runs.workers import remove_worker, write_worker_heartbeat
from opsdb.setting_sources import as_environment
from opsdb.settings import Settings
from opsdb.tables import Lane
from opsdb.timings import Timings

log = logging.getLogger(__name__)

PLAN_SECONDS = 10.0
"""How long it may take to plan what was due while the room was down; the lanes wait for it when a worker starts."""


async def serve(settings: Settings, lanes: Sequence[Lane]) -> None:
    """Execute runs of the lanes until cancelled.

    The first cancellation takes no new runs and gives running ones `OPS_DRAIN_SECONDS` to end; a second one ends
    them at once. Either way no process is left.
    """
    os.environ.update(as_environment(settings))  # for the processes of runs
    workers = [
        LaneWorker(lane.pool, name=f"{worker_name()}-{lane.lower()}", create_pool_if_not_found=False) for lane in lanes
    ]
    engine = connect(settings, application="worker", statement_seconds=2)
    try:
        health = HealthServer(
            engine,
            address=settings.health_address,
            port=settings.health_port,
            worker_id=worker_name(),
            hosts=settings.known_hosts,
        )
    except OSError as error:
        raise UsageError(
            f"port {settings.health_port} of /health on {settings.health_address}: {error.strerror}; "
            "OPS_HEALTH_PORT and OPS_HEALTH_ADDRESS set it"
        ) from error
    # what the worker asks of Prefect it asks again by itself; with more retries it would sleep for minutes in between
    with health, temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 1}):
        await _serve(settings, workers, engine, lanes)
    engine.dispose()
    for helper in psutil.Process().children():  # the fork server would see by itself that we ended, but later
        with suppress(psutil.NoSuchProcess):
            helper.kill()


async def _serve(settings: Settings, workers: Sequence[LaneWorker], engine: Engine, lanes: Sequence[Lane]) -> None:
    # tasks of asyncio, cancelled once: a task group of anyio cancels again and again until its tasks have ended,
    # and never ended some of Prefect's (anyio 4.16 spins in a cycle of exception contexts)
    timings = settings.timings
    # before a lane judges what is due, by the clock and by the ticks that it knows
    await _set_clocks(engine, workers)
    await _plan_missed(engine)
    tasks = [asyncio.ensure_future(worker.start()) for worker in workers]
    tasks.append(asyncio.ensure_future(_keep_reaping(settings, workers, engine)))
    tasks.append(asyncio.ensure_future(_keep_planning(engine)))
    tasks.append(asyncio.ensure_future(_keep_beating(engine, lanes, timings.beat)))
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        try:
            await _drain(workers, timings)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=timings.close)


async def _keep_reaping(settings: Settings, workers: Sequence[LaneWorker], engine: Engine) -> None:
    def served() -> set[UUID]:
        return {run_id for worker in workers for run_id in worker.in_hand}

    while True:
        try:
            ahead = await asyncio.to_thread(_clock_ahead, engine)
            for worker in workers:
                worker.clock_ahead = ahead
            await asyncio.to_thread(reap, settings, engine, served=served)
            await asyncio.to_thread(deliver_abandoned, engine, journal_dir(settings))
            cut_off = False
        except DBAPIError as error:
            log.warning("reaper: the ops database does not answer: %s", first_line(error))
            cut_off = not server_is_down(error)
        for worker in workers:
            worker.cut_off = cut_off
        await asyncio.sleep(settings.timings.look)


async def _set_clocks(engine: Engine, workers: Sequence[LaneWorker]) -> None:
    with suppress(DBAPIError):  # the reaper says it aloud, and looks again
        ahead = await asyncio.to_thread(_clock_ahead, engine)
        for worker in workers:
            worker.clock_ahead = ahead


async def _keep_planning(engine: Engine) -> None:
    while True:
        await asyncio.sleep(EVERY_SECONDS)
        await _plan_missed(engine)


async def _plan_missed(engine: Engine) -> None:
    """Plan what was due while the room was down. What does not answer now is asked again later."""
    try:
        async with asyncio.timeout(PLAN_SECONDS):
            await plan_missed(engine)
    except (httpx.HTTPError, DBAPIError, TimeoutError, RuntimeError) as error:  # Prefect's client raises the last
        log.warning("missed due times are planned later: %s", first_line(error))


async def _keep_beating(engine: Engine, lanes: Sequence[Lane], seconds: float) -> None:
    """Say that this worker lives, until it ends on purpose, and then that."""
    try:
        while True:
            heartbeat = partial(write_worker_heartbeat, name=worker_name(), host=gethostname(), lanes=lanes)
            await asyncio.to_thread(_note, engine, heartbeat)
            await asyncio.sleep(seconds)
    finally:
        await asyncio.to_thread(_note, engine, partial(remove_worker, name=worker_name()))


def _note(engine: Engine, what: Callable[[Connection], None]) -> None:
    try:
        with engine.begin() as db:
            what(db)
    except DBAPIError as error:
        log.debug("worker: its sign of life was not taken: %s", first_line(error))  # the reaper says it aloud


def _clock_ahead(engine: Engine) -> timedelta:
    with engine.connect() as db:
        return clock_ahead(db)


async def _drain(workers: Sequence[LaneWorker], timings: Timings) -> None:
    """Let runs end for a while, then stop them, then kill them. Being cancelled meanwhile skips the waiting."""
    for worker in workers:
        worker.draining = True
    try:
        await _until_idle(workers, timings.drain)
    finally:
        for process in [process for worker in workers for process in worker.processes.values()]:
            process.terminate()
        await _until_idle(workers, timings.stop)
        for process in [process for worker in workers for process in worker.processes.values()]:
            process.kill()
        await _until_idle(workers, timings.stop)


async def _until_idle(workers: Sequence[LaneWorker], seconds: float) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while any(worker.in_hand for worker in workers) and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.1)
