"""What a night does about each database, and when."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.backup.night import LONGEST, Outlook, Todo, Try, Window, named, not_backed_up, outlook, why_wait
from flows.odoo_db_backup import LONGEST_SECONDS
from opsdb.states import State

BEGUN = datetime(2026, 11, 30, 2, tzinfo=UTC)
WINDOW = Window(begun_at=BEGUN, due_at=BEGUN, allowed=timedelta(minutes=120))


def minutes(number: float) -> datetime:
    return BEGUN + timedelta(minutes=number)


def tried(type_: str, *, at: float, number: int = 1, message: str | None = None, started: float = 0) -> Try:
    state = State(id=UUID(int=number), at=minutes(at), type=type_, name=type_.title(), message=message)
    return Try(number=number, run_id=UUID(int=number), started_at=minutes(started), state=state)


def look(*tries: Try, at: float, window: Window = WINDOW) -> Outlook:
    return outlook("shop", tries, window=window, now=minutes(at))


def test_database_is_tried_at_once_and_not_before_the_time_allowed_is_over() -> None:
    assert look(at=0).todo is Todo.TRY_NOW
    late = look(at=120)
    assert (late.todo, late.reason) == (Todo.GIVE_UP, "it was not started before 04:00 UTC")


@pytest.mark.parametrize("type_", ["SCHEDULED", "PENDING", "RUNNING", "CANCELLING", "PAUSED"])
def test_backup_that_is_not_over_is_waited_for_however_long_it_takes(type_: str) -> None:
    found = look(tried(type_, at=0), at=300)
    assert (found.todo, found.at) == (Todo.WAIT, minutes(305))


def test_backup_that_somebody_paused_is_waited_for_as_long_as_one_may_take_and_then_named() -> None:
    hours = LONGEST / timedelta(minutes=1)
    assert timedelta(seconds=LONGEST_SECONDS) <= LONGEST
    assert look(tried("PAUSED", at=10), at=120 + hours - 1).todo is Todo.WAIT
    found = look(tried("PAUSED", at=10), at=120 + hours)
    assert (found.todo, found.reason) == (
        Todo.GIVE_UP,
        "run 00000001 is paused in Prefect since 2026-11-30 02:10 UTC, and may still resume: ops cancel 00000001",
    )
    assert look(tried("RUNNING", at=10), at=120 + hours).todo is Todo.WAIT  # it has a deadline of its own


def test_any_good_try_is_enough() -> None:
    found = look(tried("COMPLETED", at=9, number=1), tried("FAILED", at=8, number=2), at=500)
    assert (found.todo, found.outcome) == (
        Todo.NOTHING,
        {"run": str(UUID(int=1)), "outcome": "succeeded", "tries": 1},
    )


def test_failed_backup_is_tried_again_after_a_pause_and_the_reason_is_said() -> None:
    failed = tried("FAILED", at=0.2, message="Flow run encountered an exception: PreflightError: no\ndatabase")
    later = look(failed, at=1)
    assert (later.todo, later.at) == (Todo.TRY_LATER, minutes(5.2))
    assert later.reason == "run 00000001 failed: PreflightError: no database"
    assert look(failed, at=5.2).todo is Todo.TRY_NOW
    again = look(failed, tried("RUNNING", at=5.3, number=2), at=6)
    assert again.todo is Todo.WAIT


@pytest.mark.promise(9)
def test_failed_backup_that_somebody_set_to_completed_is_tried_again() -> None:
    marked = replace(tried("COMPLETED", at=1), set_to_completed=True)
    later = look(marked, at=2)
    assert later.todo is Todo.TRY_LATER
    assert later.reason == ("run 00000001 failed: somebody set it to Completed in Prefect since, which makes no backup")
    assert look(marked, tried("COMPLETED", at=9, number=2), at=10).outcome["run"] == str(UUID(int=2))


def test_what_failed_is_given_up_when_no_pause_is_left_before_the_end() -> None:
    assert look(tried("FAILED", at=89), at=90).todo is Todo.TRY_LATER
    assert look(tried("FAILED", at=90), at=90).todo is Todo.GIVE_UP
    assert look(tried("FAILED", at=10), at=120).todo is Todo.GIVE_UP


def test_cancelled_backup_is_not_tried_again() -> None:
    found = look(tried("CANCELLED", at=1), at=1)
    assert (found.todo, found.reason) == (Todo.GIVE_UP, "run 00000001 was cancelled, so it is not tried again")


@pytest.mark.parametrize("end", ["FAILED", "CANCELLED"])
def test_night_that_a_person_tries_again_tries_again_what_had_ended_before(end: str) -> None:
    morning = Window(begun_at=minutes(400), due_at=BEGUN, allowed=timedelta(minutes=120))
    assert look(tried(end, at=100), at=400, window=morning).todo is Todo.TRY_NOW
    assert look(tried("COMPLETED", at=100), at=400, window=morning).todo is Todo.NOTHING


def test_backup_whose_process_died_is_the_room_s_to_try_first() -> None:
    died = tried("CRASHED", at=100)
    assert look(died, at=100.5).todo is Todo.WAIT
    assert look(died, at=101).todo is Todo.GIVE_UP
    assert look(tried("CRASHED", at=10), at=12).todo is Todo.TRY_LATER


def test_pauses_between_tries_grow_to_half_an_hour() -> None:
    at, tries = 0.0, []
    while (again := WINDOW.try_again_at(minutes(at))) < WINDOW.ends_at:
        at = (again - BEGUN) / timedelta(minutes=1)
        tries.append(at)
    assert tries == [5, 10, 20, 40, 70, 100]


@pytest.mark.parametrize("started", [0, 110])
def test_looks_grow_from_10_seconds_to_5_minutes_after_each_start(started: float) -> None:
    found, at = [], minutes(started)
    while at < minutes(started + 30):
        backup = tried("RUNNING", at=started, started=started)
        next_at = outlook("shop", [backup], window=WINDOW, now=at).at
        found.append((next_at - at) / timedelta(seconds=1))
        at = next_at
    assert found[:4] == [10, 10, 10, 15]
    assert found[-1] == 300
    assert len(found) < 18


def test_backup_that_died_is_looked_at_as_soon_as_the_room_does_not_try_it_again() -> None:
    assert look(tried("CRASHED", at=60), at=60.5).at == minutes(61)


def test_night_that_is_late_has_its_time_from_its_tick_and_one_tried_again_by_a_person_from_then() -> None:
    late = Window(begun_at=minutes(60), due_at=BEGUN, allowed=timedelta(minutes=120))
    assert late.ends_at == minutes(120)
    morning = Window(begun_at=minutes(400), due_at=BEGUN, allowed=timedelta(minutes=120))
    assert morning.ends_at == minutes(520)
    by_hand = Window(begun_at=minutes(7), due_at=None, allowed=timedelta(minutes=1))
    assert by_hand.ends_at == minutes(8)
    assert by_hand.try_again_at(minutes(7)) == minutes(7) + timedelta(seconds=2.5)
    assert by_hand.try_again_at(minutes(7.9)) == minutes(7.9) + timedelta(seconds=15)


@given(
    type_=st.sampled_from(["SCHEDULED", "RUNNING", "FAILED", "CRASHED", "CANCELLED", "COMPLETED"]),
    at=st.floats(0, 600),
    later=st.floats(0, 600),
    allowed=st.integers(1, 1440),
)
def test_night_never_waits_for_a_time_that_is_over_nor_tries_after_its_end(
    type_: str, at: float, later: float, allowed: int
) -> None:
    window = Window(begun_at=BEGUN, due_at=None, allowed=timedelta(minutes=allowed))
    found = look(tried(type_, at=at), at=at + later, window=window)
    if found.todo in (Todo.WAIT, Todo.TRY_LATER):
        assert found.at > minutes(at + later)
    if found.todo is Todo.TRY_NOW:
        assert minutes(at + later) < window.ends_at
    if found.todo is Todo.TRY_LATER:
        assert found.at < window.ends_at


def test_sentences_name_the_databases() -> None:
    failed = look(tried("FAILED", at=0, message="gone"), at=1)
    assert why_wait([look(tried("RUNNING", at=0), at=1), failed]) == (
        "the backup of shop is not over; shop failed, tried again at 02:05 UTC"
    )
    assert why_wait([look(tried("RUNNING", at=0), at=1)] * 2) == "the backups of shop, shop are not over"
    assert named([str(number) for number in range(7)]) == "0, 1, 2, 3, 4 and 2 more"
    given_up = look(tried("FAILED", at=110, message="gone"), at=110)
    assert not_backed_up([given_up], of=3, again="ops run nightly_backup").splitlines() == [
        "1 of 3 databases not backed up: shop: run 00000001 failed: gone",
        "To back up what failed now: ops run nightly_backup",
    ]
