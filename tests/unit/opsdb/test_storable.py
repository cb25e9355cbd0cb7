"""Whatever a runbook returns or a caller sends can be kept."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsdb.storable import storable

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner),
    max_leaves=10,
)


@given(anything)
def test_whatever_it_is_it_becomes_json_that_postgresql_takes(value: Any) -> None:
    text = json.dumps(storable(value), allow_nan=False, ensure_ascii=False)
    assert "\\u0000" not in text
    text.encode()  # no lone surrogate


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (math.nan, "nan"),
        ({"ratio": -math.inf}, {"ratio": "-inf"}),
        ("a\0b", "a\N{REPLACEMENT CHARACTER}b"),
        ((1, 2.5, None, True), [1, 2.5, None, True]),
    ],
)
def test_what_it_keeps(value: Any, kept: Any) -> None:
    assert storable(value) == kept
