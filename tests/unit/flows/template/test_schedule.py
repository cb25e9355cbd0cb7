"""The schedule of a template: what it may say, and what is refused before it is deployed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cli.deploy import template_deployments
from deployments.server.declared import TEMPLATE_SCHEDULE, declared_deployments
from flows.template.catalogue import CataloguedTemplate, read_whole
from flows.template.reading import read_template
from opsdb.kinds.template_files import TemplateError, problems_of
from opsdb.tables import Lane

STEPS = [{"name": "one", "command": 'df "$PARAM_FOLDER"; echo ${params.times}', "timeout": 5}]
PARAMS = {"folder": {}, "times": {"type": "integer", "default": 3}, "token": {"secret": {"env": "TOKEN"}}}
GOOD = {"at": "03:30", "parameters": {"folder": "/tmp"}}


def write(folder: Path, schedule: Any, **fields: Any) -> Path:
    path = folder / "t.json"
    content = {"kind": "t", "lane": "B", "params": PARAMS, "steps": STEPS, "schedule": schedule, **fields}
    path.write_text(json.dumps(content))
    return path


def errors(path: Path) -> list[str]:
    with pytest.raises(TemplateError) as raised:
        read_whole(path)
    return [line.removeprefix(f"{path}: ") for line in problems_of(raised.value)]


def declared(folder: Path, path: Path) -> Any:
    """The deployment that a template asks for, as `ops deploy` has it."""
    (folder / "prefect.yaml").write_text("deployments: []")
    found = template_deployments([CataloguedTemplate(path, "t", read_whole(path), None)])
    [one] = declared_deployments(folder / "prefect.yaml", found)
    return one


def test_schedule_becomes_one_of_its_deployment(tmp_path: Path) -> None:
    schedule = GOOD | {
        "days": "weekdays",
        "timezone": "Asia/Manila",
        "catch_up": "once within 4h",
        "blackouts": ["Fri 18:00 to Mon 06:00"],
        "active": False,
    }
    one = declared(tmp_path, write(tmp_path, schedule))
    assert one.work_pool.name == Lane.B.pool
    [entry] = one.schedules
    assert (entry.slug, entry.active, entry.parameters) == (TEMPLATE_SCHEDULE, False, {"folder": "/tmp", "times": 3})
    assert (entry.schedule.cron, entry.schedule.timezone) == ("30 3 * * 1-5", "Asia/Manila")
    rules = one.schedule_rules[TEMPLATE_SCHEDULE].said
    assert (str(rules.catch_up), [str(window) for window in rules.blackouts]) == (
        "once within 4h",
        ["Fri 18:00 to Mon 06:00"],
    )


def test_what_a_schedule_leaves_out_is_the_default(tmp_path: Path) -> None:
    one = declared(tmp_path, write(tmp_path, GOOD))
    assert one.schedules[0].active  # a pause that somebody sets stays all the same: `ops deploy` knows what it applied
    assert one.schedules[0].schedule.timezone == "UTC"
    assert one.schedule_rules[TEMPLATE_SCHEDULE].said.catch_up is None


def test_template_without_a_schedule_asks_for_none(tmp_path: Path) -> None:
    one = declared(tmp_path, write(tmp_path, None))
    assert (one.schedules, one.schedule_rules) == ([], {})


def test_another_schedule_makes_no_other_version(tmp_path: Path) -> None:
    # approvals and steps that succeeded stand: a version is what a template does
    versions = {
        read_template(write(tmp_path, each)).template.definition for each in (None, GOOD, GOOD | {"at": "4:00"})
    }
    assert len(versions) == 1


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        ({}, "schedule: expected either `at` or `cron`"),
        (GOOD | {"cron": "0 2 * * *"}, "schedule: expected either `at` or `cron`"),
        (GOOD | {"at": "25:30"}, "schedule: at: '25:30' is not a time of the day"),
        (GOOD | {"days": "moonday"}, "schedule: days: 'moonday' names no days"),
        ({"cron": "* * * * * *", "parameters": {"folder": "x"}}, "schedule: cron: '* * * * * *' is not a cron"),
        (GOOD | {"blackouts": ["2026-12-24 to 9999-12-31"]}, "schedule: blackouts: 0: '2026-12-24 to 9999"),
        ({"cron": "0 2 * *", "parameters": {"folder": "x"}}, "schedule: cron: '0 2 * *' is not a cron"),
        (
            {"cron": "0 0 30 2 *", "parameters": {"folder": "x"}},
            "schedule: cron: cron '0 0 30 2 *' never fires",
        ),
        (
            {"cron": "0 2 * * *", "days": "sun", "parameters": {"folder": "x"}},
            "schedule: `days` belongs to `at`",
        ),
        (GOOD | {"timezone": "Manila"}, "schedule: timezone: 'Manila' is not a time zone. Did you mean Asia/Manila?"),
        (GOOD | {"catch_up": "twice"}, "schedule: catch_up: 'twice' is not a catch-up rule"),
        (GOOD | {"blackouts": ["Fri"]}, "schedule: blackouts: 0: 'Fri' is not a blackout"),
        (GOOD | {"catchup": "all"}, "schedule: catchup: no such field. Did you mean catch_up?"),
        ({"at": "03:30"}, "schedule: parameters: folder must be given"),
        (GOOD | {"parameters": {"folder": "x", "times": "y"}}, "schedule: parameters: times: expected a whole number"),
        (GOOD | {"parameters": {"folder": "-x"}}, "schedule: parameters: folder: '-x' is not one line"),
        (GOOD | {"parameters": {"folder": "x", "more": 1}}, "schedule: parameters: more: is not a parameter of the t"),
        (GOOD | {"parameters": {"folder": "x", "token": "s"}}, "schedule: parameters: token: is secret"),
    ],
    ids=str,
)
def test_schedule_that_is_not_right_is_refused_with_its_field(tmp_path: Path, schedule: Any, said: str) -> None:
    lines = errors(write(tmp_path, schedule))
    assert any(line.startswith(said) for line in lines), lines


def test_schedule_wants_a_lane(tmp_path: Path) -> None:
    assert errors(write(tmp_path, GOOD, lane=None)) == ["schedule: needs `lane`, the lane in which it runs"]
