"""The upgrade against a real git, curl and PostgreSQL. Docker and Odoo are stand-ins that keep the real ones' rules."""

from __future__ import annotations

import functools
import json
import shutil
import socket
import time
from typing import Any

import pytest

from blocks.odoo_host import OdooHost
from flows import odoo_module_upgrade as module
from flows.engine import runbook as recording
from flows.engine.active_run import ActiveRun
from flows.engine.dry_run import dry_run
from flows.odoo import upgrade_shell
from flows.odoo.site import CHECK_OUT
from flows.odoo_module_upgrade import odoo_module_upgrade
from opsdb.errors import PreflightError, StepFailedError
from opsdb.settings import load_settings
from tests.integration.flows.odoo_sites import COMPOSE, Site, git
from tests.support.stand_ins.odoo import write_module

_WITH_EXIT = "({})"
"""Around a command that ends its shell, so that another one can follow."""


def test_dry_run_looks_at_the_modules_and_runs_neither_git_nor_docker(site: Site) -> None:
    commit = git(site.checkout, "rev-parse", "HEAD")
    site.commit("second")
    facts = {"odoo_db": site.database, "repo_dir": str(site.checkout), "health_url": site.health, "protect": "none"}
    planned = dry_run(odoo_module_upgrade, {**facts, "modules": ["sale"]}, settings=load_settings())
    assert planned.error is None
    assert [one.name for one in planned.steps] == [
        "preflight",
        "note_versions",
        "protection_preflight",
        "ask_odoo",
        "note_commit",
        "pull_latest",
        "image",
        "stop_odoo",
        "alone",
        "upgrade_modules",
        "check_modules",
        "rebuild_assets",
        "start_odoo",
        "wait_health",
    ]
    assert planned.steps[9].environment["MODULES"] == "sale"
    assert (git(site.checkout, "rev-parse", "HEAD"), site.odoo_calls()) == (commit, [])
    unknown = dry_run(odoo_module_upgrade, {**facts, "modules": ["hr"]}, settings=load_settings())
    assert "hr" in str(unknown.error)


def test_dry_run_shows_whether_the_room_asks_before_an_upgrade(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {"odoo_db": site.database, "modules": ["sale"], "repo_dir": str(site.checkout), "approval_minutes": 5}
    facts |= {"protect": "none", "health_url": site.health}
    planned = dry_run(odoo_module_upgrade, facts, settings=load_settings())
    assert "approve_upgrade" not in [one.name for one in planned.steps]
    assert planned.warnings == ["nobody is asked to approve: OPS_UPGRADE_APPROVAL is off"]
    monkeypatch.setenv("OPS_UPGRADE_APPROVAL", "true")
    planned = dry_run(odoo_module_upgrade, facts | {"approval_minutes": 0}, settings=load_settings())
    assert [one.name for one in planned.steps][5:10] == [
        "pull_latest",
        "image",
        "code_of_before",
        "approve_upgrade",
        "code_of_upgrade",
    ]


def test_what_the_health_check_would_not_take_is_a_warning_before_anything_changes(site: Site) -> None:
    site.odoo.serves = "another"
    facts = {"odoo_db": site.database, "modules": ["sale"], "repo_dir": str(site.checkout), "health_url": site.health}
    planned = dry_run(odoo_module_upgrade, facts | {"protect": "none"}, settings=load_settings())
    [warning] = planned.warnings
    assert warning.startswith("odoo is not healthy now: ")
    assert f"this Odoo does not serve the database {site.database} there. wait_health asks the same" in warning


def test_upgrade_stops_the_service_upgrades_once_drops_assets_starts_and_awaits_health(site: Site) -> None:
    before = git(site.checkout, "rev-parse", "HEAD")
    commit = site.commit("second")
    site.odoo.unhealthy = 3  # the preflight looks once
    result = site.upgrade(["sale", "web"])
    assert site.odoo.unhealthy < 0
    assert (result["commit_before"], result["commit"]) == (before, commit)
    assert git(site.checkout, "rev-parse", "HEAD") == commit
    assert result["modules"] == {name: {"before": "18.0.1", "after": "18.0.2"} for name in ("sale", "web")}
    assert site.odoo_calls() == [
        ["shell", "-d", site.database, "--no-http"],
        ["shell", "-d", "", "--no-http"],
        ["-d", site.database, "-u", "sale,web", "--stop-after-init", "--no-http"],
        ["shell", "-d", site.database, "--no-http"],
    ]
    verbs = [call[3] for call in site.daemon.calls if call[0] == "compose"]
    assert verbs == ["run", "run", "stop", "stop", "run", "run", "stop", "up"]
    assert not site.daemon.stopped
    assert list(site.daemon.containers) == ["odoo"]
    json.dumps(result)


def test_upgrade_of_all_modules_is_one_of_base(site: Site) -> None:
    result = site.upgrade(["all"])
    assert [call[3] for call in site.upgrades()] == ["base"]
    assert list(result["modules"]) == ["base"]


@pytest.mark.parametrize(
    ("after", "command", "calls"),
    [
        ("CHECK_OUT", CHECK_OUT, 1),
        ("UPGRADE", _WITH_EXIT.format(upgrade_shell.UPGRADE), 3),
        ("ASSETS", upgrade_shell.ASSETS, 4),
    ],
)
def test_checkout_that_moved_on_since_it_was_made_is_not_worked_with(
    site: Site, monkeypatch: pytest.MonkeyPatch, after: str, command: str, calls: int
) -> None:
    """As between a failure or an approval and the attempt that resumes from there."""
    site.commit("wanted")
    monkeypatch.setattr(module, after, f'{command}\ngit -C "$REPO" checkout -q --detach HEAD~1\n')
    with pytest.raises(StepFailedError, match="something else has checked it out"):
        site.upgrade()
    assert len(site.odoo_calls()) == calls
    assert not site.daemon.stopped


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


def test_image_that_cannot_be_had_fails_the_run_while_people_still_work(site: Site) -> None:
    """As where a compose file of the new commit names an image that nobody has published."""
    before = git(site.checkout, "rev-parse", "HEAD")
    site.commit("second")
    site.daemon.missing_after = 1
    with pytest.raises(StepFailedError, match="pull access denied") as failed:
        site.upgrade()
    assert f"Odoo was not stopped, and {site.checkout} is at {before[:12]} (the previous one). Next: `ops retry" in str(
        failed.value
    )
    nothing_happened(site, before)


def test_run_that_is_cancelled_after_its_checkout_has_the_code_of_before_back(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = git(site.checkout, "rev-parse", "HEAD")
    site.commit("second")

    def cancelled(*_words: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "check_code", cancelled)
    with pytest.raises(KeyboardInterrupt):
        site.upgrade()
    nothing_happened(site, before)


def nothing_happened(site: Site, commit: str) -> None:
    """Odoo was not stopped, nothing was upgraded, and the code is that of before."""
    assert not {"stop", "up"}.intersection(call[3] for call in site.daemon.calls if call[0] == "compose")
    assert (site.upgrades(), site.daemon.stopped) == ([], False)
    assert git(site.checkout, "rev-parse", "HEAD") == commit


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (
            "baked",
            r"image has its own code: sale is at 18\.0\.2 .*, and at 18\.0\.3 in addons/sale/__manifest__\.py ",
        ),
        ("older", r"the code is older than the database: sale from 18\.0\.1 to 18\.0\.0\.9\."),
        ("baked and older", r"the code is older than the database: sale from 18\.0\.1 to 18\.0\.0\.9\."),
        ("no folder", r"Odoo's container has no code that can be installed of web\."),
        ("not installable", r"Odoo's container has no code that can be installed of web\."),
    ],
)
def test_code_that_odoo_must_not_load_is_refused_while_people_still_work(site: Site, case: str, message: str) -> None:
    before = git(site.checkout, "rev-parse", "HEAD")
    if case.startswith("baked"):
        site.daemon.environment["ADDONS"] = str(site.image)
    if case == "baked":
        site.commit("second", sale="3")  # Odoo puts its series before it
    elif case == "older":
        site.commit("second", sale="18.0.0.9")
    else:
        site.commit("second")
    if case == "baked and older":
        write_module(site.image, "sale", "18.0.0.9")
    elif case == "no folder":
        shutil.rmtree(site.image / "web")
    elif case == "not installable":
        write_module(site.image, "web", installable=False)
    with pytest.raises(StepFailedError, match=message) as failed:
        site.upgrade(["sale", "web"])
    assert f"{site.checkout} is at {before[:12]} (the previous one)" in str(failed.value)
    nothing_happened(site, before)


def test_image_of_the_same_code_as_the_checkout_is_upgraded_with(site: Site) -> None:
    site.daemon.environment["ADDONS"] = str(site.image)
    site.commit("second", sale="2")
    assert site.upgrade()["modules"] == {"sale": {"before": "18.0.1", "after": "18.0.2"}}


def test_unknown_ref_and_missing_compose_file_are_named(site: Site) -> None:
    with pytest.raises(StepFailedError, match="no branch, tag or commit nowhere"):
        site.upgrade(git_ref="nowhere")
    with pytest.raises(StepFailedError, match=r"other\.yml"):
        site.upgrade(compose_file="deploy/other.yml")
    assert site.upgrades() == []


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


@pytest.mark.gate
def test_odoo_that_does_not_come_back_fails_with_its_address(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEALTH_SECONDS", 14)
    began = time.monotonic()
    with pytest.raises(
        StepFailedError, match=r"/web/health\?db_server_status=1 did not answer well within 4 s: .*connect"
    ):
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
    with pytest.raises(PreflightError, match="/nowhere is not a git checkout"):
        odoo_module_upgrade(odoo_db=site.database, modules=["sale"], odoo_host="here")


def test_defaults_of_the_room_count_where_nobody_says_anything(site: Site) -> None:
    with pytest.raises(PreflightError, match="/opt/odoo is not a git checkout"):
        odoo_module_upgrade(odoo_db=site.database, modules=["sale"])


def test_missing_block_is_named_before_anything_starts(site: Site) -> None:
    with pytest.raises(PreflightError, match="no Odoo Host block 'absent'"):
        site.upgrade(odoo_host="absent")
    assert site.daemon.calls == []
