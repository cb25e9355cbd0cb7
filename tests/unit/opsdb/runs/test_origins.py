from __future__ import annotations

import pytest

from opsdb.runs.origins import origin, started_by_run, started_message, starter_of


def said(message: str | None, **columns: object) -> str:
    values = {"known": True, "tick": None, "schedule": None} | columns
    return origin(message=message, **values)  # type: ignore[arg-type]  # as the tests give them


@pytest.mark.parametrize(
    ("message", "from_where"),
    [
        (started_message("alice as root", "ops run"), "command line by alice as root"),
        (started_message("bob", "ops rerun", more=", as run 1a2b3c4d"), "command line by bob, as run 1a2b3c4d"),
        (started_by_run("1a2b3c4d", "nightly_backup"), "run 1a2b3c4d of nightly_backup"),
        ("Run from the Prefect UI", "Prefect UI"),
        ("Run from the Prefect UI with defaults", "Prefect UI"),
        ("for the auditors", "Prefect UI or API: for the auditors"),
        (None, "Prefect API"),
        ("", "Prefect API"),
    ],
)
def test_first_state_says_from_where(message: str | None, from_where: str) -> None:
    assert said(message) == from_where


def test_schedule_is_named_whatever_its_state_says() -> None:
    assert said("Flow run scheduled", tick="scheduled a b c", schedule="nightly") == "schedule nightly"
    assert said("Run from the Prefect UI", tick="scheduled a b c") == "a schedule that is gone"


def test_nothing_is_said_of_a_run_without_a_state() -> None:
    assert said(None, known=False) == ""


def test_run_that_started_it_is_found_in_what_is_said() -> None:
    assert starter_of(said(started_by_run("1a2b3c4d", "nightly_backup"))) == "1a2b3c4d"
    assert starter_of(said("run 1a2b3c4d of x")) is None
    assert starter_of("") is None
