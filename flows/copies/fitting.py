"""Whether a team's rules for anonymising fit their columns, as the catalogue of the source has them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import get_args

from flows.copies.anonymise import MADE_UP_LENGTHS, Method, Rule
from flows.copies.catalogue import Catalogue, Facts

Refusal = Callable[[str, str], str | None]
"""Why a column does not take a text, behind `the column`, by the text and the type."""


def misfits(rules: Collection[Rule], catalogue: Catalogue, refusal: Refusal) -> list[str]:
    """A phrase for each rule that does not fit its column: its line, why, and which methods would.

    `refusal` judges the values of constants.
    """
    return [f"{rule.place}{why}" for rule in rules if (why := _misfit(rule, catalogue, refusal))]


def _misfit(rule: Rule, catalogue: Catalogue, refusal: Refusal) -> str | None:
    if rule.table not in catalogue.tables:
        view = any(table == rule.table for table, _ in catalogue.columns)
        return (
            f"{rule.table} is not a table. Name the tables that hold its rows"
            if view
            else (f"there is no table {rule.table}")
        )
    facts = catalogue.columns.get((rule.table, rule.column))
    if facts is None:
        return f"{rule.table} has no column {rule.column}"
    if facts.generated:
        return f"{rule.title}: the column is {facts.generated}"
    refused = partial(_refusal, facts=facts, rows=lambda: catalogue.rows(rule.table))
    why = refused(rule.method)
    if why is None and rule.method == "constant":
        why = _refusal_of_value(rule.value or "", facts, refusal)
    if why is None:
        return None
    fit = [one for one in get_args(Method) if refused(one) is None]
    return f"{rule.title}: the column {why}. {_either(fit)} would do" if fit else f"{rule.title}: the column {why}"


def _refusal(method: Method, *, facts: Facts, rows: Callable[[], int | None]) -> str | None:
    """Why a column refuses a method, behind `the column`. A constant is one of a value that fits."""
    if method == "null":
        return "is NOT NULL" if facts.required and rows() != 0 else None
    alone = not facts.unique or method not in ("constant", "fake_phone") or rows() in (0, 1)
    if method == "constant":
        return None if alone else "is unique, and each row would get the same value"
    return _refusal_of_made_up(method, facts) or (
        None if alone else "is unique, and two rows could get the same number"
    )


def _refusal_of_made_up(method: Method, facts: Facts) -> str | None:
    if facts.foreign:
        return "names rows of another table"
    if facts.kind == "other":
        return f"is of type {facts.type}, which takes no made-up text"
    if facts.longest is not None and facts.longest < MADE_UP_LENGTHS[method]:
        return f"takes {facts.longest} characters, and {method} makes {MADE_UP_LENGTHS[method]}"
    return None


def _refusal_of_value(value: str, facts: Facts, refusal: Refusal) -> str | None:
    if facts.kind == "json":
        return None  # any text is a value of JSON
    if facts.longest is not None and len(value) > facts.longest:
        return f"takes {facts.longest} characters, and {value!r} has {len(value)}"
    if facts.labels is not None and value not in facts.labels:
        return f"takes one of {', '.join(facts.labels)}, and not {value!r}"
    return refusal(value, facts.type)


def _either(names: list[str]) -> str:
    return " or ".join((", ".join(names[:-1]), names[-1])) if len(names) > 1 else names[0]
