"""Which deployments of templates go, and what of a switched-off kind is cancelled."""

from __future__ import annotations

from types import SimpleNamespace
from unittest.mock import MagicMock
from uuid import uuid4

import pytest
from prefect.exceptions import ObjectNotFound

from deployments.server import deploy, switched_off
from deployments.server.declared import TAGS, FileDeployment
from opsdb.kinds import runbook_files as own
from opsdb.runs.lookup import short_id
from opsdb.runs.prefect_runs import RUNBOOK_TAG
from opsdb.settings import Settings
from opsdb.states import RunStatus
from opsdb.tables import Lane

GONE = ObjectNotFound(http_exc=Exception("somebody was first"))


def deployed(kind: str, name: str, package: str = "flows.templates") -> SimpleNamespace:
    tags = [TAGS[package], RUNBOOK_TAG]
    return SimpleNamespace(id=uuid4(), name=name, tags=tags, entrypoint=f"{package}.{kind}", schedules=[])


def test_deployment_that_somebody_made_of_a_template_stays_while_the_template_does() -> None:
    client = MagicMock()
    client.read_deployments.return_value = [
        deployed("mine", "mine-lane-a"),
        deployed("mine", "mine-lane-b"),  # the template was for all lanes before
        deployed("mine", "lane-a"),
        deployed("mine", "mine-lane-a-own"),
        deployed("gone", "gone-lane-a"),
        deployed("gone", "copy"),
        deployed("ours", "ours-lane-a", own.PACKAGE),
        deployed("left", "left-lane-a", own.PACKAGE),
        SimpleNamespace(name="x-lane-a", tags=[RUNBOOK_TAG], entrypoint=f"{own.PACKAGE}.x"),  # somebody else's
    ]
    client.delete_deployment.side_effect = GONE
    files = [
        FileDeployment(kind="mine", lane=Lane.A, version="1"),
        FileDeployment(kind="ours", lane=None, version=None, package=own.PACKAGE),
    ]
    removed = [line.partition(" removed: ")[0] for line in deploy._remove_others(client, files)]
    assert removed == ["mine/mine-lane-b", "gone/gone-lane-a", "gone/copy", "left/left-lane-a"]
    assert client.delete_deployment.call_count == 4


def test_run_that_somebody_paused_and_that_executes_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    executes, asks, new, deleted = (
        SimpleNamespace(id=uuid4(), run_count=count, auto_scheduled=False, expected_start_time=None)
        for count in (1, 1, 0, 0)
    )
    statuses = {executes.id: RunStatus.RUNNING, asks.id: RunStatus.QUEUED}
    monkeypatch.setattr(switched_off, "writing", MagicMock())
    monkeypatch.setattr(switched_off, "read_statuses", lambda _db, _ids: statuses)
    client, told = MagicMock(), []

    def tell(run_id: object, *_: object, **__: object) -> None:
        if run_id == deleted.id:
            raise GONE
        told.append(run_id)

    client.set_flow_run_state.side_effect = tell
    client.read_flow_runs.return_value = [executes, asks, new, deleted]
    one = MagicMock(id=uuid4())
    assert switched_off._cancel_waiting(client, Settings(), "stored_command", one) == [
        short_id(asks.id),
        short_id(new.id),
    ]
    assert told == [asks.id, new.id]
