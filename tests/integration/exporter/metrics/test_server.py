"""The exporter as its clients have it: pages, guards, many at once."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier
from typing import Any

import httpx
import psycopg
import pytest
from pydantic import SecretStr

from exporter.metrics.credentials import hash_password
from exporter.metrics.scrape import Scraper
from exporter.metrics.server import MetricsServer
from opsdb.errors import UsageError
from opsdb.settings import Settings
from opsdb.web.guesses import FROM_ONE
from tests.integration.exporter.conftest import Scrape, Served, serving
from tests.support.certificates import make_certificate
from tests.support.children import free_port
from tests.support.slow_clients import slow_clients, unfinished


def test_pages_say_what_they_are(served: Served) -> None:
    landing = served.get("/")
    assert landing.headers["Content-Type"].startswith("text/html")
    assert all(path in landing.text for path in ("/metrics", "/-/healthy", "/-/ready"))
    assert (served.get("/-/healthy").status_code, served.get("/-/ready").status_code) == (200, 200)
    assert served.get("/metrics?x=1").headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert served.get("/nothing").status_code == 404


def connections(db: psycopg.Connection[Any]) -> int:
    row = db.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ops exporter' AND datname = current_database()"
    ).fetchone()
    return int(row[0]) if row else 0


def test_eight_scrapes_at_once_use_one_connection(served: Served, settings: Settings) -> None:
    with psycopg.connect(settings.ops_url, autocommit=True) as db, ThreadPoolExecutor(9) as pool:
        seen = []
        for _ in range(5):
            answers = [pool.submit(served.scrape) for _ in range(8)]
            seen.append(connections(db))
            assert [answer.result()("ops_up") for answer in answers] == [1] * 8
            seen.append(connections(db))
    assert max(seen) == 1


def test_scrapes_at_once_share_one_result(served: Served, settings: Settings) -> None:
    with psycopg.connect(settings.ops_url) as db:
        db.execute("LOCK TABLE ops.metric_totals IN ACCESS EXCLUSIVE MODE")  # keeps the first one busy
        together = Barrier(8)

        def scrape(_: int) -> str:
            together.wait(60)
            return served.get().text

        with ThreadPoolExecutor(8) as pool:
            texts = list(pool.map(scrape, range(8)))
    durations = {Scrape(text)("ops_exporter_collector_duration_seconds", collector="totals") for text in texts}
    assert len(durations) == 1
    assert Scrape(texts[0])("ops_up") == 0


def test_crowd_of_slow_clients_does_not_make_the_metrics_deaf(served: Served) -> None:
    with slow_clients(served.settings.exporter_port, unfinished, count=300):
        assert served.scrape()("ops_up") == 1


def test_metrics_on_loopback_are_for_known_hosts(served: Served) -> None:
    for path in ("/metrics", "/", "/-/ready", "/-/healthy", "/nothing"):
        assert served.get(path, Host="evil.example:9464").status_code == 421
        assert served.get(path, Host="localhost:9464").status_code != 421


def test_guesses_are_limited_and_never_in_the_way_of_the_right_password(settings: Settings) -> None:
    with serving(settings, exporter_basic_auth=SecretStr(hash_password("prom", "secret"))) as served:

        def ask(password: str) -> httpx.Response:
            return httpx.get(served.url, auth=("prom", password), timeout=20, trust_env=False)

        assert ask("secret").status_code == 200
        statuses = []
        for number in range(FROM_ONE + 5):
            statuses.append(ask(str(number)).status_code)
            assert ask("secret").status_code == 200
        assert statuses[: FROM_ONE - 1] == [401] * (FROM_ONE - 1)
        assert statuses[-1] == 429
        assert int(ask("x").headers["Retry-After"]) > 0


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.1"])  # noqa: S104  # it is refused
def test_open_address_without_a_guard_is_refused(settings: Settings, address: str) -> None:
    scraper = Scraper(settings.ops_url, None)  # type: ignore[arg-type]  # it is never asked
    with pytest.raises(UsageError, match="OPS_EXPORTER_BASIC_AUTH"):
        MetricsServer(settings.model_copy(update={"exporter_address": address}), scraper)
    scraper.close()


def test_taken_port_is_named_with_its_setting(served: Served) -> None:
    scraper = Scraper(served.settings.ops_url, None)  # type: ignore[arg-type]  # it is never asked
    with pytest.raises(UsageError, match=f"port {served.settings.exporter_port}: .*OPS_EXPORTER_PORT"):
        MetricsServer(served.settings, scraper)
    scraper.close()


def test_password_opens_the_metrics_on_an_open_address(settings: Settings) -> None:
    stored = SecretStr(hash_password("prom", "geheim: ü"))
    with serving(settings, exporter_basic_auth=stored, exporter_address="0.0.0.0") as served:  # noqa: S104  # guarded
        for auth, status in (
            (None, 401),
            (("prom", "wrong"), 401),
            (("x", "geheim: ü"), 401),
            (("prom", "geheim: ü"), 200),
        ):
            for path in ("/metrics", "/"):
                answer = httpx.get(
                    f"{served.url}{path}", auth=auth, headers={"Host": "metrics"}, timeout=20, trust_env=False
                )  # by any name: Prometheus has the password, and no foreign page has
                assert answer.status_code == status
                assert ("ops_runs" in answer.text) is (status == 200 and path == "/metrics")
        assert served.get("/-/healthy").status_code == served.get("/-/ready").status_code == 200


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    return make_certificate(tmp_path)


def test_tls_is_spoken_and_nothing_else(settings: Settings, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    with serving(settings, exporter_tls_cert=cert, exporter_tls_key=key) as served:
        port = served.settings.exporter_port
        with socket.create_connection(("127.0.0.1", port)):  # says nothing, and stops nobody
            trusted = ssl.create_default_context(cafile=str(cert))
            answer = httpx.get(f"https://127.0.0.1:{port}/metrics", verify=trusted, timeout=20, trust_env=False)
            assert Scrape(answer.text)("ops_up") == 1
            with pytest.raises(httpx.HTTPError):
                served.get()


@contextmanager
def command(settings: Settings) -> Iterator[subprocess.Popen[str]]:
    """`ops exporter`, as the room starts it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OPS_", "PREFECT_"))}
    ours = {"OPS_DATABASE_URL": settings.ops_url, "OPS_EXPORTER_PORT": str(settings.exporter_port)}
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", "exporter"], env=environment | ours, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_command_serves_until_it_is_told_to_end(settings: Settings) -> None:
    changed = settings.model_copy(update={"exporter_port": free_port()})
    with command(changed) as process:
        deadline = time.monotonic() + 60
        while True:
            try:
                text = httpx.get(f"http://127.0.0.1:{changed.exporter_port}/metrics", timeout=20, trust_env=False).text
                break
            except httpx.HTTPError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        said = Scrape(text)
        assert said("ops_up") == 1
        assert said("ops_runs_created_total", kind="odoo_db_backup", lane="D") == 0  # from prefect.yaml
        process.terminate()
        assert process.wait(30) == 0


def test_command_says_in_one_line_that_its_port_is_taken(served: Served) -> None:
    with command(served.settings) as process:
        assert process.wait(60) == 2
        assert process.stderr is not None
        lines = process.stderr.read().splitlines()
    assert [line[:5] for line in lines] == ["ops: "]


def test_unusable_certificate_is_named(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("no certificate")
    files: dict[str, Any] = {"exporter_tls_cert": tmp_path / "cert.pem", "exporter_tls_key": tmp_path / "key.pem"}
    with pytest.raises(UsageError, match="OPS_EXPORTER_TLS_CERT"), serving(settings, **files):
        pass
    with pytest.raises(UsageError, match="belong together"), serving(settings, exporter_tls_cert=tmp_path / "cert.pem"):
        pass
