"""Backups that a nightly backup starts, on a real Prefect server, while its session is cancelled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectAlreadyExists
from pydantic import SecretStr
from sqlalchemy import Engine

from flows import nightly_backup as module
from flows.engine.active_run import ActiveRun, activated
from opsdb.errors import StepFailedError
from opsdb.record.entries import Entry, Event
from opsdb.runs.lookup import short_id
from opsdb.runs.prefect_runs import tags_of
from opsdb.runs.sessions import cancel_session, make_session, tag_of
from opsdb.settings import Settings

AGAIN = "ops run nightly_backup -p databases=one,two"


@pytest.fixture
def session(engine: Engine) -> UUID:
    with engine.begin() as db:
        return make_session(db, name="Daily Backup")


@pytest.fixture
def client() -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        with suppress(ObjectAlreadyExists):
            client.create_work_pool(WorkPoolCreate(name="lane-a", type="process"))
        with suppress(ObjectAlreadyExists):
            client.create_work_queue("high", work_pool_name="lane-a")
        flow_id = client.create_flow_from_name("odoo_db_backup")
        client.create_deployment(flow_id, "lane-a", work_pool_name="lane-a", entrypoint="x.y", tags=["runbook"])
        yield client


@pytest.fixture
def entries(settings: Settings) -> Iterator[list[Entry]]:
    """What the run has recorded."""
    found: list[Entry] = []
    with activated(ActiveRun(uuid4(), 1, settings, found.append, in_lane=False)):
        yield found


def cancel(engine: Engine, session: UUID) -> None:
    with engine.begin() as db:
        cancel_session(db, session)


def start(session: UUID) -> UUID:
    return module._start({"odoo_db": "one"}, session_id=session, key=str(uuid4()), again=AGAIN)


def runs_of(client: SyncPrefectClient, session: UUID) -> list[FlowRun]:
    return client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[tag_of(session)])))


def test_after_its_session_was_cancelled_it_starts_nothing_and_says_so(
    client: SyncPrefectClient, engine: Engine, session: UUID, entries: list[Entry]
) -> None:
    first = start(session)
    cancel(engine, session)
    with pytest.raises(StepFailedError, match="was cancelled: the backup of one") as raised:
        start(session)
    assert str(raised.value).endswith(AGAIN)
    assert [run.id for run in runs_of(client, session)] == [first]
    [event] = entries
    assert isinstance(event, Event)
    assert (event.level, event.message) == ("warning", str(raised.value))


def test_backup_that_starts_while_its_session_is_cancelled_is_cancelled_too(
    client: SyncPrefectClient,
    engine: Engine,
    session: UUID,
    entries: list[Entry],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def tags(**given: Any) -> list[str]:  # asked for between the look at the session and the start
        cancel(engine, session)
        return tags_of(**given)

    monkeypatch.setattr(module, "tags_of", tags)
    with pytest.raises(StepFailedError, match="was cancelled"):
        start(session)
    [run] = runs_of(client, session)
    assert run.state is not None
    assert run.state.is_cancelled()
    assert len(entries) == 1


def test_backup_that_could_not_be_cancelled_with_its_session_is_told(
    client: SyncPrefectClient,
    engine: Engine,
    session: UUID,
    entries: list[Entry],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def tags(**given: Any) -> list[str]:
        cancel(engine, session)
        return tags_of(**given)

    def unanswered(*_: object, **__: object) -> None:
        raise httpx.ReadTimeout("no answer")

    monkeypatch.setattr(module, "tags_of", tags)
    monkeypatch.setattr(SyncPrefectClient, "set_flow_run_state", unanswered)
    with pytest.raises(StepFailedError, match="was cancelled"):
        start(session)
    [run] = runs_of(client, session)
    said = entries[-1]
    assert isinstance(said, Event)
    assert said.message.endswith(f"Prefect did not answer (ReadTimeout): ops cancel {short_id(run.id)}")


def test_without_the_ops_database_it_starts_all_the_same(
    client: SyncPrefectClient, settings: Settings, session: UUID, tmp_path: Path
) -> None:
    gone = settings.model_copy(update={"database_url": SecretStr(f"postgresql:///x?host={tmp_path}")})
    with activated(ActiveRun(uuid4(), 1, gone, lambda _entry: None, in_lane=False)):
        assert start(session) in [run.id for run in runs_of(client, session)]
