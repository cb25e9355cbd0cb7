"""How many wrong passwords are looked at."""

from __future__ import annotations

import logging

import pytest

from opsdb.web.guesses import ADDRESSES, FROM_ONE, IN_ALL, Guesses


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def guesses(clock: Clock) -> Guesses:
    return Guesses("tests", clock=clock)


def looked_at(guesses: Guesses, address: str, *, of: int = 1000) -> int:
    return sum(guesses.take(address) == 0 for _ in range(of))


def test_one_address_has_so_many_guesses_and_more_with_time(guesses: Guesses, clock: Clock) -> None:
    assert looked_at(guesses, "192.0.2.1") == FROM_ONE
    assert guesses.take("192.0.2.1") == 6
    clock.now += 5.9
    assert guesses.take("192.0.2.1") == 1
    clock.now += 0.2
    assert looked_at(guesses, "192.0.2.1") == 1
    clock.now += 3600
    assert looked_at(guesses, "192.0.2.1") == FROM_ONE


def test_who_waits_as_long_as_he_is_told_is_looked_at(guesses: Guesses, clock: Clock) -> None:
    for number in range(100):
        clock.now += guesses.take(f"192.0.2.{number % 3}")
        assert looked_at(guesses, "192.0.2.9", of=1) in (0, 1)
    clock.now += guesses.take("192.0.2.1")
    assert guesses.take("192.0.2.1") == 0


def test_many_addresses_have_so_many_together(guesses: Guesses, clock: Clock) -> None:
    def of_all() -> int:
        return sum(looked_at(guesses, f"10.0.{number // 250}.{number % 250}", of=2) for number in range(3 * ADDRESSES))

    assert of_all() == IN_ALL
    clock.now += 30
    assert of_all() == IN_ALL // 2
    assert len(guesses._of) == ADDRESSES


def test_another_address_is_looked_at_while_one_guesses(guesses: Guesses) -> None:
    looked_at(guesses, "192.0.2.1")
    assert guesses.take("192.0.2.2") == 0


@pytest.mark.parametrize(
    ("one", "other"),
    [("2001:db8::1", "2001:db8::ffff:1"), ("192.0.2.1", "::ffff:192.0.2.1"), ("2001:DB8::1", "2001:db8:0:0:1::1")],
)
def test_addresses_of_one_client_count_as_one(guesses: Guesses, one: str, other: str) -> None:
    looked_at(guesses, one)
    assert guesses.take(other) > 0


def test_what_is_no_address_is_counted_too(guesses: Guesses) -> None:
    assert looked_at(guesses, "unknown") == FROM_ONE


def test_log_has_one_line_for_a_burst(guesses: Guesses, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    for _ in range(2):
        looked_at(guesses, "192.0.2.1")
        clock.now += 61
    assert [record.getMessage().count("192.0.2.1") for record in caplog.records] == [1, 1]
