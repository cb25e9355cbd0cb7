"""The test of an Odoo host, here and over SSH, with a real git, curl and OpenSSH. Docker is a stand-in."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from blocks import odoo_host
from blocks.odoo_host import OdooHost
from cli.doctor.blocks import BLOCK_SECONDS, REQUEST_SECONDS
from cli.doctor.doctor import CHECK_SECONDS
from tests.support.children import free_port
from tests.support.other_user import NOBODY
from tests.support.programs import needs_root
from tests.support.silent_server import silent_server
from tests.support.ssh_server import SshServer, ssh_server
from tests.support.stand_ins.docker import Docker, docker

COMPOSE = "deploy/docker-compose.prod.yml"


@pytest.fixture
def health() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/web/health?db_server_status=1" else 502)
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
def daemon(path_folder: Path, tmp_path: Path) -> Iterator[Docker]:
    with docker(path_folder, compose_file=COMPOSE, service="odoo", programs=tmp_path) as daemon:
        yield daemon


@pytest.fixture
def far(path_folder: Path, daemon: Docker, tmp_path: Path) -> Iterator[SshServer]:
    """The host where Docker is; here it is not."""
    over_there = path_folder / "far"
    over_there.mkdir()
    (path_folder / "docker").rename(over_there / "docker")
    environment = {"PATH": f"{over_there}:/usr/bin:/bin"}
    with ssh_server(tmp_path / "sshd", free_port(), client=path_folder, environment=environment) as server:
        yield server


def wrong(host: OdooHost) -> dict[str, str]:
    return {check.subject: f"{check.found}: {check.advice}" for check in host.check() if not check.ok}


def facts(checkout: Path, health: str, **changes: Any) -> OdooHost:
    return OdooHost(**{"repo_dir": str(checkout), "health_url": health, **changes})


def over(far: SshServer, **changes: Any) -> dict[str, Any]:
    """How the block says where `far` is."""
    return {"ssh_destination": far.destination, "ssh_port": far.port, **changes}


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize("end", ["", "/"])
def test_host_of_the_worker_is_well(checkout: Path, health: str, end: str) -> None:
    checks = facts(checkout, health + end).check()
    assert [check.subject for check in checks if check.ok] == ["reached", "programs", "checkout", "service", "health"]


def test_host_over_ssh_is_looked_at_over_there(checkout: Path, health: str, far: SshServer, daemon: Docker) -> None:
    checks = facts(checkout, health, **over(far)).check()
    assert [check.subject for check in checks if check.ok] == ["reached", "programs", "checkout", "service", "health"]
    assert checks[0].found == f"{far.destination} answers over SSH"
    assert far.logins == 1
    assert [call[3] for call in daemon.calls] == ["config", "ps"]


@pytest.mark.usefixtures("daemon")
def test_each_thing_that_is_not_there_is_told_by_itself(checkout: Path, health: str, daemon: Docker) -> None:
    assert list(wrong(facts(checkout, health.replace("/web/health", "/other")))) == ["health"]
    assert "502" in wrong(facts(checkout, health.replace("/web/health", "/other")))["health"]
    found = wrong(facts(checkout, health, service="odo"))
    assert list(found) == ["service"]
    assert "choose from: db odoo" in found["service"]
    assert "no compose file other.yml" in wrong(facts(checkout, health, compose_file="other.yml"))["service"]
    daemon.stopped = True
    assert "odoo does not run" in wrong(facts(checkout, health))["service"]
    assert list(wrong(facts(checkout / "nowhere", health))) == ["checkout", "service"]
    (checkout / COMPOSE).write_text("services: {odoo: {}}\n")
    found = wrong(facts(checkout, health))
    assert f"{checkout} was changed by hand: M {COMPOSE}: commit or stash it there" in found["checkout"]


def test_missing_programs_are_named(checkout: Path, health: str, far: SshServer, path_folder: Path) -> None:
    (path_folder / "far" / "docker").unlink()
    assert "not on the PATH: docker" in wrong(facts(checkout, health, **over(far)))["programs"]


def test_key_of_a_host_that_nobody_knows_is_refused(checkout: Path, health: str, far: SshServer) -> None:
    far.known_hosts.write_text("")
    found = wrong(facts(checkout, health, **over(far)))
    assert list(found) == ["reached"]
    assert "Host key verification failed" in found["reached"]
    assert f"connect once by hand and compare the key: ssh -p {far.port} {far.destination}" in found["reached"]
    assert (far.logins, far.known_hosts.read_text()) == (0, "")


def test_key_of_a_host_that_is_another_than_before_is_refused(checkout: Path, health: str, far: SshServer) -> None:
    far.know("other-key")
    known = far.known_hosts.read_text()
    found = wrong(facts(checkout, health, **over(far)))
    assert list(found) == ["reached"]
    assert "the host shows another key than the one that is known" in found["reached"]
    assert f"ssh-keygen -R '[127.0.0.1]:{far.port}'" in found["reached"]
    assert (far.logins, far.known_hosts.read_text()) == (0, known)


def test_worker_whose_key_is_not_let_in_is_told_where_it_belongs(checkout: Path, health: str, far: SshServer) -> None:
    (far.folder / "authorized-keys").write_text("")
    found = wrong(facts(checkout, health, **over(far)))
    assert list(found) == ["reached"]
    assert "Permission denied (publickey)" in found["reached"]
    assert "authorized_keys" in found["reached"]


def test_port_where_nothing_listens_says_what_to_try(checkout: Path, health: str, far: SshServer) -> None:
    found = wrong(facts(checkout, health, **over(far, ssh_port=9)))
    assert list(found) == ["reached"]
    assert "Connection refused" in found["reached"]
    assert f"see that the host is up, and whether this works: ssh -p 9 {far.destination}" in found["reached"]


def test_server_that_says_nothing_is_given_up_after_5_s(checkout: Path, health: str, far: SshServer) -> None:
    began = time.monotonic()
    with silent_server() as port:
        found = wrong(facts(checkout, health, **over(far, ssh_port=port)))
    assert "timed out" in found["reached"]
    assert "see that the host is up" in found["reached"]
    assert time.monotonic() - began < odoo_host.HOST_SECONDS


def test_host_that_hangs_is_given_up_and_leaves_nothing(
    checkout: Path, health: str, far: SshServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(odoo_host, "HOST_SECONDS", 1.0)
    monkeypatch.setattr(odoo_host, "CHECK_STATUS_SECONDS", 0)
    began = time.monotonic()
    with silent_server() as port:
        found = wrong(facts(checkout, health, **over(far, ssh_port=port)))
    assert "no answer within 1 s" in found["reached"]
    assert time.monotonic() - began < 5
    left = subprocess.run(["pgrep", "-f", f"{far.folder}/ssh-config"], capture_output=True, check=False)
    assert left.stdout == b""


@pytest.mark.usefixtures("daemon")
def test_git_status_that_does_not_end_in_time_is_the_reason(
    checkout: Path, health: str, path_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git, real = path_folder / "git", shutil.which("git")
    git.write_text(f'#!/bin/sh\ncase " $* " in *" status "*) exec sleep 60 ;; esac\nexec {real} "$@"\n')
    git.chmod(0o755)
    monkeypatch.setattr(odoo_host, "STATUS_SECONDS", 1)
    [reached, programs, found] = odoo_host.check_code(facts(checkout, "http://127.0.0.1:9/"))
    assert (reached.ok, programs.ok or "docker" in programs.found, found.ok) == (True, True, False)
    assert f"{checkout}: git status did not end within 1 s" in found.found
    assert "look at the disk" in found.advice
    monkeypatch.setattr(odoo_host, "STATUS_SECONDS", 60)
    monkeypatch.setattr(odoo_host, "CHECK_STATUS_SECONDS", 1)
    assert wrong(facts(checkout, health)) == {"checkout": f"{found.found}: {found.advice}"}


def test_doctor_waits_for_what_a_host_says_of_its_git_status() -> None:
    """Else it would say no more than that a check did not end."""
    longest = odoo_host.HOST_SECONDS + odoo_host.CHECK_STATUS_SECONDS
    assert longest < BLOCK_SECONDS
    assert BLOCK_SECONDS + REQUEST_SECONDS < CHECK_SECONDS


@needs_root
def test_checkout_of_another_user_says_how_git_trusts_it(checkout: Path) -> None:
    os.chown(checkout, NOBODY, NOBODY)
    found = odoo_host.check_code(facts(checkout, "http://127.0.0.1:9/"))[-1]
    assert found.found == f"{checkout} belongs to another user, and git refuses it"
    assert f"git config --global --add safe.directory {checkout}" in found.advice


def test_look_before_an_upgrade_asks_neither_docker_nor_odoo_and_shows_ssh_no_secret(
    checkout: Path, path_folder: Path, far: SshServer, daemon: Docker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "ops:secret")
    program, seen = path_folder / "ssh", path_folder / "environment"
    program.rename(path_folder / "real-ssh")
    program.write_text(f'#!/bin/sh\nenv > {seen}\nexec {path_folder}/real-ssh "$@"\n')
    program.chmod(0o755)
    checks = odoo_host.check_code(facts(checkout, "http://127.0.0.1:9/", **over(far)))
    assert [(check.subject, check.ok) for check in checks] == [
        ("reached", True),
        ("programs", True),
        ("checkout", True),
    ]
    assert daemon.calls == []
    assert "PATH=" in seen.read_text()
    assert "PREFECT" not in seen.read_text()
