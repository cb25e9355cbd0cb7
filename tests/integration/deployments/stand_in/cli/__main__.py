"""Stands in for what `ops up` starts of ours: what the room's readiness checks look for, and no more."""

import os
import signal
import sys
import time
import uuid
from collections.abc import Callable
from functools import partial

import httpx
import psycopg

from opsdb.start_signal import await_start

POOLS = ("lane-a", "lane-b", "lane-c", "lane-d")


def prefect() -> httpx.Client:
    user, _, password = os.environ["PREFECT_API_AUTH_STRING"].partition(":")
    http = httpx.Client(base_url=os.environ["PREFECT_API_URL"], auth=(user, password), trust_env=False)
    client = str(uuid.uuid4())
    token = http.get("/csrf-token", params={"client": client}).raise_for_status().json()["token"]
    http.headers.update({"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": client})
    return http


def deploy() -> None:
    http = prefect()
    for pool in POOLS:
        if http.get(f"/work_pools/{pool}").status_code == 404:
            http.post("/work_pools/", json={"name": pool, "type": "process"}).raise_for_status()


def worker() -> None:
    http = prefect()
    while True:
        for pool in POOLS:
            body = {"name": "stand-in", "heartbeat_interval_seconds": 30}
            http.post(f"/work_pools/{pool}/workers/heartbeat", json=body).raise_for_status()
        time.sleep(5)


def mark(*names: str) -> None:
    url = f"postgresql://postgres@/ops?host={os.environ['OPS_HOME']}/postgres/socket"
    with psycopg.connect(url, autocommit=True) as db:
        while True:
            db.execute(
                "INSERT INTO ops.sync_marks (name, at, updated_at) "
                "SELECT name, now(), now() FROM unnest(%s::text[]) name "
                "ON CONFLICT (name) DO UPDATE SET updated_at = now()",
                [list(names)],
            )
            time.sleep(1)


if __name__ == "__main__":
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
    await_start()
    sync = partial(mark, "sync", "sweep", "totals")
    parts: dict[str, Callable[[], None]] = {"deploy": deploy, "worker": worker, "sync": sync}
    parts[sys.argv[1]]()
