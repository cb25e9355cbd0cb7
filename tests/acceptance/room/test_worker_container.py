"""A worker as its container starts it: on a home of its own, by a tunnel to the room, with the room's secrets."""

from __future__ import annotations

import base64
import io
import os
import signal
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from tests.acceptance.room.desk import Desk
from tests.support.children import free_port
from tests.support.documents import ROOT
from tests.support.postgres import short_folder
from tests.support.ssh_server import SshServer, ssh_server
from tests.support.waiting import stopped, wait_for

SCRIPT = ROOT / "deployments/hosting/worker_container.sh"


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[SshServer]:
    (tmp_path / "bin").mkdir()
    with ssh_server(tmp_path / "sshd", free_port(), client=tmp_path / "bin", environment={}) as server:
        yield server


def secrets(desk: Desk, sshd: SshServer, *, without: str = "") -> str:
    """What the page of production tells to put into ROOM_SECRETS."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for path, name in (
            (desk.home / "secrets.json", "secrets.json"),
            (sshd.folder / "key", "ssh/key"),
            (sshd.known_hosts, "ssh/known_hosts"),
        ):
            if name != without:
                archive.add(path, name)
    return base64.b64encode(packed.getvalue()).decode()


def environment(desk: Desk, sshd: SshServer, home: Path) -> dict[str, str]:
    return {
        **desk.env,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "OPS_HOME": str(home),
        "OPS_DATABASE_URL": desk.url("ops"),
        "OPS_PREFECT_PORT": str(free_port()),
        "OPS_HEALTH_PORT": str(free_port()),
        "OPS_HEALTH_ADDRESS": "127.0.0.1",
        "OPS_DRAIN_SECONDS": "5",
        "ROOM_SECRETS": secrets(desk, sshd),
        "ROOM_SSH": sshd.destination,
        "ROOM_SSH_PORT": str(sshd.port),
        "ROOM_PREFECT_PORT": str(desk.ports[0]),
    }


@dataclass
class Container:
    """The script as the first process of a container, and where its worker answers for its health."""

    process: subprocess.Popen[bytes]
    health: str

    def healthy(self) -> bool:
        assert self.process.poll() is None, "the container ended"
        try:
            return httpx.get(self.health, timeout=2, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def worker(self) -> int:
        """The pid of `ops worker`."""
        (found,) = [
            child.pid for child in psutil.Process(self.process.pid).children() if "worker" in child.cmdline()[2:]
        ]
        return found


@contextmanager
def container(env: dict[str, str]) -> Iterator[Container]:
    with subprocess.Popen([SCRIPT], env=env) as process:
        try:
            yield Container(process, f"http://127.0.0.1:{env['OPS_HEALTH_PORT']}/health")
        finally:
            if process.poll() is None:
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
                process.kill()


def test_worker_executes_runs_of_the_room_and_ends_in_good_order(desk: Desk, sshd: SshServer) -> None:
    with short_folder() as folder, container(environment(desk, sshd, folder / "room")) as started:
        wait_for(started.healthy, seconds=120)
        room = desk.pid_of("worker")
        assert room
        with stopped([room]):
            run = desk.run("disk_space", "-p", f"folder={folder}")
        assert run["status"] == "succeeded"
        assert run["claimed_by"] == f"{socket.gethostname()}-{started.worker()}"
        [tunnel] = [
            one
            for one in psutil.process_iter(["cmdline"])
            if str(folder) in " ".join(one.info["cmdline"] or ()) and one.name() == "ssh"
        ]
        tunnel.kill()  # it is opened again, and the worker goes on
        wait_for(lambda: sshd.logins > 1, seconds=30)
        assert started.process.poll() is None
        started.process.send_signal(signal.SIGTERM)
        assert started.process.wait(60) == 0
        left = [one for one in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(one.info["cmdline"] or ())]
        assert left == []


@pytest.mark.parametrize("name", ["OPS_DATABASE_URL", "ROOM_SECRETS", "ROOM_SSH"])
def test_container_says_which_variable_is_not_set(desk: Desk, sshd: SshServer, tmp_path: Path, name: str) -> None:
    env = environment(desk, sshd, tmp_path / "room") | {name: ""}
    done = subprocess.run([SCRIPT], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, f"{name} is not set" in done.stderr) == (2, True)


@pytest.mark.parametrize("name", ["secrets.json", "ssh/key", "ssh/known_hosts"])
def test_container_says_what_its_secrets_lack(desk: Desk, sshd: SshServer, tmp_path: Path, name: str) -> None:
    env = environment(desk, sshd, tmp_path / "room") | {"ROOM_SECRETS": secrets(desk, sshd, without=name)}
    done = subprocess.run([SCRIPT], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, f"ROOM_SECRETS holds no {name}" in done.stderr) == (2, True)
