"""The fold over a run's states."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsdb.runs.notes import approvals, rewrites
from opsdb.states import (
    APPROVAL,
    AWAITS_SLOT,
    DIED,
    PUT_BACK,
    RESUMING,
    STATUS_OF_PREFECT,
    RunStatus,
    State,
    fold,
    postponed_message,
)

START = datetime(2026, 1, 1, tzinfo=UTC)


def make_state(number: int, type_: str, *, seconds: float | None = None) -> State:
    at = START + timedelta(seconds=number if seconds is None else seconds)
    return State(id=UUID(int=number), at=at, type=type_, name=type_.title())


def life_of(*types: str) -> list[State]:
    return [make_state(number, type_) for number, type_ in enumerate(types)]


def test_run_that_is_put_back_while_it_has_postponed_itself_keeps_when_it_began() -> None:
    waits = replace(make_state(2, "SCHEDULED"), message=postponed_message(START, "why"))
    put_back = replace(make_state(4, "SCHEDULED"), message=f"{PUT_BACK}nobody had claimed it")
    states = [make_state(0, "PENDING"), make_state(1, "RUNNING"), waits, make_state(3, "RUNNING"), put_back]
    life = fold([*states, make_state(5, "PENDING"), make_state(6, "RUNNING")])
    assert life.begun_at == START + timedelta(seconds=1)
    assert life.claimed_at == START + timedelta(seconds=5)
    assert life.started_at == START + timedelta(seconds=6)


def test_time_that_somebody_chose_stays_while_there_is_no_slot_and_when_it_starts() -> None:
    due_at = START + timedelta(hours=3)
    planned = replace(make_state(0, "SCHEDULED"), due_at=due_at)
    no_slot = replace(make_state(1, "SCHEDULED"), name=AWAITS_SLOT)
    states = [planned, no_slot, make_state(2, "PENDING"), make_state(3, "RUNNING"), make_state(4, "COMPLETED")]
    assert [fold(states[: count + 1]).due_at for count in range(5)] == [due_at] * 5
    assert fold([*states[:2], make_state(2, "SCHEDULED")]).due_at is None  # it is to start now


histories = st.lists(
    st.builds(
        make_state,
        st.integers(0, 30),
        st.sampled_from(sorted(STATUS_OF_PREFECT)),
        seconds=st.integers(0, 5),  # few, so that many share a moment
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda state: state.id,
)


@given(histories, st.randoms(use_true_random=False))
def test_fold_is_the_same_in_any_order_and_with_repeats(states: list[State], random: object) -> None:
    shuffled = states + states[: len(states) // 2]
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis gives a Random
    assert fold(shuffled) == fold(states)


@given(histories)
def test_fold_tells_an_end_of_what_is_over_and_of_nothing_else(states: list[State]) -> None:
    life = fold(states)
    assert (life.finished_at is not None) == life.status.terminal == (life.end is not None)


def test_fold_tells_the_times_of_a_plain_run() -> None:
    life = fold(life_of("SCHEDULED", "PENDING", "RUNNING", "COMPLETED"))
    assert (life.status, life.attempt) == (RunStatus.SUCCEEDED, 1)
    assert life.claimed_at == START + timedelta(seconds=1)
    assert life.started_at == START + timedelta(seconds=2)
    assert life.finished_at == START + timedelta(seconds=3)


def test_fold_counts_a_retry_as_a_new_attempt() -> None:
    life = fold(life_of("SCHEDULED", "PENDING", "RUNNING", "FAILED", "SCHEDULED", "PENDING", "RUNNING"))
    assert (life.status, life.attempt, life.finished_at) == (RunStatus.RUNNING, 2, None)
    assert life.started_at == START + timedelta(seconds=6)


def test_fold_keeps_the_attempt_of_a_run_that_is_claimed_again_before_it_started() -> None:
    assert fold(life_of("SCHEDULED", "PENDING", "SCHEDULED", "PENDING", "RUNNING")).attempt == 1


def test_fold_of_a_run_cancelled_while_it_waits_for_its_retry() -> None:
    life = fold(life_of("RUNNING", "FAILED", "SCHEDULED", "CANCELLED"))
    assert (life.status, life.attempt, life.started_at) == (RunStatus.CANCELLED, 2, None)


def test_fold_lets_the_newer_of_two_terminal_states_win() -> None:
    states = life_of("RUNNING", "COMPLETED", "CRASHED")
    assert fold(states).status is RunStatus.FAILED
    assert [(a.type, b.type) for a, b in rewrites(reversed(states))] == [("COMPLETED", "CRASHED")]


def test_fold_lets_a_terminal_state_win_over_another_of_the_same_moment() -> None:
    states = [make_state(2, "RUNNING", seconds=1), make_state(1, "COMPLETED", seconds=1)]
    assert fold(states).status is RunStatus.SUCCEEDED


def test_fold_refuses_no_states() -> None:
    with pytest.raises(ValueError, match="without states"):
        fold([])


def test_fold_tells_who_claimed_the_latest_attempt() -> None:
    def claim(number: int, message: str | None) -> State:
        return replace(make_state(number, "PENDING"), message=message)

    assert fold([claim(0, "claimed by host-1")]).claimed_by == "host-1"
    assert fold([claim(0, "claimed by host-1"), make_state(1, "SCHEDULED"), claim(2, "claimed by b")]).claimed_by == "b"
    assert fold([claim(0, None), claim(1, "claimed by ")]).claimed_by is None
    second = [claim(0, "claimed by host-1"), make_state(1, "CRASHED"), make_state(2, "SCHEDULED")]
    assert fold(second).claimed_by is None
    assert replace(make_state(0, "RUNNING"), message="claimed by me").claimed_by is None


def named(*words: str) -> list[State]:
    """A life in which a run `asks` for an approval, `resumes` as Prefect calls it, or `postpones` itself."""
    special: dict[str, dict[str, Any]] = {
        "asks": {"type": "PAUSED", "name": "Suspended", "message": f"{APPROVAL} until noon: deploy?"},
        "resumes": {"type": "SCHEDULED", "name": RESUMING, "message": "approved by me"},
        "postpones": {"type": "SCHEDULED", "name": "Scheduled", "message": postponed_message(START, "one failed")},
    }
    return [replace(make_state(number, word), **special.get(word, {})) for number, word in enumerate(words)]


def test_fold_of_a_run_that_waits_for_an_approval() -> None:
    life = fold(named("RUNNING", "asks"))
    assert (life.status, life.attempt, life.started_at, life.continues) == (RunStatus.QUEUED, 2, None, False)


def test_fold_of_a_run_that_was_approved_goes_on_in_its_second_attempt() -> None:
    states = named("RUNNING", "asks", "resumes", "PENDING", "RUNNING")
    life = fold(states)
    assert (life.status, life.attempt, life.continues, life.approval) == (RunStatus.RUNNING, 2, True, states[2])
    assert approvals(reversed(states)) == [(states[1], states[2])]


def test_fold_of_a_run_suspended_from_outside_runs_on_resumed_or_not() -> None:
    outside = replace(make_state(1, "PAUSED"), name="Suspended", message=None)
    states = [make_state(0, "RUNNING"), outside]
    for more in ([], [replace(make_state(2, "SCHEDULED"), name=RESUMING)]):
        life = fold([*states, *more])
        assert (life.status, life.attempt, life.continues) == (RunStatus.RUNNING, 1, False)
    ended = fold([*states, replace(make_state(2, "SCHEDULED"), name=RESUMING), make_state(3, "COMPLETED")])
    assert (ended.status, ended.attempt) == (RunStatus.SUCCEEDED, 1)


def test_fold_of_a_run_that_is_to_go_on_twice_goes_on_once() -> None:
    for claimed in (["PENDING"], ["PENDING", "RUNNING"]):
        life = fold(named("RUNNING", "asks", "resumes", *claimed, "resumes"))
        assert (life.attempt, life.continues) == (2, True)
        assert life.status is (RunStatus.RUNNING if len(claimed) == 2 else RunStatus.CLAIMED)


def test_fold_keeps_an_approval_when_only_a_death_came_between_it_and_the_start() -> None:
    states = named("RUNNING", "asks", "resumes", "PENDING", "CRASHED", "resumes", "PENDING", "RUNNING")
    life = fold(states)
    assert (life.attempt, life.continues, life.approval, life.crashes) == (3, True, states[2], 1)


@pytest.mark.parametrize("end", ["CANCELLED", "FAILED"])
def test_fold_drops_an_approval_when_somebody_ended_what_was_approved(end: str) -> None:
    life = fold(named("RUNNING", "asks", "resumes", end, "resumes", "RUNNING"))
    assert (life.attempt, life.continues, life.approval) == (3, True, None)


@pytest.mark.parametrize("end", ["CANCELLED", "FAILED", "CRASHED"])
def test_fold_starts_anew_where_nobody_said_that_it_goes_on(end: str) -> None:
    for begun in ([], ["RUNNING"]):
        life = fold(named("RUNNING", "asks", "resumes", *begun, end, "SCHEDULED", "RUNNING"))
        assert (life.attempt, life.continues, life.approval, life.base) == (3, False, None, 3)


def test_fold_knows_the_attempt_that_began_with_the_first_step() -> None:
    assert fold(named("RUNNING", "FAILED", "resumes", "RUNNING", "FAILED", "resumes", "RUNNING")).base == 1
    assert fold(named("RUNNING", "FAILED", "SCHEDULED", "RUNNING", "FAILED", "resumes", "RUNNING")).base == 2
    assert fold(named("RUNNING", "asks", "CANCELLED")).base == 1  # the attempt that waited never started
    assert fold(named("RUNNING", "FAILED", "SCHEDULED", "CANCELLED")).base == 1


def test_fold_counts_deaths_by_attempt() -> None:
    assert fold(named("RUNNING", "CRASHED", "CRASHED", "SCHEDULED", "RUNNING", "CRASHED")).crashes == 2
    assert fold(named("RUNNING", "FAILED", "SCHEDULED", "RUNNING")).crashes == 0


def test_fold_does_not_take_a_retry_from_the_failed_step_for_an_approval() -> None:
    life = fold(named("RUNNING", "FAILED", "resumes", "RUNNING"))
    assert (life.attempt, life.continues, life.approval) == (2, True, None)


def test_postponed_state_says_until_when() -> None:
    until_at = datetime(2026, 11, 30, 2, 15, tzinfo=UTC)
    waits = replace(make_state(1, "SCHEDULED"), message=postponed_message(until_at, "one failed"))
    assert (waits.postponed_until, waits.status) == (until_at, RunStatus.QUEUED)
    assert waits.message == "waits until 2026-11-30 02:15:00 UTC: one failed"
    assert replace(waits, type="PENDING").postponed_until is None
    for message in (None, "", f"{APPROVAL} until 2026-11-30 02:15:00 UTC: x", "waits until 2026-13-41 99:99:99 UTC: x"):
        assert replace(waits, message=message).postponed_until is None


def test_fold_of_a_run_that_was_postponed_begins_anew_without_having_failed() -> None:
    life = fold(named("SCHEDULED", "PENDING", "RUNNING", "postpones"))
    assert (life.status, life.attempt, life.started_at, life.finished_at) == (RunStatus.QUEUED, 2, None, None)
    again = fold(named("RUNNING", "postpones", "SCHEDULED", "PENDING", "RUNNING", "postpones", "RUNNING"))
    assert (again.attempt, again.base, again.crashes, again.continues) == (3, 3, 0, False)
    assert fold(named("RUNNING", "postpones", "RUNNING", "CRASHED", "SCHEDULED", "RUNNING")).crashes == 1
    assert fold(named("RUNNING", "postpones", "CANCELLED")).status is RunStatus.CANCELLED


def test_fold_knows_when_the_run_began_since_somebody_asked_for_it() -> None:
    assert fold(life_of("SCHEDULED", "PENDING")).begun_at is None
    assert fold(life_of("PENDING", "RUNNING", "SCHEDULED", "RUNNING")).begun_at == START + timedelta(seconds=1)
    died = life_of("PENDING", "RUNNING", "CRASHED", "SCHEDULED", "RUNNING")
    died[3] = replace(died[3], message=f"attempt 1 {DIED}")
    assert fold(died).begun_at == START + timedelta(seconds=1)
    for end in ("FAILED", "CANCELLED", "CRASHED"):
        assert fold(life_of("RUNNING", end)).begun_at == START
        assert fold(life_of("RUNNING", end, "SCHEDULED")).begun_at is None
        later = fold(named("RUNNING", end, "SCHEDULED", "RUNNING", "postpones", "RUNNING"))
        assert later.begun_at == START + timedelta(seconds=3)


NOW: dict[str, tuple[str, ...]] = {
    "waiting": ("SCHEDULED",),
    "claimed": ("SCHEDULED", "PENDING"),
    "running": ("SCHEDULED", "PENDING", "RUNNING"),
    "asking": ("SCHEDULED", "PENDING", "RUNNING", "asks"),
    "postponed": ("SCHEDULED", "PENDING", "RUNNING", "postpones"),
    "succeeded": ("SCHEDULED", "PENDING", "RUNNING", "COMPLETED"),
    "failed": ("SCHEDULED", "PENDING", "RUNNING", "FAILED"),
    "cancelled": ("SCHEDULED", "CANCELLED"),
}
"""What a run may be when somebody sets a state by hand."""
ENDS = {"COMPLETED": "succeeded", "FAILED": "failed", "CRASHED": "failed", "CANCELLED": "cancelled"}
BEGINS = {"SCHEDULED": "queued", "PENDING": "claimed", "RUNNING": "running"}
HELD = {"PAUSED": "queued", "CANCELLING": "queued"}
NOTHING_RAN = {"COMPLETED": "cancelled"}
"""What never started has not succeeded, whoever says so."""
BY_HAND: dict[str, dict[str, str]] = {
    "waiting": {**BEGINS, **HELD, **ENDS, **NOTHING_RAN},
    "claimed": {**BEGINS, "PAUSED": "queued", "CANCELLING": "claimed", **ENDS, **NOTHING_RAN},
    "running": {**dict.fromkeys(("SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING"), "running"), **ENDS},
    "asking": {**BEGINS, **HELD, **ENDS, **NOTHING_RAN},
    "postponed": {**BEGINS, **HELD, **ENDS, **NOTHING_RAN},
    **{
        over: {**dict.fromkeys(("PENDING", "RUNNING", "PAUSED", "CANCELLING"), over), "SCHEDULED": "queued", **ENDS}
        for over in ("succeeded", "failed", "cancelled")
    },
}
BY_HAND["cancelled"] |= NOTHING_RAN


@pytest.mark.parametrize("now", sorted(NOW))
@pytest.mark.parametrize("by_hand", sorted(STATUS_OF_PREFECT))
def test_fold_of_a_state_that_somebody_sets_by_hand(now: str, by_hand: str) -> None:
    before, after = fold(named(*NOW[now])), fold(named(*NOW[now], by_hand))
    assert after.status == BY_HAND[now][by_hand]
    over = now in ("succeeded", "failed", "cancelled")
    assert after.attempt == before.attempt + (over and by_hand == "SCHEDULED")
    assert (after.finished_at is not None) == after.status.terminal
    if over and by_hand in ("PENDING", "RUNNING", "PAUSED", "CANCELLING"):
        assert after.finished_at == before.finished_at
    contradicts = (over and by_hand in ("PENDING", "RUNNING", "PAUSED", "CANCELLING")) or (
        now == "running" and by_hand in ("SCHEDULED", "PENDING", "PAUSED")
    )
    assert [one.state.type for one in after.disregarded] == [by_hand] * contradicts


@pytest.mark.parametrize("by_hand", ["PENDING", "RUNNING", "PAUSED", "CANCELLING"])
def test_fold_of_a_run_whose_end_prefect_hears_again_ended_when_it_did(by_hand: str) -> None:
    life = fold(named("RUNNING", "COMPLETED", by_hand, by_hand, "COMPLETED"))
    assert (life.status, life.finished_at) == (RunStatus.SUCCEEDED, START + timedelta(seconds=1))
    assert fold(named("RUNNING", "COMPLETED", by_hand, "COMPLETED", "CRASHED")).status is RunStatus.FAILED


@pytest.mark.parametrize("by_hand", ["SCHEDULED", "PENDING", "PAUSED"])
def test_fold_of_a_running_run_that_somebody_put_back_ends_as_its_process_says(by_hand: str) -> None:
    life = fold(named("PENDING", "RUNNING", by_hand, "RUNNING", "COMPLETED"))
    assert (life.status, life.attempt, life.started_at) == (RunStatus.SUCCEEDED, 1, START + timedelta(seconds=1))
    suspended = fold(named("PENDING", "RUNNING", by_hand, "asks"))
    assert (suspended.status, suspended.attempt) == (RunStatus.QUEUED, 2)


def test_fold_of_a_run_that_is_held_while_it_waits_begins_when_it_is_resumed() -> None:
    for resumed in ("resumes", "SCHEDULED"):
        life = fold(named("SCHEDULED", "PAUSED", resumed, "PENDING", "RUNNING"))
        assert (life.status, life.attempt) == (RunStatus.RUNNING, 1)
