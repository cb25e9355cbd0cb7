"""Scripts that run on another host, over a real OpenSSH: what arrives there, and that nothing stays."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from blocks.odoo_host import OdooHost
from flows.odoo.site import host_env, on_host
from tests.support.children import free_port
from tests.support.ssh_server import SshServer, ssh_server
from tests.support.tiers import in_soak
from tests.support.waiting import wait_for

Start = Callable[..., subprocess.Popen[str]]
GOES_ON = """\
trap '' TERM
echo "$BASHPID" > "$FILE"
while :; do sleep 1; done
"""


@pytest.fixture
def far(path_folder: Path, tmp_path: Path) -> Iterator[SshServer]:
    environment = {"PATH": "/usr/bin:/bin"}
    with ssh_server(tmp_path / "sshd", free_port(), client=path_folder, environment=environment) as server:
        yield server


@pytest.fixture
def start(far: SshServer) -> Iterator[Start]:
    """Starts a script over there, with values; here it is in a session of its own."""
    started: list[subprocess.Popen[str]] = []
    host = OdooHost(ssh_destination=far.destination, ssh_port=far.port)

    def start(script: str, *, limit: int = 60, **values: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", on_host(host, script)],
            env={"PATH": os.environ["PATH"]} | host_env(host, values | {"LIMIT": str(limit)}),
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, 9)
        process.communicate(timeout=10)


def test_values_arrive_as_they_are(start: Start, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    hostile = f"a'b\"c\n$(touch {canary}) `touch {canary}`; touch {canary} \\ ~ * é -x\nFAR_SIDE\nAFTER\n"
    process = start('printf "%s." "$VALUE"', VALUE=hostile)
    assert process.communicate(timeout=30)[0] == f"{hostile}."
    assert process.returncode == 0
    assert not canary.exists()


@pytest.mark.parametrize(("script", "code"), [("false\necho never", 1), ("exit 65", 65), ("kill -KILL $BASHPID", 137)])
def test_exit_code_is_that_of_the_script(start: Start, script: str, code: int) -> None:
    process = start(script)
    assert process.communicate(timeout=30)[0] == ""
    assert process.returncode == code


@pytest.mark.parametrize("end", ["client", "connection", "limit"])
@pytest.mark.parametrize("script", [*in_soak([GOES_ON]), f"({GOES_ON})"], ids=["itself", "child"])
def test_script_that_ignores_term_is_killed_with_its_connection_or_at_its_limit(
    start: Start, far: SshServer, tmp_path: Path, end: str, script: str
) -> None:
    file = tmp_path / "pid"
    process = start(script, FILE=str(file), limit=3 if end == "limit" else 60)
    wait_for(lambda: file.exists() and file.read_text().strip() != "")
    if end == "client":
        os.killpg(process.pid, 9)
    elif end == "connection":
        for one in far.connections():
            one.kill()
    wait_for(lambda: far.programs() == [], seconds=20)
    assert process.wait(10) != 0


def test_script_that_leaves_a_program_behind_ends_at_once_and_ends_it(start: Start, far: SshServer) -> None:
    began = time.monotonic()
    process = start("sleep 300 &\n(trap '' TERM; while :; do sleep 1; done) &\necho done")
    assert process.communicate(timeout=50)[0] == "done\n"
    assert (process.returncode, far.programs()) == (0, [])
    assert time.monotonic() - began < 50


def test_last_words_of_a_program_that_outlives_its_script_by_a_moment_arrive(start: Start) -> None:
    process = start('exec > >(sleep 0.2; sed "s/^/> /")\necho well')
    assert process.communicate(timeout=30)[0] == "> well\n"
