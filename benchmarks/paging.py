"""The approach of prometheus-prefect-exporter over equal rows: page all active runs on each scrape, a sample for each.

`python -m benchmarks.paging api URL PORT` stands in for Prefect's API: it gives pages of `ops.runs` in the shape of
`POST /flow_runs/filter`, straight from SQL, which is faster than Prefect's own server.
`python -m benchmarks.paging exporter API_PORT PORT` serves metrics made of those pages.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import psycopg
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

PAGE = 200
"""The most that Prefect's API gives at once."""
LABELS = ("created", "deployment_id", "flow_id", "flow_run_id", "flow_run_name", "run_count", "start_time")
PAGE_SQL = """
SELECT id::text, kind, created_at::text, started_at::text, state_id::text, lane::text, attempt, status
FROM ops.runs WHERE finished_at IS NULL ORDER BY id LIMIT %s OFFSET %s
"""


def serve_api(url: str, port: int) -> None:
    """Serve pages of active runs."""
    db = psycopg.connect(url, autocommit=True)

    class Pages(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            rows = db.execute(PAGE_SQL, [asked["limit"], asked["offset"]]).fetchall()
            body = json.dumps([_flow_run(row) for row in rows]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it so
            pass

    ThreadingHTTPServer(("127.0.0.1", port), Pages).serve_forever()


def _flow_run(row: tuple[Any, ...]) -> dict[str, Any]:
    """A flow run with the fields that Prefect gives, about as long."""
    run_id, kind, created, started, state_id, lane, attempt, status = row
    state = {"id": state_id, "type": status.upper(), "name": status.title(), "timestamp": started, "message": None}
    return {
        "id": run_id,
        "created": created,
        "updated": started,
        "name": f"{kind}-{run_id[:8]}",
        "flow_id": state_id,
        "deployment_id": state_id,
        "deployment_version": None,
        "work_queue_name": "default",
        "work_queue_id": state_id,
        "work_pool_id": state_id,
        "work_pool_name": f"lane-{lane.lower()}",
        "flow_version": "0f1e2d3c4b5a69788796a5b4c3d2e1f0",
        "parameters": {},
        "idempotency_key": run_id,
        "context": {},
        "empirical_policy": {"max_retries": 0, "retry_delay_seconds": 0, "retries": 0, "retry_delay": 0},
        "tags": ["runbook"],
        "labels": {"prefect.flow.id": state_id, "prefect.deployment.id": state_id},
        "state_id": state_id,
        "state_type": status.upper(),
        "state_name": status.title(),
        "state": state | {"data": None, "state_details": {"flow_run_id": run_id, "scheduled_time": created}},
        "run_count": attempt,
        "expected_start_time": created,
        "start_time": started,
        "end_time": None,
        "total_run_time": 0.0,
        "estimated_run_time": 1.5,
        "auto_scheduled": False,
    }


class PagingCollector(Collector):
    """Asks for all pages, twice as the peer does, and makes a sample of each run."""

    def __init__(self, api_port: int) -> None:
        self._endpoint = f"http://127.0.0.1:{api_port}/api/flow_runs/filter"

    def describe(self) -> list[Metric]:
        """Nothing: else it would collect while it is registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The families."""
        info = GaugeMetricFamily("prefect_info_flow_runs", "Flow runs.", labels=LABELS)
        for run in self._runs():
            info.add_metric(
                [
                    str(run[key])
                    for key in ("created", "deployment_id", "flow_id", "id", "name", "run_count", "start_time")
                ],
                int(run["state_name"] == "Running"),
            )
        yield info
        time = CounterMetricFamily("prefect_flow_runs_total_run_time", "Run time.", labels=("flow_id", "flow_run_name"))
        for run in self._runs():
            time.add_metric([str(run["flow_id"]), run["name"]], run["total_run_time"])
        yield time

    def _runs(self) -> Iterator[dict[str, Any]]:
        offset = 0
        while page := httpx.post(
            self._endpoint, json={"limit": PAGE, "offset": offset}, timeout=60, trust_env=False
        ).json():
            yield from page
            offset += PAGE


def serve_metrics(api_port: int, port: int) -> None:
    """Serve the metrics that paging gives."""
    registry = CollectorRegistry()
    registry.register(PagingCollector(api_port))
    _, thread = start_http_server(port, "127.0.0.1", registry)
    thread.join()


if __name__ == "__main__":
    if sys.argv[1] == "api":
        serve_api(sys.argv[2], int(sys.argv[3]))
    else:
        serve_metrics(int(sys.argv[2]), int(sys.argv[3]))
