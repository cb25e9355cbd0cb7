"""A droplet is entered for the first time, and again, over a real OpenSSH."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.odoo.droplet import WAIT_FOR_SSH, on_droplet
from tests.integration.flows.odoo_sites import ending
from tests.support.children import free_port
from tests.support.programs import needs_root
from tests.support.ssh_server import DROPLET, SshServer, ssh_server
from tests.support.waiting import wait_for

pytestmark = needs_root


@pytest.fixture
def droplet(path_folder: Path, tmp_path: Path) -> Iterator[SshServer]:
    """One that nobody has seen yet."""
    environment = {"PATH": "/usr/bin:/bin"}
    with ssh_server(tmp_path / "sshd", free_port(), client=path_folder, environment=environment) as server:
        server.known_hosts.write_text("")
        yield server


def shell(script: str, *, number: str = "100", limit: int = 20) -> subprocess.CompletedProcess[str]:
    env = {"DROPLET_ID": number, "ADDRESS": DROPLET, "NAMES": "LIMIT", "LIMIT": str(limit)}
    words = ["bash", "-euo", "pipefail", "-c", script]
    env["PATH"] = os.environ["PATH"]
    return subprocess.run(words, env=env, capture_output=True, text=True, check=False, timeout=60)


def test_key_of_a_new_droplet_is_kept_by_its_number_and_not_by_its_address(droplet: SshServer) -> None:
    waited = shell(WAIT_FOR_SSH)
    assert "SSH answers" in waited.stdout
    assert "Permanently added 'droplet-100'" in waited.stderr
    key = (droplet.folder / "host-key.pub").read_text().split()[:2]
    assert droplet.known_hosts.read_text().split() == ["droplet-100", *key]
    assert shell(on_droplet("echo well")).stdout == "well\n"
    assert droplet.known_hosts.read_text().split() == ["droplet-100", *key]


def test_droplet_that_shows_another_key_than_before_is_refused_at_once(droplet: SshServer) -> None:
    droplet.know("other-key", name="droplet-100")
    known = droplet.known_hosts.read_text()
    began = time.monotonic()
    waited = shell(WAIT_FOR_SSH, limit=50)
    assert time.monotonic() - began < 40
    assert waited.returncode == 69
    told = waited.stderr.splitlines()[-1]
    assert told.startswith(f"droplet 100 at {DROPLET} shows another key than when it was first seen")
    assert told.endswith("ssh-keygen -R droplet-100")
    ran = shell(on_droplet("echo never"))
    assert (ran.stdout, ran.returncode) == ("", 255)
    assert (droplet.logins, droplet.known_hosts.read_text()) == (0, known)


def test_address_that_went_on_to_another_droplet_is_entered_under_that_ones_key(droplet: SshServer) -> None:
    droplet.know("other-key", name="droplet-99")
    assert "SSH answers" in shell(WAIT_FOR_SSH).stdout
    assert [line.split()[0] for line in droplet.known_hosts.read_text().splitlines()] == ["droplet-99", "droplet-100"]


def test_key_that_is_let_in_only_after_a_while_is_waited_for(droplet: SshServer) -> None:
    authorized = droplet.folder / "authorized-keys"
    keys = authorized.read_text()
    authorized.write_text("")

    def install() -> None:
        wait_for(lambda: droplet.refused, seconds=60, what="it was refused")
        authorized.write_text(keys)

    with ending(install):
        waited = shell(WAIT_FOR_SSH, limit=40)
    assert "Permission denied (publickey)" in waited.stderr
    assert "SSH answers" in waited.stdout


def test_key_that_is_never_let_in_is_named_as_what_to_look_at(droplet: SshServer) -> None:
    (droplet.folder / "authorized-keys").write_text("")
    waited = shell(WAIT_FOR_SSH, limit=1)
    assert waited.returncode == 69
    assert "within 1 s: is the worker's key among ssh_keys?" in waited.stderr
