"""What an approval asks, and what of it has to be the same when the run goes on."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from flows.engine.active_run import ActiveRun, activated
from flows.engine.approval import approval
from flows.engine.suspension import Suspension
from flows.odoo.repositories import approve_deploy
from opsdb.errors import PreflightError
from opsdb.settings import Settings

URL = "https://git.example/odoo.git"


def run_of(tmp_path: Path) -> ActiveRun:
    clock = lambda: datetime(2026, 1, 1, tzinfo=UTC)  # noqa: E731
    return ActiveRun(uuid4(), 1, Settings(home=tmp_path), record=lambda _entry: None, in_lane=True, clock=clock)


def test_deployment_of_a_repository_that_nobody_allowed_asks_and_names_the_line_to_set(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, deploy_approval=False)
    with activated(run_of(tmp_path)), pytest.raises(Suspension) as asked:
        approve_deploy("deploy it?", URL, settings, minutes=60)
    message = asked.value.waits.message or ""
    assert message.startswith("waits for approval until 2026-01-01 01:00:00 UTC: deploy it? ")
    assert f"OPS_ALLOWED_REPOSITORIES={URL}" in message
    assert asked.value.waits.state_details.pause_timeout == datetime(2026, 1, 1, 1, tzinfo=UTC)


def test_question_that_was_approved_stands_though_its_advice_was_followed_meanwhile(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    run.approved = ("approve_deploy", "wait for `ops approve`: deploy it?")
    with activated(run):
        approve_deploy("deploy it?", URL, Settings(home=tmp_path, allowed_repositories=URL), minutes=5)
    run.approved = ("approve_deploy", "wait for `ops approve`: deploy it?")
    with activated(run), pytest.raises(PreflightError, match="another question was approved"):
        approval("approve_deploy", "deploy something else?", timeout=60, advice="it")


def test_deployment_asks_nobody_where_the_repository_is_allowed_and_approvals_are_off(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, deploy_approval=False, allowed_repositories=URL)
    with activated(run_of(tmp_path)):
        approve_deploy("deploy it?", URL, settings, minutes=60)
