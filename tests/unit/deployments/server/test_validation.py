"""Prefect's own checks, in the process of its server, answer with the words of a form."""

from __future__ import annotations

import pytest
from prefect.utilities.schema_tools import validation

from deployments.server.validation import speak_in_words

NAME = {"type": "string", "pattern": "^[a-z]+$", "errorMessage": "a name: small letters"}
SCHEMA = {"type": "object", "properties": {"name": NAME, "other": NAME}, "required": ["name"]}


@pytest.fixture(autouse=True)
def _speaking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "_VALIDATOR", validation._VALIDATOR)
    speak_in_words()


def test_a_run_that_is_refused_hears_why() -> None:
    with pytest.raises(validation.ValidationError, match=r"'A b' is not a name: small letters") as refused:
        validation.validate({"name": "A b"}, SCHEMA, raise_on_error=True)
    assert "^[a-z]" not in str(refused.value)


def test_the_field_of_a_form_hears_why() -> None:
    answer = validation.build_error_obj(validation.validate({"name": "A b"}, SCHEMA))
    assert answer["errors"] == [{"property": "name", "errors": ["'A b' is not a name: small letters"]}]


@pytest.mark.parametrize("values", [{"name": "a"}, {"name": "a", "other": None}])
def test_what_is_right_is_right_and_a_null_without_a_default_is_not_given(values: dict[str, str | None]) -> None:
    assert validation.is_valid(values, SCHEMA)
