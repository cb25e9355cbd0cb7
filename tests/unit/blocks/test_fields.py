from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import TypeAdapter, ValidationError

from blocks.fields import each_once


def test_list_that_names_an_item_twice_is_refused_in_its_own_words() -> None:
    shops = TypeAdapter(Annotated[list[str], each_once("a shop")])
    assert shops.validate_python(["a", "b"]) == ["a", "b"]
    with pytest.raises(ValidationError, match="a shop is named twice: name each once"):
        shops.validate_python(["a", "b", "a"])
