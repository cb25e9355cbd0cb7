"""A real PostgreSQL for tests: one server for the whole session, one database per test."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from deployments.postgres import EmbeddedPostgres


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """Run a server below `folder`; yields a URL pattern with `{database}` in it."""
    server = EmbeddedPostgres(folder / "postgres")
    server.prepare()
    log = (folder / "postgres.log").open("ab")
    process = subprocess.Popen(server.command, **server.identity, cwd="/", stdout=log, stderr=log)
    url = f"postgresql://postgres@/{{database}}?host={server.socket_dir}"
    try:
        for _ in range(200):
            try:
                psycopg.connect(url.format(database="postgres")).close()
                break
            except psycopg.OperationalError:
                if process.poll() is not None:
                    raise RuntimeError((folder / "postgres.log").read_text()) from None
                time.sleep(0.05)
        yield url
    finally:
        process.send_signal(2)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
        log.close()
