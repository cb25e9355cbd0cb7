"""The form of a runbook names what exists, and keeps what it named while that is not known."""

from __future__ import annotations

from typing import Any

import pytest

from blocks.form_words import Offer
from deployments.server.form import NAMED, form_of

SCHEMA = {
    "type": "object",
    "properties": {
        "odoo_db": {"type": "string", "x-offers": "databases", "description": "Database.", "position": 0},
        "target": {"type": "string", "default": "", "position": 1},
        "roles": {"type": "object", "default": {}, "position": 2},
        "days": {"type": "integer", "default": 0, "position": 3},
        "drill": {"type": "boolean", "default": False, "position": 4},
    },
    "required": ["odoo_db"],
}


def fields(databases: list[str] | None, before: Any = None) -> dict[str, Any]:
    offers = {} if databases is None else {Offer.DATABASES: databases}
    return dict(form_of(SCHEMA, offers, before)["properties"])


def test_databases_that_exist_are_examples_and_no_choice() -> None:
    field = fields(["a", "b"])["odoo_db"]
    assert field["description"] == "Database. On the server now: a, b."
    assert field["examples"] == ["a", "b"]
    assert {"enum", "x-offers"} & set(field) == set()


@pytest.mark.parametrize("databases", [[], None])
def test_form_without_databases_says_nothing_of_them(databases: list[str] | None) -> None:
    none_yet: dict[str, list[str]] = {} if databases is None else {"examples": []}
    assert fields(databases)["odoo_db"] == {"type": "string", "description": "Database.", "position": 0} | none_yet


def test_form_goes_on_naming_what_it_named_while_the_server_is_away() -> None:
    before = form_of(SCHEMA, {Offer.DATABASES: ["a"]}, None)
    assert form_of(SCHEMA, {}, before) == before
    assert form_of(SCHEMA, {Offer.DATABASES: []}, before) != before


def test_many_databases_are_counted() -> None:
    described = fields([f"d{n:03}" for n in range(NAMED + 5)])["odoo_db"]["description"]
    assert described.endswith(f"d{NAMED - 1:03} and 5 more.")


def test_empty_default_is_left_out_so_that_a_null_is_taken() -> None:
    made = fields(None)
    assert "default" not in made["target"]
    assert "default" not in made["roles"]
    assert (made["days"]["default"], made["drill"]["default"]) == (0, False)


def test_schema_that_it_was_made_from_stays_as_it_is() -> None:
    fields(["a"])
    assert SCHEMA["properties"]["odoo_db"]["x-offers"] == "databases"  # type: ignore[index]
