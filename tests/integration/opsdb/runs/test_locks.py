"""A lock is a row that names its holder, and ends with the holder's run."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, text

from flows.engine.exclusion import exclude_others
from opsdb.errors import PreflightError
from opsdb.record.entries import RunClosed, apply_line
from opsdb.runs.locks import holder_of, release_resource, take_resource
from opsdb.runs.lookup import read_run
from opsdb.runs.runs import RunFacts, apply_states
from opsdb.runs.sweeper import fence_run
from opsdb.runs.waiting import kept_waiting_by
from opsdb.states import State
from opsdb.tables import Lane, Run

BEGUN = datetime(2031, 5, 5, tzinfo=UTC)


@pytest.fixture
def resource() -> str:
    return f"odoo_db:{uuid4().hex}"


def make_run(
    engine: Engine, run_id: UUID | None = None, *, type_: str = "RUNNING", seconds: int = 0, created: datetime = BEGUN
) -> UUID:
    """A run that has come to a state, so many seconds after the beginning."""
    run_id = run_id or uuid4()
    facts = RunFacts(id=run_id, kind="k", lane=Lane.A, priority=0, session_id=None, params={}, created_at=created)
    state = State(id=uuid4(), at=BEGUN + timedelta(seconds=seconds), type=type_, name=type_.title())
    with engine.begin() as db:
        apply_states(db, facts=facts, states=[state])
    return run_id


def taken(engine: Engine, resource: str, run_id: UUID, *, attempt: int = 1) -> bool:
    with engine.begin() as db:
        return take_resource(db, resource=resource, run_id=run_id, attempt=attempt, deadline_seconds=60)


def test_resource_is_one_runs_until_it_is_over(engine: Engine, resource: str) -> None:
    first, second, other = make_run(engine), make_run(engine), make_run(engine)
    assert taken(engine, f"{resource} of another", other)
    make_run(engine, other, type_="COMPLETED", seconds=1)  # its end frees its own resource, and no other
    assert taken(engine, resource, first)
    assert taken(engine, resource, first)
    assert not taken(engine, resource, second)
    with engine.connect() as db:
        assert holder_of(db, resource) == first
    make_run(engine, first, type_="CRASHED", seconds=1)
    with engine.connect() as db:
        assert holder_of(db, resource) is None
    assert taken(engine, resource, second)


def test_deadline_counts_from_the_taking(engine: Engine, resource: str) -> None:
    run = make_run(engine)
    assert taken(engine, resource, run)
    assert timedelta(seconds=50) < left(engine, run) < timedelta(seconds=61)


def test_next_attempt_of_the_holder_goes_on_and_an_earlier_one_has_no_say(engine: Engine, resource: str) -> None:
    run = make_run(engine)
    assert taken(engine, resource, run)
    make_run(engine, run, type_="CRASHED", seconds=1)
    make_run(engine, run, type_="SCHEDULED", seconds=2)
    make_run(engine, run, type_="RUNNING", seconds=3)
    assert not taken(engine, resource, run, attempt=1)
    assert taken(engine, resource, run, attempt=2)


def test_run_that_waits_for_its_next_attempt_holds_nothing(engine: Engine, resource: str) -> None:
    """Else those that wait for it would hold the slots of its lane, and it would wait for them."""
    first, second = make_run(engine), make_run(engine)
    assert taken(engine, resource, first)
    make_run(engine, first, type_="CRASHED", seconds=1)
    make_run(engine, first, type_="SCHEDULED", seconds=2)
    assert taken(engine, resource, second)
    make_run(engine, first, type_="RUNNING", seconds=3)
    assert not taken(engine, resource, first, attempt=2)


def test_holder_alone_releases_it_before_its_end(engine: Engine, resource: str) -> None:
    first, second = make_run(engine), make_run(engine)
    assert taken(engine, resource, first)
    assert taken(engine, f"{resource} of the run itself", first)
    for run, attempt in ((second, 1), (first, 2), (first, 1)):
        assert not taken(engine, resource, second)
        with engine.begin() as db:
            release_resource(db, resource=resource, run_id=run, attempt=attempt)
    assert taken(engine, resource, second)
    assert not taken(engine, f"{resource} of the run itself", second)


def test_outcome_that_its_process_recorded_frees_it_before_prefect_says_so(engine: Engine, resource: str) -> None:
    first, second = make_run(engine), make_run(engine)
    assert taken(engine, resource, first)
    with engine.begin() as db:
        apply_line(db, RunClosed.of(first, attempt=1, result={}).line())
    with engine.connect() as db:
        assert holder_of(db, resource) is None
    assert taken(engine, resource, second)


def test_run_that_is_fenced_over_or_not_recorded_takes_nothing(engine: Engine, resource: str) -> None:
    fenced = make_run(engine)
    with engine.begin() as db:
        fence_run(db, run_id=fenced, reason="HeartbeatTimeout")
    for run in (fenced, make_run(engine, type_="COMPLETED"), uuid4()):
        assert not taken(engine, resource, run)
    assert taken(engine, resource, make_run(engine))


@pytest.mark.promise(5)
def test_fenced_holder_keeps_it_until_the_verdict(engine: Engine, resource: str) -> None:
    """Its processes may still live."""
    holder, waiter = make_run(engine), make_run(engine)
    assert taken(engine, resource, holder)
    with engine.begin() as db:
        fence_run(db, run_id=holder, reason="HeartbeatTimeout")
    assert not taken(engine, resource, waiter)


@pytest.mark.promise(5)
def test_of_many_at_once_one_has_it(engine: Engine, resource: str) -> None:
    over = make_run(engine)
    assert taken(engine, resource, over)
    make_run(engine, over, type_="COMPLETED", seconds=1)
    runs = [make_run(engine) for _ in range(8)]
    together = threading.Barrier(2)

    def grab(run: UUID) -> bool:
        together.wait(10)
        return taken(engine, resource, run)

    with ThreadPoolExecutor(2) as pool:  # as many as the engine has connections
        assert sum(pool.map(grab, runs)) == 1


def test_who_waits_too_long_says_for_whom_and_does_nothing(engine: Engine, resource: str) -> None:
    holder, waiter = make_run(engine), make_run(engine)
    assert taken(engine, resource, holder)
    told: list[str] = []
    with pytest.raises(PreflightError, match=f"run {holder.hex[-8:]}, which holds odoo_db"):
        exclude_others(
            engine,
            resource=resource,
            run_id=waiter,
            attempt=1,
            deadline_seconds=60,
            note=told.append,
            poll_seconds=1,
            wait_seconds=1,
        )
    assert told == [f"waits for run {holder.hex[-8:]}, which holds {resource.replace(':', ' ')}"]


def wait_for(engine: Engine, resource: str, run_id: UUID, told: list[str], *, seconds: float = 60) -> None:
    exclude_others(
        engine,
        resource=resource,
        run_id=run_id,
        attempt=1,
        deadline_seconds=60,
        note=told.append,
        poll_seconds=1,
        wait_seconds=seconds,
    )


def test_of_runs_that_would_wait_for_each_other_the_last_gives_way_and_the_others_go_on(
    engine: Engine, resource: str
) -> None:
    runs = [make_run(engine, created=BEGUN + timedelta(seconds=number)) for number in range(3)]
    own = [f"{resource}_{number}" for number in range(3)]
    for run, one in zip(runs, own, strict=True):
        assert taken(engine, one, run)
    wanted = {runs[0]: own[1], runs[1]: own[2], runs[2]: own[0]}  # each the next one's
    told: list[str] = []

    def refusal_of(run: UUID) -> str:
        with pytest.raises(PreflightError) as refused:
            wait_for(engine, wanted[run], run, told, seconds=0)
        return str(refused.value)

    assert "timed out" in refusal_of(runs[2])  # no circle yet
    assert "timed out" in refusal_of(runs[0])
    assert "timed out" in refusal_of(runs[1])  # closes it, and is not the last of them
    assert refusal_of(runs[2]).startswith(f"run {runs[0].hex[-8:]} holds odoo_db")
    make_run(engine, runs[2], type_="FAILED", seconds=1)
    wait_for(engine, wanted[runs[1]], runs[1], told)
    make_run(engine, runs[1], type_="COMPLETED", seconds=1)
    wait_for(engine, wanted[runs[0]], runs[0], told)
    for run in runs:
        make_run(engine, run, type_="COMPLETED", seconds=2)


def seen(engine: Engine, run_id: UUID) -> tuple[Run, UUID | None]:
    """A run as `ops show` finds it, and whom it waits for."""
    with engine.connect() as db:
        details = read_run(db, run_id)
        assert details is not None
        return details.view.run, kept_waiting_by(db, details.view.run)


def left(engine: Engine, run_id: UUID) -> timedelta:
    """How far a run's deadline is away."""
    with engine.connect() as db:
        found = db.scalar(text("SELECT deadline_at - clock_timestamp() FROM ops.runs WHERE id = :id"), {"id": run_id})
    assert isinstance(found, timedelta)
    return found


def test_run_that_has_one_resource_waits_for_another_and_its_deadline_counts_from_when_it_has_both(
    engine: Engine, resource: str
) -> None:
    holder, waiter, host = make_run(engine), make_run(engine), f"odoo_host:{uuid4().hex}"
    assert taken(engine, f"{resource}_other", holder)
    assert taken(engine, host, holder)
    told: list[str] = []
    wait_for(engine, resource, waiter, told)
    assert (told, seen(engine, waiter)[1]) == ([], None)
    with pytest.raises(PreflightError, match=f"timed out after .*: run {holder.hex[-8:]}, which holds odoo_host"):
        wait_for(engine, host, waiter, told, seconds=1)
    assert told == [f"waits for run {holder.hex[-8:]}, which holds {host.replace(':', ' ')}"]
    run, kept_by = seen(engine, waiter)
    assert (run.waits_for_resource, kept_by) == (host, holder)
    with engine.connect() as db:
        assert (holder_of(db, resource), holder_of(db, host)) == (waiter, holder)
    make_run(engine, holder, type_="CRASHED", seconds=1)
    assert seen(engine, waiter)[1] is None
    wait_for(engine, host, waiter, told)
    run, kept_by = seen(engine, waiter)
    assert (run.waits_for_resource, kept_by) == (None, None)
    make_run(engine, waiter, type_="CRASHED", seconds=1)
    with engine.connect() as db:
        assert (holder_of(db, resource), holder_of(db, host)) == (None, None)


def test_deadline_of_a_run_that_waits_for_its_second_resource_is_beyond_the_wait(engine: Engine, resource: str) -> None:
    holder, waiter = make_run(engine), make_run(engine)
    assert taken(engine, f"{resource} host", holder)
    assert taken(engine, resource, waiter)

    def end_holder(line: str) -> None:
        if "waits for" in line:
            assert left(engine, waiter) > timedelta(seconds=3000)
            make_run(engine, holder, type_="COMPLETED", seconds=1)

    exclude_others(
        engine,
        resource=f"{resource} host",
        run_id=waiter,
        attempt=1,
        deadline_seconds=60,
        note=end_holder,
        poll_seconds=1,
        wait_seconds=3600,
    )
    assert timedelta(seconds=1) < left(engine, waiter) < timedelta(seconds=61)


def test_runs_that_need_two_resources_all_come_through_one_at_a_time(engine: Engine, resource: str) -> None:
    runs = [make_run(engine) for _ in range(4)]
    inside: list[UUID] = []
    alone: list[bool] = []

    def work(number: int) -> None:
        run = runs[number]
        wait_for(engine, f"{resource} {number % 2}", run, [])
        wait_for(engine, f"{resource} host", run, [])
        inside.append(run)
        alone.append(inside == [run])
        inside.remove(run)
        make_run(engine, run, type_="COMPLETED", seconds=1)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert alone == [True] * 4
