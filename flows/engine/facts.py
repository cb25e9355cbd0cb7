"""What the page of a run says of its result: a line each, in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flows.engine.markdown import code, text
from opsdb.amounts import seconds, size

MOST_VALUES = 20
"""Of a list, and of a result that no kind explains."""
_LONGEST_VALUE = 300


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts for an operator about a run that succeeded."""

    rows: Sequence[tuple[str, str]] = ()
    """Word and value, both Markdown already."""
    commands: Sequence[str] = field(default_factory=list)
    """What may come next, for a shell."""
    commands_are_for: str = "Next:"


Explain = Callable[[Mapping[str, Any], Mapping[str, Any]], Facts]
"""The facts of a run with these parameters and this result."""


def result_facts(_parameters: Mapping[str, Any], result: Mapping[str, Any]) -> Facts:
    """What can be said of any result: its values by their names."""
    shown = [(name, value) for name, value in result.items() if value not in (None, "", [], {})]
    return Facts([(_word(name), _value(name, value)) for name, value in shown[:MOST_VALUES]])


def listed(values: Sequence[object]) -> str:
    """Some values as code, and how many more there are."""
    more = f" and {len(values) - MOST_VALUES:,} more" if len(values) > MOST_VALUES else ""
    return ", ".join(code(value) for value in values[:MOST_VALUES]) + more


def _word(name: str) -> str:
    """The value says its unit itself."""
    return text(name.removesuffix("_seconds").removesuffix("_bytes").replace("_", " "))


def _value(name: str, value: object) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        if name.endswith("_seconds"):
            return seconds(value)
        return size(value) if name.endswith("_bytes") else code(value)
    if isinstance(value, list):
        return listed(value)
    return code(str(value)[:_LONGEST_VALUE])
