"""`/health` of the worker, as the seed has it: 200 `ok`, 503 `degraded` over 500 MB, 503 `unhealthy` with the error."""

from __future__ import annotations

import json
import resource
import threading
import time
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from ipaddress import ip_address
from types import TracebackType
from typing import Any

import psutil
from sqlalchemy import Engine, text

from opsdb.database import first_line
from opsdb.web.hosts import LOOPBACK
from opsdb.web.server import Answer, HttpServer, Request

MEMORY_LIMIT_BYTES = 500 * 1024 * 1024
ANSWER_SECONDS = 0.6


@dataclass(frozen=True)
class Memory:
    """What the worker process holds, in bytes: now, and at most so far."""

    used: int
    peak: int


def report(
    *, worker_id: str, uptime_seconds: float, memory: Memory, database_error: str | None
) -> tuple[int, dict[str, Any]]:
    """The HTTP status and the body of an answer."""
    if database_error is not None:
        return 503, {"status": "unhealthy", "error": database_error}
    healthy = memory.used < MEMORY_LIMIT_BYTES
    body = {
        "status": "ok" if healthy else "degraded",
        "uptime": uptime_seconds,
        "memory": {"heapUsed": _megabytes(memory.used), "heapTotal": _megabytes(memory.peak)},
        "worker_id": worker_id,
    }
    return 200 if healthy else 503, body


def answered_hosts(address: str, known: Collection[str]) -> Collection[str] | None:
    """The host names to which `/health` on an address answers; None is all of them.

    Beyond loopback it answers to any: a platform's probe asks by an address that nobody knows before.
    """
    return known if ip_address(address).is_loopback else None


class HealthServer:
    """Serves `/health`. Use as a context manager. Raises OSError for the port."""

    def __init__(
        self,
        engine: Engine,
        *,
        address: str = "127.0.0.1",
        port: int,
        worker_id: str,
        hosts: Collection[str] = LOOPBACK,
    ) -> None:
        self._check = DatabaseCheck(engine)
        self._worker_id = worker_id
        self._started_at = time.monotonic()
        self._server = HttpServer(address, port, self._answer, hosts=answered_hosts(address, hosts), name="ops-health")

    def __enter__(self) -> HealthServer:
        self._server.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.__exit__(kind, error, trace)
        self._check.close()

    def _answer(self, request: Request) -> Answer:
        status, body = self._report() if request.path == "/health" else (404, {"error": "see /health"})
        return Answer(status, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _report(self) -> tuple[int, dict[str, Any]]:
        """What `/health` says now, within a second."""
        used = psutil.Process().memory_info().rss
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return report(
            worker_id=self._worker_id,
            uptime_seconds=round(time.monotonic() - self._started_at, 3),
            memory=Memory(used=used, peak=max(peak, used)),
            database_error=self._check.error(),
        )


class DatabaseCheck:
    """Asks the database in a thread, so that a database that hangs does not hang the answer."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="ops-health-check")
        self._asked: Future[None] | None = None
        self._lock = threading.Lock()

    def error(self) -> str | None:
        """Why the ops database is not usable, or None."""
        with self._lock:
            if self._asked is None or self._asked.done():
                self._asked = self._pool.submit(self._query)
            asked = self._asked
        try:
            asked.result(timeout=ANSWER_SECONDS)
        except FutureTimeoutError:
            return f"the ops database did not answer within {ANSWER_SECONDS:g} s"
        except Exception as error:  # whatever it is, it is what the answer is about
            return first_line(error)
        return None

    def close(self) -> None:
        """Wait for nobody."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _query(self) -> None:
        with self._engine.connect() as db:
            db.execute(text("SELECT id FROM ops.sessions LIMIT 1"))


def _megabytes(size: int) -> str:
    return f"{round(size / 1024 / 1024)}MB"
