"""What a person set stays, parameter by parameter."""

from __future__ import annotations

from typing import Any

import pytest

from deployments.server.merge import Merge

SETTING = "parameters of schedule nightly"
DATABASES = ["odoo_prod", "odoo_staging"]
THREE = [*DATABASES, "odoo_new"]


@pytest.mark.parametrize(
    ("declared", "last", "found", "settled", "kept"),
    [
        ({"databases": DATABASES}, {}, {}, {"databases": DATABASES}, []),
        ({"databases": DATABASES, "days": 30}, {}, {"days": 14}, {"databases": DATABASES, "days": 14}, ["days"]),
        ({"databases": DATABASES, "days": 60}, {"databases": DATABASES, "days": 30}, {"databases": THREE, "days": 30},
         {"databases": THREE, "days": 60}, ["databases"]),
        ({}, {"days": 30}, {"days": 30}, {}, []),
        ({}, {"days": 30}, {"days": 14}, {"days": 14}, ["days"]),
        ({"days": 30}, {"days": 30}, {}, {}, ["days"]),
        ({}, {}, {"target": "far"}, {"target": "far"}, ["target"]),
        ({}, {}, {"target": None, "backup_dir": None}, {}, []),
        ({"drill": False}, {"drill": False}, {"drill": True}, {"drill": True}, ["drill"]),
    ],
)  # fmt: skip
def test_each_parameter_follows_or_stays_by_itself(
    declared: dict[str, Any], last: dict[str, Any], found: dict[str, Any], settled: dict[str, Any], kept: list[str]
) -> None:
    merge = Merge("nightly_backup/nightly-backup", {SETTING: declared}, {SETTING: last})
    assert merge.settled_parameters(SETTING, found=found) == settled
    assert [one.setting for one in merge.kept] == [f"parameter {name} of schedule nightly" for name in kept]


def test_what_was_never_applied_here_stays_and_is_named() -> None:
    merge = Merge("d", {SETTING: {"days": 60}}, {})
    assert merge.settled_parameters(SETTING, found={"days": 14}) == {"days": 14}
    assert "parameter days of schedule nightly is 14, the file says 60" in str(merge.kept[0])


def test_reset_is_what_the_file_says() -> None:
    merge = Merge("d", {SETTING: {"days": 60}}, {}, reset=True)
    assert merge.settled_parameters(SETTING, found={"days": 14, "target": "far"}) == {"days": 60}
    assert merge.kept == []


@pytest.mark.parametrize(
    ("last", "found", "settled", "kept"),
    [
        # the schedule said nothing, so what somebody set on the deployment held: it goes on holding
        ({}, {}, {"databases": THREE, "days": 30}, ["databases"]),
        ({"databases": DATABASES}, {"databases": DATABASES}, {"databases": DATABASES, "days": 30}, []),
        ({}, {"databases": ["odoo_prod"]}, {"databases": ["odoo_prod"], "days": 30}, ["databases"]),
    ],
)
def test_what_the_file_begins_to_say_hides_nothing_that_somebody_set_beneath(
    last: dict[str, Any], found: dict[str, Any], settled: dict[str, Any], kept: list[str]
) -> None:
    declared = {"databases": DATABASES, "days": 30}
    merge = Merge("d", {SETTING: declared, "parameters": {"host": "new"}}, {SETTING: last, "parameters": {"host": "a"}})
    own = merge.set_by_hand("parameters", found={"databases": THREE, "host": "a", "target": None})
    assert own == {"databases": THREE}
    assert merge.settled_parameters(SETTING, found=found, beneath=own) == settled
    assert [one.setting for one in merge.kept] == [f"parameter {name} of schedule nightly" for name in kept]
