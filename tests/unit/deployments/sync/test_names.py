from __future__ import annotations

import pytest
from prefect.utilities.names import generate_slug

from deployments.sync.names import is_made_up


def test_names_that_prefect_makes_up_are_known() -> None:
    assert [name for name in (generate_slug(2) for _ in range(2000)) if not is_made_up(name)] == []


@pytest.mark.parametrize("name", ["Awesome-Ajiaco", "Handmade-Ceviche"[:15]])
def test_names_that_the_form_makes_up_are_known(name: str) -> None:
    assert is_made_up(name)


@pytest.mark.parametrize(
    "name",
    [
        "odoo_prod · backup",
        "nightly-prod",
        "brave-lion-2",
        "before-upgrade",
        "Small-change",
        "Awesome-Restoration",
        "brave",
        "-lion",
        "",
        "Brave-lion",
    ],
)
def test_name_that_somebody_thought_of_is_none_of_them(name: str) -> None:
    assert not is_made_up(name)
