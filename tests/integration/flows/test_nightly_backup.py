"""What a nightly backup starts and sees on a real Prefect server, attempt by attempt."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from prefect import State as PrefectState
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectAlreadyExists
from prefect.states import Cancelled, Completed, Failed, Running
from pydantic import SecretStr
from sqlalchemy import Engine

from flows import nightly_backup as module
from flows.backup.night import Window
from flows.engine import child_runs
from flows.engine.active_run import ActiveRun, activated
from flows.engine.suspension import Suspension
from flows.nightly_backup import Night
from opsdb.errors import StepFailedError
from opsdb.record.entries import Entry, Event
from opsdb.runs.lookup import short_id
from opsdb.runs.prefect_runs import tags_of
from opsdb.runs.runs import apply_states
from opsdb.runs.sessions import cancel_session, make_session, tag_of
from opsdb.settings import Settings
from opsdb.states import State, fold
from tests.support.recorded_runs import make_facts, make_states

pytestmark = pytest.mark.filterwarnings("ignore:Logger 'prefect.task_runs' attempted")  # steps without a flow

AGAIN = "ops run nightly_backup -p databases=one"


@pytest.fixture
def night(engine: Engine) -> Night:
    """A night whose session is made."""
    window = Window(begun_at=datetime.now(UTC), due_at=None, allowed=timedelta(minutes=120))
    night = Night(str(uuid4()), {}, window)
    with engine.begin() as db:
        make_session(db, session_id=night.session_id, name="Daily Backup")
    return night


@pytest.fixture
def client() -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        with suppress(ObjectAlreadyExists):
            client.create_work_pool(WorkPoolCreate(name="lane-a", type="process"))
        with suppress(ObjectAlreadyExists):
            client.create_work_queue("high", work_pool_name="lane-a")
        flow_id = client.create_flow_from_name("odoo_db_backup")
        client.create_deployment(
            flow_id, "odoo_db_backup-lane-a", work_pool_name="lane-a", entrypoint="x.y", tags=["runbook"]
        )
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


def runs_of(client: SyncPrefectClient, session: UUID) -> list[FlowRun]:
    return client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[tag_of(session)])))


def test_after_its_session_was_cancelled_it_starts_nothing_and_says_so(
    client: SyncPrefectClient, engine: Engine, night: Night, entries: list[Entry]
) -> None:
    first = night.start_try("one", 1)
    cancel(engine, night.session_id)
    with pytest.raises(StepFailedError, match="was cancelled: no more backups of one are started") as raised:
        night.start_try("one", 2)
    assert str(raised.value).endswith(AGAIN)
    assert [run.id for run in runs_of(client, night.session_id)] == [first]
    [event] = entries
    assert isinstance(event, Event)
    assert (event.level, event.message) == ("warning", str(raised.value))


def test_backup_that_starts_while_its_session_is_cancelled_is_cancelled_too(
    client: SyncPrefectClient,
    engine: Engine,
    night: Night,
    entries: list[Entry],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def tags(**given: Any) -> list[str]:  # asked for between the look at the session and the start
        cancel(engine, night.session_id)
        return tags_of(**given)

    monkeypatch.setattr(child_runs, "tags_of", tags)
    with pytest.raises(StepFailedError, match="was cancelled"):
        night.start_try("one", 1)
    [run] = runs_of(client, night.session_id)
    assert run.state is not None
    assert run.state.is_cancelled()
    assert len(entries) == 1


def test_backup_that_could_not_be_cancelled_with_its_session_is_told(
    client: SyncPrefectClient,
    engine: Engine,
    night: Night,
    entries: list[Entry],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def tags(**given: Any) -> list[str]:
        cancel(engine, night.session_id)
        return tags_of(**given)

    def unanswered(*_: object, **__: object) -> None:
        raise httpx.ReadTimeout("no answer")

    monkeypatch.setattr(child_runs, "tags_of", tags)
    monkeypatch.setattr(SyncPrefectClient, "set_flow_run_state", unanswered)
    with pytest.raises(StepFailedError, match="was cancelled"):
        night.start_try("one", 1)
    [run] = runs_of(client, night.session_id)
    said = entries[-1]
    assert isinstance(said, Event)
    assert said.message.endswith(f"Prefect did not answer (ReadTimeout): ops cancel {short_id(run.id)}")


def test_without_the_ops_database_it_starts_all_the_same(
    client: SyncPrefectClient, settings: Settings, night: Night, tmp_path: Path
) -> None:
    gone = settings.model_copy(update={"database_url": SecretStr(f"postgresql:///x?host={tmp_path}")})
    with activated(ActiveRun(uuid4(), 1, gone, lambda _entry: None, in_lane=False)):
        assert night.start_try("one", 1) in [run.id for run in runs_of(client, night.session_id)]


class Rehearsal:
    """A night in a lane, whose attempts are made one by one at times of the test's choice."""

    def __init__(self, client: SyncPrefectClient, settings: Settings, *, due_at: datetime | None = None) -> None:
        self._client, self._settings, self._due_at = client, settings, due_at
        self.run_id, self.begun_at, self.attempts = uuid4(), due_at or datetime.now(UTC), 0
        self.entries: list[Entry] = []
        self.night = Night(due_at.isoformat() if due_at else str(self.run_id), {}, Window(
            begun_at=self.begun_at, due_at=due_at, allowed=timedelta(minutes=120)
        ))  # fmt: skip

    def attempt(self, minutes: float, *databases: str) -> tuple[float, str]:
        """Make an attempt so long after the night began. Returns until when it is postponed, in minutes, and why."""
        with pytest.raises(Suspension) as asked:
            self.last(minutes, *databases)
        waits = asked.value.waits
        assert waits.state_details.scheduled_time is not None
        until = (waits.state_details.scheduled_time - self.begun_at) / timedelta(minutes=1)
        return until, (waits.message or "").partition(" UTC: ")[2]

    def last(self, minutes: float, *databases: str) -> Any:
        """Make the last attempt. Returns its result."""
        self.attempts += 1
        now = self.begun_at + timedelta(minutes=minutes)
        started = State(id=uuid4(), at=self.begun_at, type="RUNNING", name="Running")
        run = ActiveRun(
            self.run_id,
            self.attempts,
            self._settings,
            self.entries.append,
            in_lane=True,
            due_at=self._due_at,
            clock=lambda: now,
            life=replace(fold([started]), attempt=self.attempts),
        )
        with activated(run):
            return module.nightly_backup.fn.__wrapped__(list(databases))  # type: ignore[attr-defined]

    def tries(self) -> dict[str, FlowRun]:
        """The runs so far, by `DATABASE:NUMBER`."""
        found = runs_of(self._client, self.night.session_id)
        return {":".join((run.idempotency_key or "").split(":")[-2:]): run for run in found}

    def ends(self, name: str, state: PrefectState[Any]) -> None:
        """Let one of them end so."""
        run_id = self.tries()[name].id
        self._client.set_flow_run_state(run_id, Running(), force=True)
        self._client.set_flow_run_state(run_id, state, force=True)

    def warnings(self) -> list[str]:
        """What was told of failures, each once."""
        events: dict[UUID, str] = {}
        for entry in self.entries:
            if isinstance(entry, Event) and entry.level == "warning":
                events.setdefault(entry.id, entry.message)
        return list(events.values())


@pytest.fixture
def rehearsal(client: SyncPrefectClient, settings: Settings) -> Rehearsal:
    return Rehearsal(client, settings)


def test_each_database_is_backed_up_for_itself_and_what_failed_is_tried_again(rehearsal: Rehearsal) -> None:
    until, why = rehearsal.attempt(0, "one", "two", "three")
    assert until == pytest.approx(1 / 6, abs=0.02)
    assert why == "the backups of one, two, three are not over"
    assert rehearsal.tries().keys() == {"one:1", "two:1", "three:1"}
    rehearsal.ends("one:1", Completed())
    rehearsal.ends("two:1", Failed(message="there is no database 'two'"))
    until, why = rehearsal.attempt(1, "one", "two", "three")
    assert why.startswith("the backup of three is not over; two failed, tried again at ")
    assert rehearsal.tries().keys() == {"one:1", "two:1", "three:1"}
    rehearsal.ends("three:1", Completed())
    until, why = rehearsal.attempt(2, "one", "two", "three")
    assert 5 < until < 7
    rehearsal.attempt(until, "one", "two", "three")
    assert rehearsal.tries().keys() == {"one:1", "two:1", "three:1", "two:2"}
    rehearsal.ends("two:2", Completed())
    result = rehearsal.last(9, "one", "two", "three")
    tries = rehearsal.tries()
    assert result["session"] == str(rehearsal.night.session_id)
    assert result["backups"] == {
        "one": {"run": str(tries["one:1"].id), "outcome": "succeeded", "tries": 1},
        "two": {"run": str(tries["two:2"].id), "outcome": "succeeded", "tries": 2},
        "three": {"run": str(tries["three:1"].id), "outcome": "succeeded", "tries": 1},
    }
    [told] = rehearsal.warnings()
    assert told.startswith(f"two: run {short_id(tries['two:1'].id)} failed: there is no database 'two'; tried again at")


def test_night_fails_with_what_is_not_backed_up_when_its_time_is_over(rehearsal: Rehearsal) -> None:
    rehearsal.attempt(0, "one", "two", "three")
    rehearsal.ends("one:1", Completed())
    rehearsal.ends("two:1", Failed(message="there is no database 'two'"))
    rehearsal.ends("three:1", Cancelled())
    with pytest.raises(StepFailedError) as failed:
        rehearsal.attempt(120, "one", "two", "three")
    said, command = str(failed.value).splitlines()
    assert said.startswith("2 of 3 databases not backed up: two: run ")
    assert "there is no database 'two'; three: run " in said
    assert said.endswith("was cancelled, so it is not tried again")
    assert command.removeprefix("| ") == (
        "To back up what failed now: ops run nightly_backup -p databases=two,three -p retention_days=30 "
        "-p restore_drill=false"
    )


def test_night_tries_again_what_failed_and_was_set_to_completed(rehearsal: Rehearsal, engine: Engine) -> None:
    rehearsal.attempt(0, "one")
    rehearsal.ends("one:1", Failed(message="no room"))
    rehearsal.ends("one:1", Completed())
    facts = make_facts(id=rehearsal.tries()["one:1"].id)
    with engine.begin() as db:
        for state in make_states("RUNNING", "FAILED", "COMPLETED"):
            apply_states(db, facts=facts, states=[state])
    _, why = rehearsal.attempt(1, "one")
    assert why.startswith("one failed, tried again at ")


def test_night_waits_for_a_backup_that_takes_longer_than_the_time_allowed(rehearsal: Rehearsal) -> None:
    rehearsal.attempt(0, "one")
    until, why = rehearsal.attempt(300, "one")
    assert until == pytest.approx(305, abs=0.02)
    assert why == "the backup of one is not over"
    rehearsal.ends("one:1", Completed())
    assert rehearsal.last(305, "one")["backups"]["one"]["tries"] == 1


def test_attempt_that_is_repeated_starts_nothing_twice(rehearsal: Rehearsal) -> None:
    for _ in range(3):
        rehearsal.attempt(0, "one", "two")
    rehearsal.ends("one:1", Failed(message="x"))
    for _ in range(3):
        rehearsal.attempt(9, "one", "two")
    assert rehearsal.tries().keys() == {"one:1", "two:1", "one:2"}


def test_backup_that_prefect_refuses_keeps_no_other_one_back(
    rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = SyncPrefectClient.create_flow_run_from_deployment

    def refusing(client: SyncPrefectClient, *given: Any, parameters: dict[str, Any], **how: Any) -> FlowRun:
        if parameters["odoo_db"] == "one":
            raise httpx.ConnectError("refused")
        return create(client, *given, parameters=parameters, **how)

    monkeypatch.setattr(SyncPrefectClient, "create_flow_run_from_deployment", refusing)
    _, why = rehearsal.attempt(0, "one", "two")
    assert why.startswith("the backup of two is not over; one failed, tried again at ")
    assert rehearsal.warnings() == ["one: Prefect started no run of odoo_db_backup: refused"]
    monkeypatch.undo()
    rehearsal.attempt(5, "one", "two")
    assert rehearsal.tries().keys() == {"one:1", "two:1"}


def test_night_whose_session_was_cancelled_ends_though_backups_are_not_over(
    rehearsal: Rehearsal, engine: Engine
) -> None:
    rehearsal.attempt(0, "one", "two")
    rehearsal.ends("one:1", Completed())
    cancel(engine, rehearsal.night.session_id)
    with pytest.raises(StepFailedError, match="no more backups of two are started"):
        rehearsal.attempt(1, "one", "two")


@pytest.mark.parametrize("started", [True, False])
def test_night_that_comes_late_has_its_time_from_then(
    client: SyncPrefectClient, settings: Settings, *, started: bool
) -> None:
    # whether it may begin so late is said by its schedule's catch-up rule, before it begins
    rehearsal = Rehearsal(client, settings, due_at=datetime.now(UTC))
    if started:
        rehearsal.attempt(0, "one")
        rehearsal.ends("one:1", Completed())
        assert rehearsal.last(500, "one")["backups"].keys() == {"one"}
    else:
        rehearsal.begun_at += timedelta(minutes=500)
        rehearsal.attempt(0, "one")
        assert rehearsal.tries().keys() == {"one:1"}


def test_night_that_cannot_ask_prefect_looks_again(rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch) -> None:
    def unanswered(*_: object, **__: object) -> None:
        raise httpx.ReadTimeout("no answer")

    monkeypatch.setattr(SyncPrefectClient, "read_flow_runs", unanswered)
    assert rehearsal.attempt(0, "one")[1] == "Prefect did not say how the backups stand (ReadTimeout)"
