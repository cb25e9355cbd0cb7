"""What `ops schedule set` makes of a schedule, and what it refuses."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.utilities.callables import parameter_schema

from cli.schedules.wanted import Wish, wanted_blackouts, wanted_catch_up, wanted_parameters, wanted_schedule
from deployments.server.schedules import RunbookSchedule, find_schedule, when_and_where
from flows.nightly_backup import nightly_backup
from opsdb.errors import UsageError
from opsdb.schedules.blackouts import read_blackout
from opsdb.schedules.catch_up import DEFAULT
from opsdb.schedules.times import Schedule
from opsdb.settings import Settings

DAILY = CronSchedule(cron="0 2 * * *", timezone="UTC")
SUNDAYS = CronSchedule(cron="0 5 * * 0", timezone="Europe/Rome")
MONTHLY = CronSchedule(cron="0 5 1 * *", timezone="UTC")
HOURS = IntervalSchedule(interval=timedelta(hours=6), timezone="UTC")
NOW = datetime.fromisoformat("2026-12-01T00:00")


def nightly(**own: Any) -> RunbookSchedule:
    """The schedule of the nightly backup, with these parameters of its own."""
    deployment = DeploymentResponse(
        id=uuid4(),
        name="nightly-backup",
        flow_id=uuid4(),
        labels={},
        parameter_openapi_schema=parameter_schema(nightly_backup.fn).model_dump_for_openapi(),
    )
    entry = DeploymentSchedule(id=uuid4(), schedule=DAILY, parameters=own)
    return RunbookSchedule(name="nightly-backup", aliases=(), kind="nightly_backup", deployment=deployment, entry=entry)


@pytest.mark.parametrize(
    ("current", "wish", "after"),
    [
        (DAILY, Wish(at="03:30", tz="Asia/Manila"), "daily 03:30 Asia/Manila"),
        (DAILY, Wish(tz="Asia/Manila"), "daily 02:00 Asia/Manila"),
        (DAILY, Wish(on="weekdays"), "weekdays 02:00 UTC"),
        (SUNDAYS, Wish(at="3:30"), "Sundays 03:30 Europe/Rome"),
        (SUNDAYS, Wish(on="daily"), "daily 05:00 Europe/Rome"),
        (MONTHLY, Wish(at="3:30"), "monthly on day 1, 03:30 UTC"),
        (HOURS, Wish(at="3:30"), "daily 03:30 UTC"),
        (HOURS, Wish(at="3:30", on="sun,wed"), "Sun, Wed 03:30 UTC"),
        (HOURS, Wish(pause=True), "every 6 h UTC"),
        (DAILY, Wish(cron="*/10 * * * *"), "every 10 minutes UTC"),
    ],
)
def test_what_is_not_named_stays(current: Schedule, wish: Wish, after: str) -> None:
    assert when_and_where(wanted_schedule(current, wish)) == after


@pytest.mark.parametrize(
    ("current", "wish", "said"),
    [
        (DAILY, Wish(at="25:00"), "--at: '25:00' is not a time of the day"),
        (DAILY, Wish(on="moonday"), "--on: 'moonday' names no days"),
        (DAILY, Wish(tz="Manila"), "--tz: 'Manila' is not a time zone. Did you mean Asia/Manila?"),
        (DAILY, Wish(cron="0 0 30 2 *"), "--cron: cron '0 0 30 2 *' never fires: there is no such day"),
        (DAILY, Wish(cron="* * * * * *"), "--cron: '* * * * * *' is not a cron: expected five fields"),
        (DAILY, Wish(cron="nonsense"), "--cron: 'nonsense' is not a cron: expected five fields"),
        (DAILY, Wish(cron="0 2 * * *", at="03:30"), "--cron: names time and days itself"),
        (HOURS, Wish(on="sun"), "--on: the schedule has no time of the day: give it with --at"),
        (MONTHLY, Wish(on="sun"), "--on: the schedule names days of months, too"),
    ],
)
def test_what_is_no_schedule_is_refused_with_its_option(current: Schedule, wish: Wish, said: str) -> None:
    with pytest.raises(UsageError) as raised:
        wanted_schedule(current, wish)
    assert str(raised.value).startswith(said)


@pytest.mark.parametrize(
    ("own", "wish", "after"),
    [
        ({}, Wish(add_db=["odoo_test"]), {"databases": ["odoo_prod", "odoo_staging", "odoo_test"]}),
        ({"databases": ["a"]}, Wish(add_db=["b"], remove_db=["a"]), {"databases": ["b"]}),
        ({"databases": ["a"]}, Wish(params=["retention_days=7"]), {"databases": ["a"], "retention_days": 7}),
        ({"databases": ["a"]}, Wish(at="3:30"), {"databases": ["a"]}),
        ({}, Wish(params=["databases=a,b"]), {"databases": ["a", "b"]}),
        ({"target": None}, Wish(add_db=["a"]), {"databases": ["odoo_prod", "odoo_staging", "a"]}),
    ],
)
def test_parameters_are_changed_beside_the_others(
    tmp_path: Path, own: dict[str, Any], wish: Wish, after: dict[str, Any]
) -> None:
    assert wanted_parameters(Settings(home=tmp_path), nightly(**own), wish) == after


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (Wish(add_db=["odoo_prod"]), "--add-db 'odoo_prod': is among them already: odoo_prod, odoo_staging"),
        (Wish(add_db=["postgres"]), "parameter databases[2]: 'postgres' is not an Odoo database's name"),
        (Wish(add_db=["x;y"]), "parameter databases[2]: 'x;y' is not an Odoo database's name"),
        (Wish(remove_db=["odoo_prd"]), "--remove-db 'odoo_prd': is not among them. Did you mean odoo_prod?"),
        (Wish(remove_db=["odoo_prod", "odoo_staging"]), "--remove-db: none would be left. To start nothing: `--pause`"),
        (Wish(add_db=["a"], params=["databases=b"]), "-p databases: says all databases"),
        (Wish(params=["retention_days=0"]), "parameter retention_days: "),
        (Wish(params=["colour=red"]), "parameter 'colour' is unknown"),
        (Wish(params=["colour"]), "-p 'colour': expected key=value"),
    ],
)
def test_parameters_that_the_runbook_refuses_are_refused_at_once(tmp_path: Path, wish: Wish, said: str) -> None:
    with pytest.raises(UsageError) as raised:
        wanted_parameters(Settings(home=tmp_path), nightly(), wish)
    assert str(raised.value).startswith(said)


def test_windows_are_added_and_taken_away() -> None:
    weekend, nights = read_blackout("Fri 18:00 to Mon 06:00"), read_blackout("daily 22:00 to 06:00")
    over = read_blackout("2026-11-01 to 2026-11-02")
    assert wanted_blackouts([weekend], Wish(add_blackouts=["daily 22:00 to 6:00"]), NOW) == (weekend, nights)
    assert wanted_blackouts([weekend], Wish(remove_blackouts=["fri 18:00 to mon 6:00"]), NOW) == ()
    assert wanted_blackouts([weekend], Wish(add_blackouts=["Fri 18:00 to Mon 06:00"]), NOW) == (weekend,)
    assert wanted_blackouts([over, weekend], Wish(add_blackouts=["daily 22:00 to 6:00"]), NOW) == (weekend, nights)
    assert wanted_blackouts([over, weekend], Wish(), NOW) == (over, weekend)


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (Wish(add_blackouts=["Fri"]), "--blackout: 'Fri' is not a blackout: expected"),
        (Wish(add_blackouts=["2026-11-01 to 2026-11-02"]), "--blackout '2026-11-01 to 2026-11-02': is over already"),
        (
            Wish(remove_blackouts=["daily 08:00 to 09:00"]),
            "--remove-blackout 'daily 08:00 to 09:00': is not among them",
        ),
    ],
)
def test_windows_that_make_no_sense_are_refused(wish: Wish, said: str) -> None:
    with pytest.raises(UsageError) as raised:
        wanted_blackouts([], wish, NOW)
    assert str(raised.value).startswith(said)


def test_catch_up_rule_is_read() -> None:
    assert wanted_catch_up(DEFAULT, Wish()) == DEFAULT
    assert str(wanted_catch_up(DEFAULT, Wish(catch_up="ALL"))) == "all"
    with pytest.raises(UsageError, match=r"--catch-up: '' is not a catch-up rule"):
        wanted_catch_up(DEFAULT, Wish(catch_up=""))


def test_unknown_schedule_names_the_nearest_and_all() -> None:
    with pytest.raises(UsageError, match=r"no schedule 'nightly'. Did you mean nightly-backup\? There are: nightly-"):
        find_schedule([nightly()], "nightly")
