"""What prefect.yaml may say of schedules, to the room and to Prefect alike."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.cli.deploy._config import _load_deploy_configs_and_actions
from rich.console import Console

from deployments.server.apply import settings_of
from deployments.server.declared import _importable, declared_deployments
from opsdb.errors import OpsError
from opsdb.kinds.kinds import registered_deployments
from opsdb.schedules.catch_up import read_catch_up

ROOT = Path(__file__).parents[4]
ENTRY: dict[str, Any] = {
    "name": "nightly",
    "entrypoint": "flows.stored_command.stored_command",
    "tags": ["runbook"],
    "work_pool": {"name": "lane-a", "work_queue_name": "default"},
    "schedules": [{"slug": "night", "cron": "0 2 * * *"}],
}


def write(folder: Path, **fields: Any) -> Path:
    file = folder / "prefect.yaml"
    file.write_text(yaml.safe_dump({"deployments": [{**ENTRY, **fields}]}))
    return file


def test_rules_of_schedules_are_read(tmp_path: Path) -> None:
    rules = {"night": {"catch_up": "once within 4h", "blackouts": ["Fri 18:00 to Mon 06:00"]}}
    [one] = declared_deployments(write(tmp_path, schedule_rules=rules), [])
    said = one.schedule_rules["night"].said
    assert said.catch_up == read_catch_up("once within 4h")
    assert [str(window) for window in said.blackouts or ()] == ["Fri 18:00 to Mon 06:00"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"schedule_rules": {"nigt": {"catch_up": "all"}}},
            "schedule_rules: nigt is the slug of no schedule here: night",
        ),
        ({"schedule_rules": {"night": {"catch_up": "twice"}}}, "schedule_rules.night: 'twice' is not a catch-up rule"),
        ({"schedule_rules": {"night": {"blackouts": ["x"]}}}, "schedule_rules.night: 'x' is not a blackout"),
        ({"schedule_rules": {"night": {"blackout": []}}}, "schedule_rules.night.blackout: is unknown"),
        (
            {"schedules": [{"slug": "n", "cron": "0 0 30 2 *"}]},
            "schedules.0: n: cron '0 0 30 2 *' never fires",
        ),
    ],
    ids=str,
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(OpsError, match=r"prefect\.yaml could not be applied: deployments") as raised:
        declared_deployments(write(tmp_path, **fields), [])
    assert said in str(raised.value)


def test_own_file_has_rules_and_prefect_reads_it_nevertheless() -> None:
    """`prefect deploy --all` takes none of a file in which one entry has a field that it does not know."""
    declared = declared_deployments(ROOT / "prefect.yaml", [])
    assert {name for one in declared for name in one.schedule_rules} == {"nightly", "weekly"}
    console = Console(record=True, force_terminal=False)
    configs, _ = _load_deploy_configs_and_actions(ROOT / "prefect.yaml", console=console)
    assert console.export_text() == ""
    assert [(one["name"], one["entrypoint"]) for one in configs] == [(one.name, one.entrypoint) for one in declared]


def test_prefect_takes_no_rule_in_the_entry_of_a_schedule(tmp_path: Path) -> None:
    # why `schedule_rules` stands beside `schedules`
    file = write(tmp_path, schedules=[{"slug": "night", "cron": "0 2 * * *", "catch_up": "all"}])
    configs, _ = _load_deploy_configs_and_actions(file, console=Console(record=True, force_terminal=False))
    assert configs == []


@pytest.mark.parametrize(
    ("name", "now"), [("lane-a", "stored_command-lane-a"), ("lane-e", "lane-e"), ("nightly", "nightly")]
)
def test_entry_with_a_name_of_before_has_the_one_of_now(tmp_path: Path, name: str, now: str) -> None:
    file = write(tmp_path, name=name)
    assert [one.full_name for one in declared_deployments(file, [])] == [f"stored_command/{now}"]
    assert list(registered_deployments(file)) == [f"stored_command/{now}"]


def test_names_of_the_rooms_own_deployments_are_unique_and_say_kind_and_lane() -> None:
    declared = declared_deployments(ROOT / "prefect.yaml", [])
    names = [one.name for one in declared]
    assert len(set(names)) == len(names)
    for one in declared:
        assert one.work_pool.name in one.tags
        assert len(one.tags) == 3
        assert re.fullmatch(r"[a-z0-9_-]+", one.name)
        assert one.schedules or one.name == f"{one.kind}-{one.work_pool.name}"


def test_file_beside_prefect_yaml_shadows_no_module(tmp_path: Path) -> None:
    """The worker looks there last, too: what is checked is what is executed."""
    before = list(sys.path)
    (tmp_path / "this.py").write_text("raise RuntimeError('shadowed')")
    with _importable(tmp_path):
        found = importlib.util.find_spec("this")
        assert sys.path[: len(before)] == before
    assert found is not None
    assert found.origin != str(tmp_path / "this.py")
    assert sys.path == before


def test_null_counts_as_not_given(tmp_path: Path) -> None:
    schedule = {**ENTRY["schedules"][0], "parameters": {"a": None, "b": False}}
    [one] = declared_deployments(write(tmp_path, parameters={"c": None, "d": 0}, schedules=[schedule]), [])
    assert settings_of(one)["parameters"] == one.parameters == {"d": 0}
    assert settings_of(one)["parameters of schedule night"] == one.schedules[0].parameters == {"b": False}
