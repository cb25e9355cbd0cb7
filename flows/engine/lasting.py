"""lasting(): steps that together make what outlives the attempt, though what some of them made does not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar, cast

from flows.engine.active_run import ActiveRun, current_run
from flows.engine.step import action
from opsdb.runs.kept_steps import SEALED_FROM, KeptStep

T = TypeVar("T")
_MADE = "made"


def lasting(name: str, work: Callable[[], T], *, about: str) -> T:
    """Do the steps of `work` and then one of this name that seals them; returns what `work` returned, which is JSON.

    An attempt that resumes after that one does none of them again, also of those that must run again by themselves: a
    snapshot, for instance, which ended when the backup was published. Before it, they count as what they are.
    """
    run = current_run()
    if run.plan is None and (block := _kept_block(run, name, about)):
        for kept in block:
            run.skip(next(run.step_numbers), name=kept.name, command=kept.command, shown=kept.command)
        return cast("T", ((block[-1].result or {})["value"])[_MADE])
    bound, first = len(run.bound), next(copy.copy(run.step_numbers))
    made = work()
    action(name, lambda: {SEALED_FROM: first, _MADE: made}, about=about)
    del run.bound[bound:]
    return made


def _kept_block(run: ActiveRun, name: str, about: str) -> list[KeptStep]:
    """The next kept steps up to the one that seals them; empty where the next one is not the first of them."""
    for position, kept in enumerate(run.kept):
        if (kept.name, kept.command) == (name, about) and kept.sealed_from == run.kept[0].index:
            return run.kept[: position + 1]
    return []
