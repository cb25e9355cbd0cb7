"""The upgrade against a real git, curl and PostgreSQL. Docker and Odoo are stand-ins that keep the real ones' rules."""

from __future__ import annotations

import functools
import json
import socket
import subprocess
import time
from contextlib import suppress
from typing import Any

import psutil
import pytest

from blocks.odoo_host import OdooHost
from flows import odoo_module_upgrade as module
from flows.engine import runbook as recording
from flows.engine.active_run import ActiveRun
from flows.engine.dry_run import dry_run
from flows.odoo.site import CHECK_OUT
from flows.odoo_module_upgrade import odoo_module_upgrade
from opsdb.errors import PreflightError, StepFailedError, StepTimeoutError
from opsdb.settings import load_settings
from tests.integration.flows.odoo_sites import COMPOSE, Site, ending, git, marked
from tests.support.tiers import in_soak
from tests.support.waiting import wait_for


def test_dry_run_looks_at_the_modules_and_runs_neither_git_nor_docker(site: Site) -> None:
    commit = git(site.checkout, "rev-parse", "HEAD")
    site.commit("second")
    facts = {"odoo_db": site.database, "repo_dir": str(site.checkout), "health_url": site.health}
    planned = dry_run(odoo_module_upgrade, {**facts, "modules": ["sale"]}, settings=load_settings())
    assert planned.error is None
    assert [one.name for one in planned.steps] == [
        "preflight",
        "note_versions",
        "pull_latest",
        "upgrade_modules",
        "check_modules",
        "rebuild_assets",
        "restart_odoo",
        "wait_health",
    ]
    assert planned.steps[3].environment["MODULES"] == "sale"
    assert (git(site.checkout, "rev-parse", "HEAD"), site.odoo_calls()) == (commit, [])
    unknown = dry_run(odoo_module_upgrade, {**facts, "modules": ["hr"]}, settings=load_settings())
    assert "hr" in str(unknown.error)


def test_dry_run_shows_whether_the_room_asks_before_an_upgrade(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {"odoo_db": site.database, "modules": ["sale"], "repo_dir": str(site.checkout), "approval_minutes": 5}
    planned = dry_run(odoo_module_upgrade, facts, settings=load_settings())
    assert "approve_upgrade" not in [one.name for one in planned.steps]
    assert planned.warnings == ["nobody is asked to approve: OPS_UPGRADE_APPROVAL is off"]
    monkeypatch.setenv("OPS_UPGRADE_APPROVAL", "true")
    planned = dry_run(odoo_module_upgrade, facts | {"approval_minutes": 0}, settings=load_settings())
    assert [one.name for one in planned.steps][2:4] == ["pull_latest", "approve_upgrade"]


def test_upgrade_checks_out_upgrades_once_drops_assets_restarts_and_awaits_health(site: Site) -> None:
    before = git(site.checkout, "rev-parse", "HEAD")
    commit = site.commit("second")
    site.odoo.unhealthy = 2
    result = site.upgrade(["sale", "web"])
    assert site.odoo.unhealthy < 0
    assert (result["commit_before"], result["commit"]) == (before, commit)
    assert git(site.checkout, "rev-parse", "HEAD") == commit
    assert result["modules"] == {name: {"before": "18.0.1", "after": "18.0.2"} for name in ("sale", "web")}
    assert site.odoo_calls() == [
        ["-d", site.database, "-u", "sale,web", "--stop-after-init", "--no-http"],
        ["shell", "-d", site.database, "--no-http"],
    ]
    assert site.daemon.calls[-1] == ["compose", "-f", COMPOSE, "restart", "odoo"]
    json.dumps(result)


@pytest.mark.parametrize("kind", ["tag", *in_soak(["branch", "commit"])])
def test_wanted_ref_is_checked_out_exactly(site: Site, kind: str) -> None:
    wanted = site.commit("wanted")
    git(site.work, "tag", "v2")
    git(site.work, "push", "-q", "origin", "v2", "HEAD:refs/heads/release/18.2")
    site.commit("later, on main")
    site.upgrade(git_ref={"branch": "release/18.2", "tag": "v2", "commit": wanted}[kind])
    assert git(site.checkout, "rev-parse", "HEAD") == wanted


def test_local_branch_does_not_stand_in_for_the_one_of_origin_and_keeps_its_commits(site: Site) -> None:
    (site.checkout / "own").write_text("mine")
    git(site.checkout, "add", "-A")
    git(site.checkout, "commit", "-qm", "local")
    own = git(site.checkout, "rev-parse", "HEAD")
    branch = git(site.checkout, "rev-parse", "--abbrev-ref", "HEAD")
    commit = site.commit("second")
    site.upgrade(git_ref=branch)
    assert git(site.checkout, "rev-parse", "HEAD") == commit
    assert git(site.checkout, "rev-parse", branch) == own


def test_dirty_checkout_is_refused_and_kept(site: Site) -> None:
    (site.checkout / COMPOSE).write_text("changed by hand\n")
    site.commit("second")
    with pytest.raises(StepFailedError, match="changed by hand: commit or stash"):
        site.upgrade()
    assert (site.checkout / COMPOSE).read_text() == "changed by hand\n"
    assert site.odoo_calls() == []


@pytest.mark.parametrize(
    ("after", "command", "upgraded"),
    [("CHECK_OUT", CHECK_OUT, 0), ("UPGRADE", module.UPGRADE, 1), ("ASSETS", module.ASSETS, 2)],
)
def test_checkout_that_moved_on_since_it_was_made_is_not_worked_with(
    site: Site, monkeypatch: pytest.MonkeyPatch, after: str, command: str, upgraded: int
) -> None:
    """As between a failure or an approval and the attempt that goes on from there."""
    site.commit("wanted")
    monkeypatch.setattr(module, after, f'{command}\ngit -C "$REPO" checkout -q --detach HEAD~1\n')
    with pytest.raises(StepFailedError, match="something else has checked it out"):
        site.upgrade()
    assert len(site.odoo_calls()) == upgraded
    assert [call for call in site.daemon.calls if "restart" in call] == []


def test_upgrade_has_its_database_and_then_its_host_to_itself_before_it_looks_at_anything(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[str] = []

    def hold(resource: str) -> None:
        assert (site.daemon.calls, list((site.checkout / ".git").glob("FETCH_HEAD"))) == ([], [])
        held.append(resource)

    monkeypatch.setattr(recording, "ActiveRun", functools.partial(ActiveRun, acquire=hold))
    site.upgrade()
    assert held == [f"odoo_db:{site.database}", f"odoo_host:{socket.gethostname().lower()}"]


@pytest.mark.gate
def test_tag_that_was_moved_at_origin_is_checked_out_where_it_is_now(site: Site) -> None:
    git(site.work, "tag", "stable")
    git(site.work, "push", "-q", "origin", "stable")
    site.upgrade(git_ref="stable")
    wanted = site.commit("second")
    git(site.work, "tag", "--force", "stable")
    git(site.work, "push", "-q", "--force", "origin", "stable")
    assert site.upgrade(git_ref="stable")["commit"] == wanted
    told = [log.read_text() for log in load_settings().logs.rglob("*-pull_latest.log")]
    assert any("[tag update]" in text for text in told), told


def test_unknown_ref_and_missing_compose_file_are_named(site: Site) -> None:
    with pytest.raises(StepFailedError, match="no branch, tag or commit nowhere"):
        site.upgrade(git_ref="nowhere")
    with pytest.raises(StepFailedError, match=r"other\.yml"):
        site.upgrade(compose_file="deploy/other.yml")
    assert site.odoo_calls() == []


@pytest.mark.parametrize(
    ("modules", "message"),
    [(["sael"], "sael is unknown, did you mean sale"), (["sale", "hr"], "hr is uninstalled")],
)
def test_module_that_odoo_would_ignore_is_refused_before_anything_changes(
    site: Site, modules: list[str], message: str
) -> None:
    before = git(site.checkout, "rev-parse", "HEAD")
    site.commit("second")
    with pytest.raises(PreflightError, match=message):
        site.upgrade(modules)
    assert git(site.checkout, "rev-parse", "HEAD") == before
    assert site.daemon.calls == []


@pytest.mark.parametrize(
    ("manner", "message"),
    [
        ("fails", "ParseError"),
        ("half way", "sale is to upgrade"),
        ("no assets", "not|without having dropped"),
        ("another", "another database .* is another, .* the-uuid-of-it"),
    ],
)
def test_odoo_that_does_not_do_its_work_fails_the_run_and_restarts_nothing(
    site: Site, manner: str, message: str
) -> None:
    site.manner.write_text(manner)
    with pytest.raises(StepFailedError, match=message):
        site.upgrade()
    assert [call for call in site.daemon.calls if "restart" in call] == []


@pytest.mark.gate
def test_timeout_ends_odoo_in_the_container_too(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.manner.write_text("hangs")
    monkeypatch.setattr(module, "UPGRADE_SECONDS", 12)
    monkeypatch.setattr(module, "STOP_SECONDS", -60)  # its own limit in the container does not help
    with pytest.raises(StepTimeoutError):
        site.upgrade()
    assert marked(site.database) == []


def test_limit_in_the_container_ends_odoo_when_the_client_is_gone(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.manner.write_text("hangs")
    monkeypatch.setattr(module, "UPGRADE_SECONDS", 14)

    def kill_client() -> None:
        wait_for(lambda: bool(marked(site.database)))
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):  # it ended meanwhile
                if any("docker" in word for word in process.cmdline()[:3]):
                    process.kill()

    with ending(kill_client), pytest.raises(StepFailedError):
        site.upgrade()
    wait_for(lambda: marked(site.database) == [], seconds=15)


def test_second_upgrade_of_a_database_that_is_being_upgraded_is_refused(site: Site) -> None:
    words = ["sleep", "60"]
    with subprocess.Popen(words, env={"OPS_UPGRADE_OF": site.database}, executable="/bin/sleep") as other:
        with pytest.raises(StepFailedError, match=f"another upgrade of {site.database} runs in the container"):
            site.upgrade()
        assert other.poll() is None
        other.kill()
    assert site.odoo_calls() == []


@pytest.mark.gate
def test_odoo_that_does_not_come_back_fails_with_its_address(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEALTH_SECONDS", 14)
    began = time.monotonic()
    with pytest.raises(StepFailedError, match="did not answer well within 4 s"):
        site.upgrade(health_url="http://127.0.0.1:9/web/health")
    assert time.monotonic() - began < 60


def test_missing_programs_are_named_at_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(PreflightError, match="not on the PATH: bash, curl, docker, git"):
        site.upgrade()


@pytest.mark.gate
def test_block_says_what_is_not_given(site: Site) -> None:
    facts = {"repo_dir": "/nowhere", "health_url": site.health, "service": "odoo", "compose_file": "other.yml"}
    OdooHost(**facts).save("here", overwrite=True)
    given: dict[str, Any] = {"repo_dir": str(site.checkout), "compose_file": COMPOSE}
    commit = site.commit("second")
    result = odoo_module_upgrade(odoo_db=site.database, modules=["sale"], odoo_host="here", **given)
    assert result["commit"] == commit
    with pytest.raises(PreflightError, match="/nowhere is no git checkout"):
        odoo_module_upgrade(odoo_db=site.database, modules=["sale"], odoo_host="here")


def test_defaults_of_the_room_count_where_nobody_says_anything(site: Site) -> None:
    with pytest.raises(PreflightError, match="/opt/odoo is no git checkout"):
        odoo_module_upgrade(odoo_db=site.database, modules=["sale"])


def test_missing_block_is_named_before_anything_starts(site: Site) -> None:
    with pytest.raises(PreflightError, match="no Odoo Host block 'absent'"):
        site.upgrade(odoo_host="absent")
    assert site.daemon.calls == []
