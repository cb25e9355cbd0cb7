from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import DBAPIError
from sqlmodel import col

from opsdb.database import connect
from opsdb.errors import RoomUnreachableError, UsageError
from opsdb.record.entries import ArtifactMade, Event, StepFinished, StepStarted, apply_line
from opsdb.runs.lookup import find_run, kinds_used, list_runs, read_run, reading, short_id
from opsdb.runs.names import Verb
from opsdb.runs.runs import RunFacts, apply_states, facts_of_row, write_names
from opsdb.runs.sessions import join_session
from opsdb.runs.waiting import Waiting, read_set_later, why_waiting
from opsdb.runs.workers import write_worker_heartbeat
from opsdb.settings import Settings
from opsdb.states import AWAITS_SLOT, RunStatus, State, postponed_message
from opsdb.tables import Lane, Run, StepStatus

MADE = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def made(
    engine: Engine,
    *states: str,
    run_id: UUID | None = None,
    kind: str = "backup",
    lane: Lane = Lane.A,
    minute: int = 0,
    session: str | None = None,
) -> UUID:
    """A run with those states, ten seconds apart."""
    created = MADE + timedelta(minutes=minute)
    with engine.begin() as db:
        facts = RunFacts(
            id=run_id or uuid4(),
            kind=kind,
            lane=lane,
            priority=0,
            session_id=join_session(db, session) if session else None,
            params={"database": "shop"},
            created_at=created,
        )
        reported = [
            State(id=uuid4(), at=created + timedelta(seconds=10 * number), type=name, name=name.title())
            for number, name in enumerate(states or ("SCHEDULED",))
        ]
        apply_states(db, facts=facts, states=reported)
    return facts.id


def test_runs_are_listed_newest_first_up_to_the_limit(settings: Settings, engine: Engine) -> None:
    ids = [made(engine, minute=minute) for minute in range(4)]
    with reading(settings) as db:
        assert [view.run.id for view in list_runs(db, limit=3)] == ids[:0:-1]


def test_filters_hold_together(settings: Settings, engine: Engine) -> None:
    wanted = made(engine, "PENDING", "RUNNING", "FAILED", kind="deploy", lane=Lane.B, session="Release [1]")
    made(engine, "PENDING", "RUNNING", "FAILED", kind="deploy", lane=Lane.C, session="Release [1]")
    made(engine, kind="deploy", lane=Lane.B, session="Release [1]")
    made(engine, "PENDING", "RUNNING", "FAILED", kind="backup", lane=Lane.B)
    with reading(settings) as db:
        found = list_runs(db, lane=Lane.B, status=RunStatus.FAILED, kind="deploy", session="Release [1]")
        assert [view.run.id for view in found] == [wanted]
        assert found[0].session == "Release [1]"
        assert found[0].run.status is RunStatus.FAILED
        by_id = list_runs(db, session=str(found[0].run.session_id).upper(), lane=Lane.B, status=RunStatus.FAILED)
        assert [view.run.id for view in by_id] == [wanted]
        assert list_runs(db, session="%") == []


def test_times_of_a_run_follow_from_its_states(settings: Settings, engine: Engine) -> None:
    made(engine, "SCHEDULED", "PENDING", "RUNNING", "COMPLETED")
    with reading(settings) as db:
        (view,) = list_runs(db)
    assert (view.queue_seconds, view.duration_seconds) == (20, 10)


def test_run_that_was_planned_has_waited_since_it_was_due(settings: Settings, engine: Engine) -> None:
    made(engine, "SCHEDULED", "PENDING", "RUNNING")
    for due, waited in (("started_at - interval '3 s'", 3), ("started_at + interval '1 year'", 20)):
        with engine.begin() as db:
            db.execute(text(f"UPDATE ops.runs SET due_at = {due}"))
        with reading(settings) as db:
            assert [view.queue_seconds for view in list_runs(db)] == [waited]


def test_run_is_found_by_its_start_and_by_its_end(settings: Settings, engine: Engine) -> None:
    run_id = made(engine, run_id=UUID("12345678-9abc-4def-8123-456789abcdef"))
    made(engine, run_id=UUID("99999999-9999-4999-8999-999999999999"))
    with reading(settings) as db:
        for spelled in ("1234", "12345678-9A", "cdef", short_id(run_id), str(run_id), run_id.hex.upper()):
            assert find_run(db, spelled) == run_id


def test_part_of_more_than_one_id_lists_at_most_five(settings: Settings, engine: Engine) -> None:
    for number in range(7):
        made(engine, run_id=UUID(f"abcd{number:04x}-0000-4000-8000-000000000000"), kind="deploy", minute=number)
    with reading(settings) as db:
        with pytest.raises(UsageError) as refused:
            find_run(db, "abcd")
        assert find_run(db, "abcd0006") == UUID("abcd0006-0000-4000-8000-000000000000")
    assert str(refused.value).count("(deploy, queued)") == 5
    assert str(refused.value).endswith("and more")


@pytest.mark.parametrize("spelled", ["ffff", "12345678-9abc-4def-8123-456789abcdef"])
def test_unknown_run_is_refused(spelled: str, settings: Settings) -> None:
    with reading(settings) as db, pytest.raises(UsageError, match="no run is recorded"):
        find_run(db, spelled)


def test_details_hold_everything_in_order(settings: Settings, engine: Engine) -> None:
    run_id = made(engine, "PENDING", "RUNNING")
    made(engine, "PENDING", "RUNNING")
    with engine.begin() as db:
        for index in (2, 1):
            step = StepStarted(run_id, attempt=1, index=index, name=f"s{index}", command="x", timeout_seconds=9)
            apply_line(db, step.line())
        step_ended = StepFinished(run_id, attempt=1, index=1, status=StepStatus.FAILED, exit_code=4, error="no")
        apply_line(db, step_ended.line())
        apply_line(db, Event(run_id, message="first", level="warning", data={"pid": 7}).line())
        apply_line(db, Event(run_id, message="second").line())
        columns = {"content_text": "hello", "details": {"a": 1}}
        apply_line(db, ArtifactMade(run_id, kind="text", name="note", columns=columns).line())
    with reading(settings) as db:
        found = read_run(db, run_id)
    assert found is not None
    assert [(step.index, step.status, step.exit_code) for step in found.steps] == [
        (1, StepStatus.FAILED, 4),
        (2, StepStatus.RUNNING, None),
    ]
    assert [(item.message, item.data) for item in found.events] == [("first", {"pid": 7}), ("second", {})]
    assert [(item.name, item.details) for item in found.artifacts] == [("note", {"a": 1})]
    assert [item.name for item in found.states] == ["Pending", "Running"]
    assert found.steps_of(2) == []


def test_run_that_is_not_recorded_has_no_details(settings: Settings) -> None:
    with reading(settings) as db:
        assert read_run(db, uuid4()) is None


def test_reading_can_not_write(settings: Settings) -> None:
    with pytest.raises(DBAPIError, match="read-only"), reading(settings) as db:
        db.execute(text("DELETE FROM ops.runs"))


def test_database_without_the_schema_says_what_to_do(empty_database: str) -> None:
    room = Settings(database_url=SecretStr(empty_database))
    with pytest.raises(RoomUnreachableError, match="`ops db upgrade`"), reading(room) as db:
        list_runs(db)


def test_lost_connection_says_what_to_do(settings: Settings, engine: Engine) -> None:
    with pytest.raises(RoomUnreachableError, match="`ops up`"), reading(settings) as db:  # noqa: PT012  # the loss happens inside
        pid = db.scalar(text("SELECT pg_backend_pid()"))
        other = connect(settings, role=None, application="test")
        with other.begin() as killer:
            killer.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        other.dispose()
        list_runs(db)


def test_queued_run_tells_what_holds_its_lane_and_who_goes_first(settings: Settings, engine: Engine) -> None:
    holders = {made(engine, "SCHEDULED", "PENDING", "RUNNING"), made(engine, "SCHEDULED", "PENDING")}
    made(engine, "SCHEDULED", "PENDING", "RUNNING", lane=Lane.B)
    made(engine, "SCHEDULED", "PENDING", "RUNNING", "COMPLETED")
    older, waiting, younger = (made(engine, minute=minute) for minute in (1, 2, 3))
    urgent = made(engine, minute=4)
    planned = made(engine, minute=5)
    with engine.begin() as db:
        db.execute(text("UPDATE ops.runs SET priority = 20 WHERE id = :id"), {"id": urgent})
        db.execute(text("UPDATE ops.runs SET created_at = now() + interval '1 h' WHERE id = :id"), {"id": planned})

    def why(run_id: UUID) -> Waiting:
        with reading(settings) as db:
            details = read_run(db, run_id)
            assert details is not None
            return why_waiting(db, details.view, online_seconds=30)

    found = why(waiting)
    assert {holder.run.id for holder in found.holders} == holders
    assert (found.ahead, found.due_at, found.worker_online) == ({"urgent": 1, "default": 1}, None, False)
    ahead = [why(run_id).ahead for run_id in (urgent, older, younger)]
    assert ahead == [{}, {"urgent": 1}, {"urgent": 1, "default": 2}]
    with engine.begin() as db:
        write_worker_heartbeat(db, name="w-1", host="w", lanes=["A"])
    assert why(waiting).worker_online
    with engine.begin() as db:
        db.execute(text("UPDATE ops.workers SET heartbeat_at = now() - interval '31 s'"))
    assert not why(waiting).worker_online
    assert why(planned).due_at is not None


def test_run_set_to_start_later_goes_before_nobody_until_then(settings: Settings, engine: Engine) -> None:
    later, waiting = made(engine, minute=1), made(engine, minute=2)

    def why(run_id: UUID) -> Waiting:
        with reading(settings) as db:
            details = read_run(db, run_id)
            assert details is not None
            return why_waiting(db, details.view, online_seconds=30)

    assert why(waiting).ahead == {"default": 1}
    due_at = datetime(2036, 1, 1, tzinfo=UTC)
    forced = State(id=uuid4(), at=datetime.now(UTC), type="SCHEDULED", name="Scheduled", due_at=due_at)
    with engine.begin() as db:
        apply_states(db, facts=facts_of_row(db.execute(select(Run).where(col(Run.id) == later)).one()), states=[forced])
    assert why(waiting).ahead == {}
    assert why(later).due_at == due_at
    planned = made(engine, minute=3)
    with engine.begin() as db:
        at = {"id": planned, "at": due_at}
        db.execute(text("UPDATE ops.runs SET created_at = :at, due_at = :at WHERE id = :id"), at)
        assert [run.id for run in read_set_later(db)] == [later]  # the other one was planned for then when it was made


def test_run_that_waits_for_a_slot_of_its_deployment_goes_before_nobody(settings: Settings, engine: Engine) -> None:
    first, waiting = made(engine, minute=1), made(engine, minute=2)
    slot = State(id=uuid4(), at=datetime.now(UTC), type="SCHEDULED", name=AWAITS_SLOT)
    with engine.begin() as db:
        apply_states(db, facts=facts_of_row(db.execute(select(Run).where(col(Run.id) == first)).one()), states=[slot])
    with reading(settings) as db:
        details = read_run(db, waiting)
        assert details is not None
        assert why_waiting(db, details.view, online_seconds=30).ahead == {}


def test_run_says_how_many_went_ahead_of_it_that_were_asked_for_later(settings: Settings, engine: Engine) -> None:
    waiting = made(engine, minute=1)
    made(engine, "SCHEDULED", "PENDING", "RUNNING", minute=0)
    made(engine, "SCHEDULED", "PENDING", "RUNNING", minute=2, lane=Lane.B)
    for minute in (2, 3):
        made(engine, "SCHEDULED", "PENDING", "RUNNING", "COMPLETED", minute=minute)
    made(engine, minute=4)
    with reading(settings) as db:
        details = read_run(db, waiting)
        assert details is not None
        assert why_waiting(db, details.view, online_seconds=30).overtaken_by == 2


def test_postponed_run_waits_for_its_time_and_goes_before_nobody(settings: Settings, engine: Engine) -> None:
    postponed, waiting = made(engine, "RUNNING", minute=1), made(engine, minute=2)

    def postpone(until_at: datetime) -> Waiting:
        waits = State(
            id=uuid4(),
            at=datetime.now(UTC),
            type="SCHEDULED",
            name="S",
            message=postponed_message(until_at, "x"),
            due_at=until_at,
        )
        with reading(settings) as db:
            details = read_run(db, postponed)
            assert details is not None
        with engine.begin() as db:
            apply_states(db, facts=facts_of_row(details.view.run), states=[waits])  # type: ignore[arg-type]
        with reading(settings) as db:
            details, other = read_run(db, postponed), read_run(db, waiting)
            assert details is not None
            assert other is not None
            assert details.view.postponed
            assert [view.postponed for view in list_runs(db)] == [False, True]
            assert why_waiting(db, other.view, online_seconds=30).ahead == {}
            return why_waiting(db, details.view, online_seconds=30)

    later = datetime.now(UTC) + timedelta(minutes=15)
    assert postpone(later).postponed == postponed_message(later, "x")
    assert postpone(datetime.now(UTC) - timedelta(minutes=1)).postponed is None


def test_kinds_that_are_used_are_those_of_late_on_the_workers_own_host(engine: Engine) -> None:
    for kind in ("lately", "elsewhere", "long_ago", "both", "here"):
        made(engine, kind=kind)
    made(engine, kind="both")
    with engine.begin() as db:
        db.execute(text("UPDATE ops.runs SET created_at = now() - interval '29 days'"))
        db.execute(text("UPDATE ops.runs SET created_at = now() - interval '31 days' WHERE kind = 'long_ago'"))
        db.execute(text("UPDATE ops.runs SET params = '{\"odoo_host\": \"far\"}' WHERE kind = 'elsewhere'"))
        db.execute(text("UPDATE ops.runs SET params = '{\"odoo_host\": null}' WHERE kind = 'lately'"))
        db.execute(text("UPDATE ops.runs SET params = '{\"odoo_host\": \"\"}' WHERE kind = 'here'"))
        assert kinds_used(db, days=30) == {"lately", "both", "here"}


NAME = "odoo_prod · backup"


def named(engine: Engine, run_id: UUID, name: str = NAME) -> UUID:
    with engine.begin() as db:
        write_names(db, {run_id: name})
    return run_id


@pytest.mark.parametrize("verb", [None, *Verb])
def test_name_stands_for_the_newest_run_or_the_one_that_it_can_be_done_with(
    settings: Settings, engine: Engine, verb: Verb | None
) -> None:
    waits = named(engine, made(engine, "SCHEDULED", minute=1))
    failed = named(engine, made(engine, "PENDING", "RUNNING", "FAILED", minute=2))
    newest = named(engine, made(engine, "PENDING", "RUNNING", "COMPLETED", minute=3))
    named(engine, made(engine, "SCHEDULED", minute=4), "odoo_prod · restore drill")
    wanted = {None: newest, Verb.CANCEL: waits, Verb.RETRY: failed, Verb.APPROVE: newest}  # the last says why not
    with reading(settings) as db:
        assert find_run(db, NAME, verb) == wanted[verb]


def test_name_of_several_that_it_can_be_done_with_lists_them(settings: Settings, engine: Engine) -> None:
    runs = [named(engine, made(engine, "SCHEDULED", minute=number)) for number in range(7)]
    with reading(settings) as db, pytest.raises(UsageError) as refused:
        find_run(db, NAME, Verb.CANCEL)
    said = str(refused.value)
    assert said.startswith(f"{NAME!r} names several runs that can be cancelled: {runs[6]} (queued, ")
    assert said.count("(queued, ") == 5
    assert said.endswith(" and more. Hint: give the id of one")


@pytest.mark.parametrize("name", ["nobody", "abc", "", "a\0b", "\ud800", "%"])
def test_unknown_name_is_refused(name: str, settings: Settings, engine: Engine) -> None:
    named(engine, made(engine))
    with reading(settings) as db, pytest.raises(UsageError, match="RUN: no run has the name"):
        find_run(db, name)


@pytest.mark.parametrize("name", ["feed", "2026-11-30", "FEED-12"])
@pytest.mark.parametrize("verb", [None, Verb.CANCEL])
def test_name_may_look_like_a_part_of_an_id(settings: Settings, engine: Engine, name: str, verb: Verb | None) -> None:
    digits = name.replace("-", "").lower()
    run_id = named(engine, made(engine, run_id=UUID(f"{0:024x}{'11111111'}"), kind="import"), name)
    with reading(settings) as db:
        assert find_run(db, name, verb) == run_id
    other = made(engine, run_id=UUID(digits + "0" * (32 - len(digits))), kind="deploy")
    with reading(settings) as db, pytest.raises(UsageError, match="fits more than one run") as refused:
        find_run(db, name, verb)
    assert f"{run_id} (import, queued), {other} (deploy, queued)" in str(refused.value)
    named(engine, other, name if verb is None else "other")
    if verb is None:  # both are the same run
        with engine.begin() as db:
            db.execute(text("UPDATE ops.runs SET name = NULL WHERE id = :id"), {"id": run_id})
        with reading(settings) as db:
            assert find_run(db, name) == other
