"""The test of an Odoo host, here and over SSH, with a real git and curl. Docker and ssh are stand-ins."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from blocks import odoo_host_check
from blocks.odoo_host import OdooHost
from tests.stand_ins.docker import Docker, docker
from tests.stand_ins.ssh import Ssh, ssh

COMPOSE = "deploy/docker-compose.prod.yml"


@pytest.fixture
def health() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/web/health" else 502)
            self.end_headers()

        def log_message(self, *_words: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/web/health"
        server.shutdown()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "odoo"
    (folder / "deploy").mkdir(parents=True)
    (folder / COMPOSE).write_text("services: {odoo: {}, db: {}}\n")
    identity = ["-c", "user.name=t", "-c", "user.email=t@localhost"]
    for words in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "first"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    return folder


@pytest.fixture
def here(short_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that comes first on this host's PATH, short enough for a socket."""
    folder = short_folder / tmp_path.name[-12:]
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


@pytest.fixture
def daemon(here: Path, tmp_path: Path) -> Iterator[Docker]:
    with docker(here, compose_file=COMPOSE, service="odoo", programs=tmp_path) as daemon:
        yield daemon


@pytest.fixture
def far(here: Path, daemon: Docker) -> Ssh:
    """The host `deploy@odoo.example`, port 2222, where Docker is; here it is not."""
    over_there = here / "far"
    over_there.mkdir()
    (here / "docker").rename(over_there / "docker")
    return ssh(here, far_side={"PATH": f"{over_there}:/usr/bin:/bin", "HOME": "/root"})


def wrong(host: OdooHost) -> dict[str, str]:
    return {check.subject: f"{check.found}: {check.advice}" for check in host.check() if not check.ok}


def facts(checkout: Path, health: str, **changes: Any) -> OdooHost:
    return OdooHost(**{"repo_dir": str(checkout), "health_url": health, **changes})


@pytest.mark.usefixtures("daemon")
def test_host_of_the_worker_is_well(checkout: Path, health: str) -> None:
    checks = facts(checkout, health).check()
    assert [check.subject for check in checks if check.ok] == ["reached", "programs", "checkout", "service", "health"]


def test_host_over_ssh_is_looked_at_over_there(checkout: Path, health: str, far: Ssh, daemon: Docker) -> None:
    host = facts(checkout, health, ssh_destination="deploy@odoo.example", ssh_port=2222)
    assert wrong(host) == {}
    assert len(far.calls) == 1
    assert far.calls[0][-3:] == ["deploy@odoo.example", "bash", "-s"]
    assert [call[3] for call in daemon.calls] == ["config", "ps"]


@pytest.mark.usefixtures("daemon")
def test_each_thing_that_is_not_there_is_told_by_itself(checkout: Path, health: str, daemon: Docker) -> None:
    assert list(wrong(facts(checkout, health.replace("/web/health", "/other")))) == ["health"]
    assert "502" in wrong(facts(checkout, health.replace("/web/health", "/other")))["health"]
    found = wrong(facts(checkout, health, service="odo"))
    assert list(found) == ["service"]
    assert "want one of: db odoo" in found["service"]
    assert "no compose file other.yml" in wrong(facts(checkout, health, compose_file="other.yml"))["service"]
    daemon.stopped = True
    assert "odoo does not run" in wrong(facts(checkout, health))["service"]
    assert list(wrong(facts(checkout / "nowhere", health))) == ["checkout", "service"]


def test_missing_programs_are_named(checkout: Path, health: str, far: Ssh, here: Path) -> None:
    (here / "far" / "docker").unlink()
    host = facts(checkout, health, ssh_destination="deploy@odoo.example", ssh_port=2222)
    assert "not on the PATH: docker" in wrong(host)["programs"]
    assert far.calls != []


@pytest.mark.parametrize(
    ("mood", "words"),
    [
        ("Host key verification failed.", "connect once by hand and compare the key: ssh -p 2222 deploy@odoo.example"),
        ("deploy@odoo.example: Permission denied (publickey).", "authorized_keys"),
        ("ssh: connect to host odoo.example port 2222: Connection refused", "see that the host is up"),
    ],
)
def test_ssh_that_does_not_get_in_says_why(checkout: Path, health: str, far: Ssh, mood: str, words: str) -> None:
    far.feel(mood)
    found = wrong(facts(checkout, health, ssh_destination="deploy@odoo.example", ssh_port=2222))
    assert list(found) == ["reached"]
    assert mood in found["reached"]
    assert words in found["reached"]


def test_host_that_hangs_is_given_up_and_leaves_nothing(
    checkout: Path, health: str, far: Ssh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(odoo_host_check, "LOOK_SECONDS", 1.0)
    far.feel("hang")
    began = time.monotonic()
    found = wrong(facts(checkout, health, ssh_destination="deploy@odoo.example", ssh_port=2222))
    assert "no answer within 1 s" in found["reached"]
    assert time.monotonic() - began < 5
    left = subprocess.run(["pgrep", "-f", str(far.state.parent / "ssh")], capture_output=True, check=False)
    assert left.stdout == b""


def test_look_before_an_upgrade_asks_neither_docker_nor_odoo_and_shows_ssh_no_secret(
    checkout: Path, far: Ssh, daemon: Docker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "ops:secret")
    program = Path(os.environ["PATH"].split(":")[0]) / "ssh"
    program.rename(program.with_name("real-ssh"))
    seen = far.state / "environment"
    program.write_text(f'#!/bin/sh\nenv > {seen}\nexec {program.with_name("real-ssh")} "$@"\n')
    program.chmod(0o755)
    host = facts(checkout, "http://127.0.0.1:9/", ssh_destination="deploy@odoo.example", ssh_port=2222)
    checks = odoo_host_check.check_code(host)
    assert [(check.subject, check.ok) for check in checks] == [
        ("reached", True),
        ("programs", True),
        ("checkout", True),
    ]
    assert daemon.calls == []
    assert "PATH=" in seen.read_text()
    assert "PREFECT" not in seen.read_text()
