"""What the process of a transfer is told, and by which way."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest

from blocks.target_bucket import BucketStore
from flows.backup.folder import Folder
from flows.backup.keyring import Keyring
from flows.backup.names import BackupName
from flows.engine.active_run import ActiveRun, activated
from flows.engine.step import StepOutput
from flows.offsite import target as module
from flows.offsite.target import Target
from flows.offsite.transfer import store_of
from flows.shell.run import ShellFailedError, ShellResult, ShellTimeoutError
from opsdb.settings import Settings
from tests.support.backups import NOW

STORE = BucketStore(
    bucket="backups",
    region="sgp1",
    endpoint_url=None,
    prefix="odoo",
    access_key_id="the-id-of-it",
    secret_access_key="the-secret-of-it",
)
FAR = Target("far", "room-1", STORE, Keyring(Path("/keys")))
NAME = BackupName("odoo", NOW)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the step got."""
    given: dict[str, Any] = {}

    def step(name: str, command: str, **other: Any) -> object:
        given.update(other, name=name, command=command)
        return StepOutput(name, "pruned: a.dump\n")

    monkeypatch.setattr(module, "step", step)
    return given


def test_process_knows_the_target_by_its_environment_and_keys_are_secrets(told: dict[str, Any]) -> None:
    assert FAR.prune(NAME, Folder(Path("/backups")), retention_days=9) == ["a.dump"]
    assert store_of({**told["env"], **told["secrets"]}) == STORE
    assert told["env"]["ROOM"] == "room-1"
    assert (told["name"], told["env"]["RETENTION_DAYS"], told["env"]["BACKUP"]) == ("prune target", "9", NAME.dump)
    shown = f"{told['command']} {told['env']}"
    assert "the-id-of-it" not in shown
    assert "the-secret-of-it" not in shown


def test_process_reaches_the_target_as_the_worker_does_and_a_proxys_password_is_masked(
    told: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:word@proxy:3128")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("AWS_CA_BUNDLE", "/etc/ca.pem")
    FAR.transfer("upload", "upload", NAME, Path("/backups"), timeout=9)
    assert told["secrets"]["HTTPS_PROXY"] == "http://user:word@proxy:3128"
    assert (told["env"]["NO_PROXY"], told["env"]["AWS_CA_BUNDLE"]) == ("127.0.0.1", "/etc/ca.pem")


@pytest.mark.parametrize("kind", [ShellFailedError, ShellTimeoutError])
def test_earlier_backups_that_were_not_all_copied_are_an_event_and_those_that_were_are_told(
    told: dict[str, Any], monkeypatch: pytest.MonkeyPatch, kind: type[ShellFailedError | ShellTimeoutError]
) -> None:
    error = kind("step catch up: it was cut")
    error.result = cast("ShellResult", SimpleNamespace(stdout="caught up: b.dump\na.dump: 9.0 GB in 9.0 s, 1.0 GB/s\n"))

    def step(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(module, "step", step)
    events: list[Any] = []
    run = ActiveRun(uuid4(), 1, Settings(), events.append, in_lane=False)
    with activated(run):
        urls = FAR.catch_up(NAME, Folder(Path("/backups")), retention_days=30)
    assert urls == ["s3://backups/odoo/b.dump"]
    (event,) = events
    assert "backup target far: the new backup is there, but not all earlier ones" in event.message
    assert (event.level, "it was cut" in event.message) == ("warning", True)
