"""Which value a setting of a deployment gets: its file's, or the one that somebody set in Prefect since.

Three values decide: what the file says, what it said when it was applied last, and what Prefect has. Only what Prefect
still has as it was applied follows the file. What differs from that a person set, and it stays until a reset.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from opsdb.shown import shown

SHOWN = 120
MISSING = None
"""The value of something missing: a schedule that somebody deleted, or one that the file no longer names."""


@dataclass(frozen=True)
class Kept:
    """A setting that stays as somebody set it."""

    deployment: str
    setting: str
    found: Any
    declared: Any

    def __str__(self) -> str:
        """A line for an operator."""
        return (
            f"{self.deployment}: {self.setting} is {_words(self.found)}, the file says {_words(self.declared)}: "
            f"somebody set that in Prefect, it stays. `ops deploy --reset {self.deployment}` takes what the file says"
        )


@dataclass
class Merge:
    """The settings of one deployment. `declared` and `last` have them by their names, as JSON."""

    deployment: str
    declared: Mapping[str, Any]
    last: Mapping[str, Any]
    """What the file said when it was applied last; empty when that is not known."""
    reset: bool = False
    """Whether all is to be as the file says."""
    kept: list[Kept] = field(default_factory=list)

    def follows(
        self,
        setting: str,
        *,
        found: Any,
        same: Callable[[Any, Any], bool] = operator.eq,
        words: Callable[[Any], Any] = lambda found: found,
    ) -> bool:
        """Whether a setting is to be written as the file says; it is not when it is so, or when it stays as it is.

        `same` compares what was found with what a file says; `words` gives it as a file would say it.
        """
        if same(found, self.declared[setting]):
            return False
        if self.reset or (setting in self.last and same(found, self.last[setting])):
            return True
        self.kept.append(Kept(self.deployment, setting, words(found), self.declared[setting]))
        return False

    def set_by_hand(self, setting: str, *, found: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters that somebody set in Prefect: neither the file says them, nor did it when it was applied."""
        said = (self.declared[setting], self.last.get(setting, {}))
        return {name: value for name, value in given(found).items() if all(value != one.get(name) for one in said)}

    def settled_parameters(
        self, setting: str, *, found: Mapping[str, Any], beneath: Mapping[str, Any] = MappingProxyType({})
    ) -> dict[str, Any]:
        """What parameters are to be: each follows or stays by itself, so who sets one does not hold back the others.

        `beneath` are values that hold where these say nothing: what the file begins to say must not hide them. A null
        counts as not given.
        """
        declared, last = self.declared[setting], self.last.get(setting, {})
        if self.reset:
            return dict(declared)
        settled = given(found)
        for name in dict.fromkeys((*declared, *last, *settled)):
            wanted, had = declared.get(name), settled.get(name)
            if wanted is not None and had is None and last.get(name) is None and name in beneath:
                had = settled[name] = beneath[name]
            if had == wanted:
                continue
            if setting in self.last and had == last.get(name):
                settled[name] = wanted
            else:
                words = setting.replace("parameters", f"parameter {name}", 1)
                self.kept.append(Kept(self.deployment, words, had, wanted))
        return given(settled)


def given(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters without those that are null: the form writes null for what nobody filled in."""
    return {name: value for name, value in parameters.items() if value is not None}


def _words(value: Any) -> str:
    if value is MISSING:
        return "none"
    if isinstance(value, Mapping):
        value = ", ".join(f"{name} {one}" for name, one in value.items())
    words = shown(str(value)) or "empty"
    return words if len(words) <= SHOWN else f"{words[:SHOWN]}..."
