"""An upgrade whose process is killed after its checkout, before it touched a module: whose code stands there."""

from __future__ import annotations

from typing import Any

import pytest

from flows.engine.active_run import ActiveRun
from opsdb.settings import Settings
from tests.integration.flows.odoo_sites import Site, git
from tests.integration.flows.recorded import recorded, run_killed_after, told_by_next_attempt


@pytest.fixture
def facts(site: Site, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The parameters of an upgrade to a new commit, in a room with an ops database."""
    assert settings.database_url
    monkeypatch.setenv("OPS_DATABASE_URL", settings.database_url.get_secret_value())
    site.commit("second")
    place = {"repo_dir": str(site.checkout), "health_url": site.health}
    return {"odoo_db": site.database, "modules": ["sale"], "protect": "none", **place}


def kill(step: str, facts: dict[str, Any], env: dict[str, str]) -> None:
    assert run_killed_after(step, "odoo_module_upgrade", facts, env=env)


@pytest.mark.parametrize("step", ["image", pytest.param("pull_latest", marks=pytest.mark.gate)])
def test_attempt_after_a_kill_has_the_code_of_before_back_under_the_running_odoo(
    site: Site, facts: dict[str, Any], prefect_client: dict[str, str], step: str
) -> None:
    before = git(site.checkout, "rev-parse", "HEAD")
    kill(step, facts, prefect_client)
    assert git(site.checkout, "rev-parse", "HEAD") != before
    told = told_by_next_attempt("odoo_module_upgrade", facts)
    assert f"Odoo was not stopped, and {site.checkout} is at {before[:12]} (the previous one). Next: `ops retry" in told
    assert (git(site.checkout, "rev-parse", "HEAD"), git(site.checkout, "status", "--porcelain")) == (before, "")
    assert (site.upgrades(), site.daemon.stopped) == ([], False)


def test_new_run_after_a_kill_goes_by_the_commit_of_before(
    site: Site, facts: dict[str, Any], prefect_client: dict[str, str]
) -> None:
    """Nobody began another attempt: the room was down, or the run was cancelled."""
    before = git(site.checkout, "rev-parse", "HEAD")
    kill("pull_latest", facts, prefect_client)
    told: list[str] = []
    with recorded() as runs, pytest.MonkeyPatch.context() as patch:
        event = ActiveRun.event

        def hear(run: ActiveRun, message: str, **more: Any) -> None:
            told.append(message)
            event(run, message, **more)

        patch.setattr(ActiveRun, "event", hear)
        done = site.upgrade()
    assert len(runs) == 1
    assert done["commit_before"] == before
    left = f"{done['commit'][:12]} was checked out since, for an upgrade that touched no module"
    assert f"{site.checkout} was at {before[:12]} before: {left}" in told


def test_code_that_something_else_has_checked_out_since_stays_and_is_named(
    site: Site, facts: dict[str, Any], prefect_client: dict[str, str]
) -> None:
    kill("image", facts, prefect_client)
    other = site.commit("third")
    git(site.checkout, "fetch", "-q")
    git(site.checkout, "checkout", "-q", "--detach", other)
    told = told_by_next_attempt("odoo_module_upgrade", facts)
    assert f"is at {other[:12]} (something else has checked it out)" in told
    assert git(site.checkout, "rev-parse", "HEAD") == other
