"""The upgrade of an Odoo on another host, over a real OpenSSH. Docker and Odoo are stand-ins there."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from blocks.odoo_host import OdooHost
from flows import odoo_module_upgrade as module
from flows.engine.dry_run import dry_run
from flows.odoo_module_upgrade import odoo_module_upgrade
from opsdb.errors import PreflightError, StepFailedError, StepTimeoutError
from opsdb.settings import load_settings
from tests.integration.flows.odoo_sites import COMPOSE, Site, ending, git, half_done, upgrading
from tests.support.children import free_port
from tests.support.ssh_server import SshServer, ssh_server
from tests.support.tiers import in_soak
from tests.support.waiting import wait_for

PROMISED_SECONDS = 15
"""TERM, 5 s, KILL; and as much again on a host that has other things to do."""


@pytest.fixture
def far(site: Site, path_folder: Path, tmp_path: Path) -> Iterator[SshServer]:
    """The block `far` leads over SSH to the host where the site is: Docker is there alone."""
    over_there = path_folder / "far"
    over_there.mkdir()
    (path_folder / "docker").rename(over_there / "docker")
    (path_folder / "docker").write_text("#!/bin/sh\necho 'Docker on the wrong host' >&2; exit 1\n")
    (path_folder / "docker").chmod(0o755)
    environment = {"PATH": f"{over_there}:/usr/bin:/bin"}
    with ssh_server(tmp_path / "sshd", free_port(), client=path_folder, environment=environment) as server:
        there: dict[str, Any] = {"ssh_destination": server.destination, "ssh_port": server.port}
        OdooHost(**there, repo_dir=str(site.checkout), health_url=site.health).save("far", overwrite=True)
        yield server


def upgrade(site: Site, **changes: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {"odoo_db": site.database, "modules": ["sale"], "odoo_host": "far"}
    result: dict[str, Any] = odoo_module_upgrade(**(facts | changes))
    return result


def clients(far: SshServer) -> list[psutil.Process]:
    """The ssh clients of this process."""
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if f"{far.folder}/ssh-config" in arguments(process)
    ]


def arguments(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # it ended meanwhile
        return []


def left(site: Site, far: SshServer) -> list[str]:
    """What is alive over there, in the container and before it."""
    return [f"{pid} in the container" for pid in upgrading(site)] + [
        f"{process.pid} {' '.join(arguments(process))}" for process in far.programs()
    ]


def test_upgrade_over_ssh_runs_every_step_over_there(site: Site, far: SshServer) -> None:
    commit = site.commit("second")
    result = upgrade(site)
    assert result["commit"] == commit == git(site.checkout, "rev-parse", "HEAD")
    assert result["modules"] == {"sale": {"before": "18.0.1", "after": "18.0.2"}}
    assert site.upgrades()[0][:4] == ["-d", site.database, "-u", "sale"]
    assert ["compose", "-f", COMPOSE, "up", "--detach", "--no-deps", "odoo"] in site.daemon.calls
    assert far.logins == 12, "three looks of the preflight, and each step that touches the host"
    assert far.programs() == []


def test_changed_checkout_over_there_is_refused_before_anything_is_asked(site: Site, far: SshServer) -> None:
    (site.checkout / COMPOSE).write_text("changed by hand\n")
    with pytest.raises(PreflightError, match=f"{far.destination}: checkout: .* was changed by hand: M {COMPOSE}"):
        upgrade(site)
    assert (far.logins, site.daemon.calls) == (1, [])


def test_host_whose_key_nobody_knows_ends_the_run_before_anything_changes(site: Site, far: SshServer) -> None:
    far.known_hosts.write_text("")
    before = git(site.checkout, "rev-parse", "HEAD")
    site.commit("second")
    with pytest.raises(PreflightError, match=r"@127\.0\.0\.1: reached: Host key verification failed.*once by hand"):
        upgrade(site)
    assert (far.logins, git(site.checkout, "rev-parse", "HEAD")) == (0, before)


def test_dry_run_over_ssh_looks_and_changes_nothing(site: Site, far: SshServer) -> None:
    site.commit("second")
    before = git(site.checkout, "rev-parse", "HEAD")
    facts = {"odoo_db": site.database, "modules": ["sale"], "odoo_host": "far", "odoo_service": "web"}
    planned = dry_run(odoo_module_upgrade, facts, settings=load_settings())
    assert planned.error is None
    steps = {one.name: one for one in planned.steps}
    noted, pulled = steps["note_versions"], steps["pull_latest"]
    place = f"{far.destination} port {far.port}, service web of {COMPOSE} in {site.checkout}"
    assert noted.command == f"note the versions of the modules, at {place}"
    assert pulled.environment["SSH_DESTINATION"] == far.destination
    assert (pulled.environment["REPO"], pulled.environment["ODOO_SERVICE"]) == (str(site.checkout), "web")
    assert far.logins == 3
    assert git(site.checkout, "rev-parse", "HEAD") == before


@pytest.mark.parametrize("hostile", ["a b", "a'b", 'a"b', "$(touch /x)", "a\nb", "-oProxyCommand=x"])
def test_value_that_a_shell_could_misread_is_refused_before_anybody_connects(
    site: Site, far: SshServer, hostile: str
) -> None:
    for name, value in (("git_ref", hostile), ("modules", [hostile]), ("odoo_service", hostile)):
        with pytest.raises(Exception, match=name):
            upgrade(site, **{name: value})
    assert far.logins == 0


def test_arguments_show_where_ssh_connects_and_nothing_else_of_the_run(
    site: Site, far: SshServer, prefect_client: dict[str, str]
) -> None:
    site.manner.write_text("hangs")
    here: list[str] = []
    there: list[str] = []
    everywhere: list[str] = []

    def look() -> None:
        wait_for(lambda: half_done(site))
        odoo, over_there = upgrading(site), far.programs()
        there.extend(" ".join(arguments(process)) for process in over_there)
        everywhere.extend(" ".join(arguments(process)) for process in psutil.process_iter())
        for process in psutil.Process().children(recursive=True):
            if process not in over_there and process.pid not in odoo:
                here.extend(word for word in arguments(process) if not word.startswith("postgres:"))
        for pid in odoo:
            os.kill(pid, signal.SIGKILL)

    with ending(look), pytest.raises(StepFailedError):
        upgrade(site, git_ref="main")
    [connected] = [number for number, word in enumerate(here) if word == far.destination]
    assert here[connected - 1 : connected + 4] == ["--", far.destination, "exec", "bash", "-s"]
    for value in (site.database, str(site.checkout), COMPOSE, site.health):
        assert [word for word in here if value in word and "$" not in word] == []
    assert "bash -s" in there
    assert [words for words in there if words.startswith("bash") and site.database in words] == []
    assert [words for words in everywhere if prefect_client["PREFECT_API_AUTH_STRING"] in words] == []


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ("connection", "exit code 255"),
        *in_soak([("client", "killed by SIGKILL"), ("timeout", "ran longer than 20 s")]),
    ],
)
def test_upgrade_whose_connection_ends_is_ended_over_there_too(
    site: Site, far: SshServer, monkeypatch: pytest.MonkeyPatch, end: str, words: str
) -> None:
    site.manner.write_text("hangs")
    monkeypatch.setattr(module, "ENDING_SECONDS", -60)  # no limit over there helps
    if end == "timeout":
        monkeypatch.setattr(module, "find_minutes", lambda *_, **__: 80 / 60)

    def cut() -> None:
        wait_for(lambda: half_done(site))
        for process in {"client": clients(far), "connection": far.connections(), "timeout": []}[end]:
            process.kill()

    error = StepTimeoutError if end == "timeout" else StepFailedError
    with ending(cut), pytest.raises(error, match=words):
        upgrade(site)
    wait_for(lambda: left(site, far) == [], seconds=PROMISED_SECONDS)
    assert (site.modules()["stock"], site.daemon.stopped) == (("installed", "18.0.1"), False)


@pytest.mark.gate
def test_upgrade_that_is_cancelled_is_ended_over_there_too(
    site: Site, far: SshServer, start_flow: Callable[..., psutil.Popen], tmp_path: Path
) -> None:
    site.manner.write_text("hangs")
    run = start_flow(site.database, "odoo_module_upgrade", modules=["sale"], odoo_host="far")
    wait_for(lambda: half_done(site), seconds=60)
    run.send_signal(signal.SIGTERM)
    assert run.wait(30) != 0
    wait_for(lambda: left(site, far) == [], seconds=PROMISED_SECONDS)
    assert site.modules()["stock"] == ("installed", "18.0.1"), (tmp_path / "flow.log").read_text()
    assert not site.daemon.stopped


@pytest.mark.soak  # it takes a minute to know
def test_connection_that_falls_silent_is_given_up_after_40_s_and_the_limit_ends_odoo_over_there(
    site: Site, far: SshServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.manner.write_text("hangs")
    monkeypatch.setattr(module, "find_minutes", lambda *_, **__: 1)
    monkeypatch.setattr(module, "ENDING_SECONDS", 15)
    silent = 0.0

    def fall_silent() -> None:
        nonlocal silent
        wait_for(lambda: half_done(site))
        for process in far.connections():
            process.suspend()
        silent = time.monotonic()

    with ending(fall_silent), pytest.raises(StepFailedError, match=r"Timeout, server 127\.0\.0\.1 not responding"):
        upgrade(site)
    assert 30 < time.monotonic() - silent < 50
    assert site.modules()["stock"] == ("installed", "18.0.1"), "put back over a connection of its own"
    wait_for(lambda: left(site, far) == [], seconds=30 + PROMISED_SECONDS)
