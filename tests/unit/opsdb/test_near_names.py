"""Names that were mistyped."""

from __future__ import annotations

import pytest

from opsdb.near_names import did_you_mean, near_name

KNOWN = ["odoo_prod", "odoo_staging", "Europe/Rome"]


@pytest.mark.parametrize(
    ("typed", "near"),
    [
        ("odoo_prd", "odoo_prod"),
        ("ODOO_PROD", "odoo_prod"),
        ("europe/rom", "Europe/Rome"),
        ("x", None),
        ("", None),
    ],
)
def test_nearest_name_is_what_was_meant_whatever_its_case(typed: str, near: str | None) -> None:
    assert near_name(typed, KNOWN) == near
    assert did_you_mean(typed, KNOWN) == (f" Did you mean {near}?" if near else "")


def test_name_of_somebody_else_is_safe_to_show() -> None:
    assert did_you_mean("prod", ["prod\x1b[31m"]) == r" Did you mean prod\x1b[31m?"
    assert did_you_mean("prod", []) == ""
