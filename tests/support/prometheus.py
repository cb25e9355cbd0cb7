"""A real Prometheus that scrapes one address every second, with the room's own configuration and rules."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.support.children import child, free_port
from tests.support.programs import program

ROOT = Path(__file__).parents[2]


class Prometheus:
    """Its HTTP API."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, path: str, **params: str) -> Any:
        """The `data` of an answer. Raises AssertionError with Prometheus's message where it refuses."""
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=params, timeout=10, trust_env=False)
        body = answer.json()
        assert body["status"] == "success", body.get("error")
        return body["data"]

    def now(self, expression: str, **params: str) -> list[dict[str, Any]]:
        """The series of an expression as they stand, those whose value is no number left out."""
        result: list[dict[str, Any]] = self.ask("query", query=expression, **params)["result"]
        return [series for series in result if series["value"][1] != "NaN"]

    def over(self, expression: str, *, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """The series of an expression over time."""
        times = {"start": str(start), "end": str(end), "step": str(step)}
        result: list[dict[str, Any]] = self.ask("query_range", query=expression, **times)["result"]
        return result


def configuration(target: str, *, alertmanager: str, rules: Path) -> str:
    """The configuration that the room ships, with these addresses, a second for each interval, and bases of links."""
    changes = {
        "/opt/ops-control-room/exporter/rules": str(rules),
        "127.0.0.1:9464": target,
        "127.0.0.1:9093": alertmanager,
        "15s": "1s",
    }
    shipped = with_changes("prometheus.yml", changes)
    return re.sub(r"^  # (external_labels:|  ops_\w+:.*)$", r"  \1", shipped, flags=re.MULTILINE)


def with_changes(name: str, changes: Mapping[str, str]) -> str:
    """A file of `exporter/provisioning`, with texts replaced that must all be in it."""
    shipped = (ROOT / "exporter" / "provisioning" / name).read_text()
    for old, new in changes.items():
        assert old in shipped
        shipped = shipped.replace(old, new)
    return shipped


@contextmanager
def scraping(
    target: str, folder: Path, *, alertmanager: str = "", rules: Path = ROOT / "exporter" / "rules"
) -> Iterator[Prometheus]:
    """Run Debian's Prometheus below `folder` on a free loopback port, stopped by its own pid.

    `target` and `alertmanager` are `host:port`; without the latter nobody hears of alerts.
    """
    binary = program("prometheus", package="prometheus")
    (folder / "prometheus.yml").write_text(
        configuration(target, alertmanager=alertmanager or f"127.0.0.1:{free_port()}", rules=rules)
    )
    port = free_port()
    argv = [
        binary,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--storage.tsdb.retention.time=1h",
        "--log.level=warn",
    ]
    log = folder / "prometheus.log"
    with child(argv, os.environ, log) as process:
        wait_until_ready(f"http://127.0.0.1:{port}", process, log)
        yield Prometheus(f"http://127.0.0.1:{port}")


def wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for a Prometheus, or an Alertmanager, which has the same sign of life. Raises RuntimeError with its log."""
    for _ in range(600):
        if process.poll() is not None:
            break
        try:
            if httpx.get(f"{url}/-/ready", timeout=2, trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"{log.stem} did not come up: {log.read_text()[-2000:]}")
