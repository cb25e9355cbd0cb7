from __future__ import annotations

import shlex
from typing import Any

import pytest
from prefect.utilities.callables import parameter_schema

from cli.run.params import parameters, split_assignments
from flows.nightly_backup import nightly_backup
from opsdb.schedules.by_hand import run_command
from opsdb.tables import Lane


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"databases": ["odoo_prod"], "retention_days": 30, "restore_drill": False},
        {
            "databases": ["shop-1", "shop.2"],
            "retention_days": 7,
            "restore_drill": True,
            "backup_dir": "/mnt/@backups,~new",
            "target": "spaces",
        },
    ],
)
def test_command_by_hand_starts_the_same(given: dict[str, Any]) -> None:
    ops, command, kind, *options = shlex.split(run_command("nightly_backup", Lane.A, given))
    assert (ops, command, kind) == ("ops", "run", "nightly_backup")
    assert set(options[::2]) <= {"-p"}
    schema = parameter_schema(nightly_backup.fn).model_dump_for_openapi()
    assert parameters(split_assignments(options[1::2]), schema=schema, defaults={}) == given


@pytest.mark.parametrize("value", ["a b'c", "", ["a,b", "c"], ["[x"], [" a"], [], {"a": [1, None]}, 1.5, [1, 2]])
def test_values_are_spelled_as_run_reads_them(value: Any) -> None:
    kind = {str: "string", list: "array", dict: "object", float: "number"}[type(value)]
    items = {"items": {"type": "integer" if value == [1, 2] else "string"}} if kind == "array" else {}
    words = shlex.split(run_command("k", Lane.A, {"x": value}))
    schema = {"properties": {"x": {"type": kind, **items}}}
    assert parameters(split_assignments(words[4:]), schema=schema, defaults={}) == {"x": value}


def test_lane_is_named_when_it_is_not_the_first() -> None:
    assert run_command("disk_space", Lane.B, {"folder": None}) == "ops run disk_space --lane B"
