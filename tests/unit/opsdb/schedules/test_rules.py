"""What becomes of a tick (promise: a due time is executed, or it is said why not)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from opsdb.schedules.blackouts import read_blackout
from opsdb.schedules.catch_up import read_catch_up
from opsdb.schedules.rules import Override, ScheduleRules, TickEnd, Verdict, judge, wants_newer

DUE = datetime(2026, 12, 5, 2, tzinfo=UTC)  # a Saturday
ZONE = ZoneInfo("UTC")
WEEKEND = read_blackout("Fri 18:00 to Mon 06:00")


def rules(catch_up: str = "once within 2h", **others: object) -> ScheduleRules:
    return ScheduleRules(catch_up=read_catch_up(catch_up), **others)  # type: ignore[arg-type]


def verdict(rules: ScheduleRules, *, late: float, newer: tuple[float, ...] = ()) -> Verdict:
    """Of a tick that is late by minutes; `newer` ones were due so many minutes after it."""
    later = [DUE + timedelta(minutes=each) for each in newer]
    now = DUE + timedelta(minutes=late)
    return judge(DUE, zone=ZONE, now=now, rules=rules, newer=later, by_hand="ops run k")


@pytest.mark.parametrize("catch_up", ["skip", "once within 2h", "all"])
@pytest.mark.parametrize("late", [-60, 0, 5])
def test_tick_within_the_grace_is_executed_whatever_its_rule(catch_up: str, late: float) -> None:
    assert verdict(rules(catch_up), late=late, newer=(1,)) == Verdict(None)


@pytest.mark.parametrize(
    ("catch_up", "late", "newer", "end"),
    [
        ("skip", 6, (), TickEnd.SKIPPED),
        ("skip", 600, (60,), TickEnd.SKIPPED),
        ("once within 2h", 6, (), None),
        ("once within 2h", 120, (), None),
        ("once within 2h", 121, (), TickEnd.MISSED),
        ("once within 2h", 6, (3,), TickEnd.SUPERSEDED),
        ("once within 2h", 600, (540,), TickEnd.SUPERSEDED),
        ("once within 2h", 6, (0, -60), None),
        ("all", 6, (3,), None),
        ("all", 600_000, (1, 2), None),
    ],
)
def test_missed_tick_follows_the_rule(
    catch_up: str, late: float, newer: tuple[float, ...], end: TickEnd | None
) -> None:
    assert verdict(rules(catch_up), late=late, newer=newer).end is end


def test_missed_tick_that_nothing_makes_up_for_says_the_command() -> None:
    said = verdict(rules(), late=180)
    assert said.end is not None
    assert said.end.is_failure
    assert said.message == (
        "missed: due at 2026-12-05 02:00 UTC, and it is 180 minutes later, where 120 are allowed "
        "(catch-up: once within 2h). To run the same now: ops run k"
    )


def test_only_a_missed_tick_that_nobody_makes_up_for_is_a_failure() -> None:
    assert [end for end in TickEnd if end.is_failure] == [TickEnd.MISSED]


def test_tick_in_a_blackout_is_cancelled_however_late_it_comes() -> None:
    for late in (0, 600):
        said = verdict(rules("all", blackouts=(WEEKEND,)), late=late)
        assert said.end is TickEnd.BLACKOUT
        assert "Sat 2026-12-05 02:00 (UTC) falls into Fri 18:00 to Mon 06:00" in said.message


def test_blackout_is_judged_by_the_clocks_of_the_schedule() -> None:
    manila = judge(
        datetime(2026, 12, 4, 10, tzinfo=UTC),  # Friday, 18:00 there
        zone=ZoneInfo("Asia/Manila"),
        now=DUE,
        rules=rules("all", blackouts=(WEEKEND,)),
        newer=(),
        by_hand="",
    )
    assert manila.end is TickEnd.BLACKOUT


def test_tick_in_a_blackout_makes_up_for_no_other() -> None:
    # due on Friday at 17:50, missed; the next one was due at 18:10, which nothing executes
    due = datetime(2026, 12, 4, 17, 50, tzinfo=UTC)
    newer = [due + timedelta(minutes=20)]
    held = rules(blackouts=(WEEKEND,))
    said = judge(due, zone=ZONE, now=due + timedelta(minutes=30), rules=held, newer=newer, by_hand="")
    assert said.end is None
    free = judge(due, zone=ZONE, now=due + timedelta(minutes=30), rules=rules(), newer=newer, by_hand="")
    assert free.end is TickEnd.SUPERSEDED


@pytest.mark.parametrize(("minutes", "end"), [(0, None), (1, TickEnd.BLACKOUT)])
def test_override_lets_the_ticks_begin_that_it_covers(minutes: int, end: TickEnd | None) -> None:
    start = DUE + timedelta(minutes=minutes)
    override = Override(
        starts_at=start, ends_at=start + timedelta(hours=1), reason="month's close", made_by="ann", made_at=DUE
    )
    said = verdict(rules(blackouts=(WEEKEND,), overrides=(override,)), late=0)
    assert said.end is end
    if end is None:
        assert said.message == "blackout Fri 18:00 to Mon 06:00 overridden by ann: month's close"


def test_newer_ticks_are_asked_for_only_where_they_matter() -> None:
    late = DUE + timedelta(minutes=6)
    assert wants_newer(DUE, late, rules())
    assert not wants_newer(DUE, DUE, rules())
    assert not wants_newer(DUE, late, rules("all"))
    assert not wants_newer(DUE, late, rules("skip"))
