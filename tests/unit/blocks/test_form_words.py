"""Texts that are explained in words, and optional ones that are plain fields."""

from __future__ import annotations

import unicodedata
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from blocks.form_words import SHOWN, InWords, Offer, Offers, OrEmpty, refusal


def _not_own(name: str) -> str:
    if name == "own":
        raise ValueError("own is taken")
    return name


Name = Annotated[
    str, Field(pattern="^[a-z]+$", max_length=9), AfterValidator(_not_own), InWords("a name: small letters")
]
MaybeName = Annotated[Name, OrEmpty()]
TheirName = Annotated[Name, Offers(Offer.DATABASES)]


def says(kind: Any, value: Any) -> str:
    with pytest.raises(ValidationError) as raised:
        TypeAdapter(kind).validate_python(value)
    [error] = raised.value.errors()
    return str(error["msg"]).removeprefix("Value error, ")


@pytest.mark.parametrize("kind", [Name, MaybeName])
@pytest.mark.parametrize("value", ["A b", "abcdefghij", 5])
def test_wrong_text_is_explained_in_words(kind: Any, value: Any) -> None:
    assert says(kind, value) == f"'{value}' is not a name: small letters"


def test_rule_that_says_itself_what_is_wrong_keeps_its_words() -> None:
    assert says(Name, "own") == "own is taken"


@pytest.mark.parametrize("value", ["", None])
def test_optional_text_is_empty_and_so_is_the_null_of_earlier_runs(value: Any) -> None:
    assert TypeAdapter(MaybeName).validate_python(value) == ""
    assert "is not a name" in says(Name, value)


def test_schema_is_one_plain_field_with_its_words() -> None:
    schema = TypeAdapter(MaybeName).json_schema()
    assert schema == {
        "type": "string",
        "pattern": "^$|^[a-z]+$",
        "maxLength": 9,
        "errorMessage": "a name: small letters",
    }
    assert TypeAdapter(TheirName).json_schema()["x-offers"] == "databases"


@given(st.text(max_size=300))
def test_refusal_is_one_short_line_whatever_was_typed(value: str) -> None:
    line = refusal(value, "a name")
    assert "\n" not in line
    assert not any(unicodedata.category(character).startswith("C") for character in line)
    assert len(line) <= SHOWN + len("'' is not a name")
