"""How schedules are shown to people."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from unittest.mock import MagicMock
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from rich.console import Console

from cli.schedules import view
from cli.schedules.room import Schedules
from deployments.server.declared import DeclaredDeployment
from deployments.server.schedules import RunbookSchedule
from opsdb.schedules.blackouts import read_blackout
from opsdb.schedules.store import KnownRules, Said

NOW = datetime(2026, 12, 4, 12, tzinfo=UTC)  # a Friday


def made(name: str, cron: str, zone: str = "UTC", *, active: bool = True, paused: bool = False) -> RunbookSchedule:
    deployment = DeploymentResponse(id=uuid4(), name=name, flow_id=uuid4(), labels={}, paused=paused)
    entry = DeploymentSchedule(
        id=uuid4(), slug="s", active=active, schedule=CronSchedule(cron=cron, timezone=zone), parameters={}
    )
    return RunbookSchedule(name=name, aliases=(), kind="k", deployment=deployment, entry=entry)


def schedules(*all_: RunbookSchedule, rules: KnownRules | None = None) -> Schedules:
    declared = [
        DeclaredDeployment.model_validate(
            {
                "name": one.deployment.name,
                "entrypoint": "x.k",
                "tags": ["runbook"],
                "work_pool": {"name": "lane-a", "work_queue_name": "default"},
                "schedules": [{"slug": "s", "cron": "0 2 * * *"}],
            }
        )
        for one in all_
    ]
    return Schedules(
        client=MagicMock(),
        now=NOW,
        all=list(all_),
        rules={one.id: rules or KnownRules() for one in all_},
        declared=declared,
        last={},
        statuses={},
    )


def shown(found: Schedules, monkeypatch: pytest.MonkeyPatch, *, days: int = 3, width: int = 80) -> list[str]:
    console = Console(width=width, record=True, force_terminal=False)
    monkeypatch.setattr(view, "show", lambda one: console.print(one, crop=False))
    monkeypatch.setattr(view, "say", lambda line, **_: console.print(line, markup=False, soft_wrap=True))
    view.print_schedules([view.document(one, found, days=days) for one in found.all], days=days, now=NOW)
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_days_to_come_show_each_time_and_count_what_comes_often(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(schedules(made("night", "0 2 * * *"), made("often", "*/10 * * * *")), monkeypatch, days=1)
    days = lines[lines.index("next day        due") + 1 :]
    assert days == [
        "Fri 2026-12-04  often, 72 times, 12:00 to 23:50",
        "Sat 2026-12-05  often, 73 times, 00:00 to 12:00",
        "                02:00 night",
    ]


def test_time_is_that_of_the_schedules_zone_and_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(schedules(made("night", "30 3 * * *", "Asia/Manila")), monkeypatch)
    assert lines[0].split() == ["schedule", "when", "next", "(UTC)", "last", "run"]
    assert " ".join(lines[1].split()) == "night daily 03:30 Asia/Manila Sat 12-05 03:30 Fri 12-04 19:30 never"
    assert lines[2] == "  state active"
    assert "Sat 2026-12-05  03:30 Asia/Manila night" in lines


def test_blackout_is_named_where_it_keeps_something_back_and_next_is_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = KnownRules(person=Said(blackouts=(read_blackout("Fri 18:00 to Mon 06:00"),)))
    lines = shown(schedules(made("night", "0 2 * * *"), rules=rules), monkeypatch, width=100)
    assert "Tue 12-08 02:00 UTC" in lines[1]
    assert "Sat 2026-12-05  02:00 night; blackout Fri 18:00 to Mon 06:00, starts nothing" in lines
    assert "night: blackouts: Fri 18:00 to Mon 06:00" in lines


@pytest.mark.parametrize(
    ("columns", "state"), [({"active": False}, "paused"), ({"paused": True}, "deployment paused"), ({}, "active")]
)
def test_paused_schedule_has_no_days_to_come(
    columns: dict[str, Any], state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = shown(schedules(made("night", "0 2 * * *", **columns)), monkeypatch)
    assert state in " ".join(lines[1:3])
    assert any("02:00 night" in line for line in lines) is (state == "active")


def test_schedule_that_is_never_due_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n".join(shown(schedules(made("night", "0 0 30 2 *")), monkeypatch))
    assert "night: cron '0 0 30 2 *' never fires: there is no such day. Hint: " in text
    assert "Correct it with `ops schedule set night" in text


def test_what_differs_from_the_file_is_said_with_the_command_that_restores_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = schedules(made("night", "0 3 * * *", active=False))
    lines = [line for line in shown(found, monkeypatch) if "declared" in line]
    assert lines == [
        "night: differs: declared daily 02:00 UTC",
        "night: differs: declared active",
        "night: `ops schedule reset night` restores what is declared",
    ]


@pytest.mark.parametrize("width", [80, 120])
def test_table_keeps_names_whole(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(schedules(made("weekly-restore-drill", "0 5 * * 0", "America/New_York")), monkeypatch, width=width)
    table = lines[: next(number for number, line in enumerate(lines) if "catch-up" in line)]
    assert any(line.startswith("weekly-restore-drill ") for line in table)
    assert all(len(line) <= width for line in table)
