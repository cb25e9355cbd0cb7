"""Checks of values by the schema of a form, which say what is wrong in its words instead of its regular expression."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

from blocks.form_words import WORDS, refusal

WORDED = ("pattern", "not")
"""The rules of a schema that its words take the place of; the others say in words what they are."""

Rule = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]


def in_words(validator: Any) -> Any:
    """The same class of jsonschema's validators, with the words of a schema for its errors."""
    return extend(  # type: ignore[no-untyped-call]
        validator, {keyword: _worded(validator.VALIDATORS[keyword]) for keyword in WORDED}
    )


def _worded(rule: Rule) -> Rule:
    def check(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        words = schema.get(WORDS) if isinstance(schema, Mapping) else None
        for error in rule(validator, value, instance, schema) or ():
            if isinstance(words, str):
                error.message = refusal(instance, words)
            yield error

    return check
