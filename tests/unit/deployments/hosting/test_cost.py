"""Costs: the guide's table adds up to what it says, and sums that do not add up are refused."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from deployments.hosting.cost import GUIDE, CostValues
from deployments.hosting.registry import TABLES
from deployments.hosting.values_file import build_values, read_hosting_file
from opsdb.errors import UsageError
from opsdb.settings import Settings


def built(path: Path) -> CostValues:
    file = read_hosting_file(path, Settings(), TABLES)
    return build_values(CostValues, "cost", file=file, assignments=[], settings=Settings())


def test_table_of_the_guide_adds_up_to_what_it_says() -> None:
    found = built(GUIDE)
    assert [item.sum for item in found.items] == [48, 15, 0, 0, 5, 0]
    assert (found.sum, found.saved, found.saved_percent) == (Decimal(68), Decimal(172), 72)


@pytest.mark.parametrize(
    ("line", "broken", "said"),
    [
        ("monthly = 15", "monthly = 16", "items 2: Ops workers: monthly is 16, but 3 x 5 = 15"),
        ("total = 68", "total = 67", "cost: total is 67, but the items add up to 68"),
        ("each = 48", "each = -1", "items 1 each: expected 0 or more (found -1)"),
        ("each = 48", "eahc = 48", "items 1 each: is missing"),
        ('component = "TLS"', 'compnent = "TLS"', "items 6 component: is missing"),
        ("compared_monthly = 240", "compared_monthly = 0", "expected more than 0"),
        ("total = 68", "totl = 68", "totl: unknown value. Hint: did you mean total?"),
    ],
)
def test_table_that_is_wrong_is_refused_with_its_place(tmp_path: Path, line: str, broken: str, said: str) -> None:
    path = tmp_path / "hosting.toml"
    assert line in GUIDE.read_text()
    path.write_text(GUIDE.read_text().replace(line, broken))
    with pytest.raises(UsageError) as refused:
        built(path)
    assert said in str(refused.value)


def test_prices_are_added_without_the_errors_of_binary_fractions() -> None:
    items = [{"component": "x", "service": "y", "count": 3, "each": "0.10"}]
    assert CostValues.model_validate({"items": items, "total": "0.30"}).sum == Decimal("0.30")
