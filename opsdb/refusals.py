"""What a model refuses, in the words of operators: pydantic's own are for those who write Python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "finite": "a number",
    "bool": "true or false",
    "string": "a text",
    "list": "a list",
    "tuple": "a list",
    "dict": "names with values",
    "model": "names with values",
    "path": "a path",
    "url": "an address",
    "uuid": "an id, a UUID",
    "date": "a date",
    "datetime": "a date and a time",
    "decimal": "a number",
}
"""By the first word of pydantic's type of an error; those of limits are below."""
_LIMITS = {
    "greater_than": ("gt", "more than {}"),
    "greater_than_equal": ("ge", "{} or more"),
    "less_than": ("lt", "less than {}"),
    "less_than_equal": ("le", "{} at most"),
    "multiple_of": ("multiple_of", "a multiple of {}"),
    "decimal_max_places": ("decimal_places", "{} decimal places at most"),
    "string_too_short": ("min_length", "a length of {} or more"),
    "string_too_long": ("max_length", "a length of {} at most"),
    "string_pattern_mismatch": ("pattern", "a text that matches {}"),
    "too_short": ("min_length", "{} of them or more"),
    "too_long": ("max_length", "{} of them at most"),
    "literal_error": ("expected", "{}"),
    "enum": ("expected", "{}"),
}
"""By pydantic's type of an error: what of its context is the limit, and the words around that."""


def refusal(error: Mapping[str, Any]) -> str:
    """Say what one of `ValidationError.errors()` refuses, without the value: `expected 100 at most`.

    What one of our own validators says is repeated as it is, and so is what has no words here.
    """
    kind, message = str(error["type"]), str(error["msg"])
    if kind in ("value_error", "assertion_error"):
        return message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return "is unknown"
    name, words = _LIMITS.get(kind, ("", ""))
    limit = error.get("ctx", {}).get(name)
    if limit is not None:
        return f"expected {words.format(f'{limit:g}' if isinstance(limit, float) else limit)}"
    expected = _EXPECTED.get(kind.partition("_")[0])
    return f"expected {expected}" if expected else message
