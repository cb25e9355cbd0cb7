"""What a model refuses is said in the words of operators, and in none of pydantic's."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from opsdb.refusals import refusal
from opsdb.settings import Settings


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str


def own_rule(text: str) -> str:
    raise ValueError("expected a host name")


@pytest.mark.parametrize(
    ("accepts", "value", "said"),
    [
        (int, "x", "expected a whole number"),
        (int, 1.5, "expected a whole number"),
        (float, "x", "expected a number"),
        (Decimal, "x", "expected a number"),
        (bool, "perhaps", "expected true or false"),
        (str, 5, "expected a text"),
        (Path, 5, "expected a path"),
        (tuple[str, ...], 5, "expected a list"),
        (dict[str, str], 5, "expected names with values"),
        (Annotated[int, Field(ge=0)], -1, "expected 0 or more"),
        (Annotated[float, Field(gt=0)], 0, "expected more than 0"),
        (Annotated[float, Field(le=10)], 11, "expected 10 at most"),
        (Annotated[str, Field(min_length=2)], "a", "expected a length of 2 or more"),
        (Annotated[str, Field(max_length=2)], "abc", "expected a length of 2 at most"),
        (Annotated[str, Field(pattern="^a$")], "b", "expected a text that matches ^a$"),
        (Literal["a", "b"], "c", "expected 'a' or 'b'"),
        (Annotated[Decimal, Field(decimal_places=2)], Decimal("1.234"), "expected 2 decimal places at most"),
        (Annotated[str, AfterValidator(own_rule)], "x", "expected a host name"),
        (Model, {}, "is missing"),
        (Model, {"name": "a", "nmae": "b"}, "is unknown"),
    ],
)
def test_refusal_says_what_is_expected(accepts: Any, value: object, said: str) -> None:
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(accepts).validate_python(value)
    assert [refusal(one) for one in refused.value.errors()] == [said]


@pytest.mark.parametrize("value", ["", "-1", "x" * 300, "nan"])
def test_no_setting_is_refused_in_the_words_of_pydantic(value: str) -> None:
    for name in Settings.model_fields:
        try:
            Settings.model_validate({name: value})
        except ValidationError as error:
            for one in error.errors():
                said = refusal(one)
                assert not any(word in said for word in ("Input", "should", "Value error")), (
                    name,
                    said,
                )
