"""What hinders a preflight is an error that an operator can read."""

from __future__ import annotations

from uuid import uuid4

import httpx
import psycopg
import pytest
from sqlalchemy.exc import OperationalError

from flows.engine.active_run import ActiveRun, activated
from flows.engine.preflight import missing_programs
from flows.engine.step import action
from opsdb.errors import PreflightError
from opsdb.settings import load_settings

TIMEOUT = psycopg.errors.QueryCanceled("canceling statement due to statement timeout\nLINE 1: SELECT 'canary'")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (TIMEOUT, "look at shop: database query failed: canceling statement due to"),
        (
            OperationalError("SELECT %(a)s", {"a": "canary"}, TIMEOUT),
            "database query failed: canceling statement due to",
        ),
        (
            PermissionError(13, "Permission denied", "/backups"),
            "look at shop: /backups: Permission deni",
        ),
        (TimeoutError(), "look at shop: TimeoutError"),
        (httpx.ConnectError("canary"), "look at shop: no answer from Prefect .ConnectError.: `ops status` shows"),
    ],
)
def test_preflight_says_what_hinders_it(error: Exception, told: str) -> None:
    def fail() -> None:
        raise error

    run = ActiveRun(id=uuid4(), attempt=1, settings=load_settings(), record=lambda _entry: None, in_lane=False, plan=[])
    with activated(run), pytest.raises(PreflightError, match=told) as refused:
        action("look at shop", fail, about="look", preflight=True)
    assert "canary" not in str(refused.value)


def test_mistake_in_a_preflight_stays_one() -> None:
    run = ActiveRun(id=uuid4(), attempt=1, settings=load_settings(), record=lambda _entry: None, in_lane=False, plan=[])
    with activated(run), pytest.raises(ZeroDivisionError):
        action("look", lambda: 1 / 0, about="look", preflight=True)


def test_missing_programs_names_those_that_are_not_there() -> None:
    assert missing_programs("bash", "no-such-tool") == ["no-such-tool"]
