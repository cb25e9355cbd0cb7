"""A form's schema is checked as by jsonschema, and in words."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from blocks.form_check import in_words

WORDS = "a name: small letters"
NAME = {"type": "string", "pattern": "^[a-z]+$", "not": {"enum": ["own"]}, "errorMessage": WORDS}
SCHEMA = {
    "properties": {"name": NAME, "names": {"type": "array", "items": NAME, "errorMessage": "several", "maxItems": 2}}
}


def messages(values: Any, schema: Any = SCHEMA) -> list[str]:
    return [error.message for error in in_words(Draft202012Validator)(schema).iter_errors(values)]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"name": "A b"}, [f"'A b' is not {WORDS}"]),
        ({"name": "own"}, [f"'own' is not {WORDS}"]),
        ({"names": ["a", "B"]}, [f"'B' is not {WORDS}"]),
        ({"name": 5}, ["5 is not of type 'string'"]),
        ({"names": ["a", "b", "c"]}, ["['a', 'b', 'c'] is too long"]),
        ({"name": "a", "names": ["b"]}, []),
    ],
)
def test_words_take_the_place_of_the_regular_expression_alone(values: Any, expected: list[str]) -> None:
    assert messages(values) == expected


def test_schema_without_words_is_checked_as_ever() -> None:
    assert messages({"a": "B"}, {"properties": {"a": {"pattern": "^b$"}}}) == ["'B' does not match '^b$'"]
    assert messages({"a": "B"}, {"properties": {"a": {"pattern": "^b$", "errorMessage": 5}}})
