"""Which steps of an attempt stand: those before the first that did not succeed in the end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from opsdb.runs.kept_steps import succeeded


def rows(*steps: str) -> Any:
    """Rows from words like `build:failed`."""
    return [
        SimpleNamespace(index=index, name=name, command=f"make {name}", status=status)
        for index, (name, _, status) in enumerate((step.partition(":") for step in steps), start=1)
    ]


@pytest.mark.parametrize(
    ("steps", "kept"),
    [
        ([], ""),
        (["a:succeeded", "b:failed"], "a"),
        (["a:skipped", "b:succeeded", "c:cancelled"], "a b"),
        (["a:succeeded", "b:interrupted", "c:succeeded"], "a"),  # nobody knows how b ended
        (["a:failed", "a:failed", "a:succeeded", "b:failed", "b:failed"], "a"),
        (["a:succeeded", "b:failed", "clean:succeeded"], "a"),  # what is done after a failure is not kept
        (["a:succeeded", "ask:suspended"], "a"),
        (["a:succeeded", "a:succeeded", "b:running"], "a a"),
    ],
)
def test_steps_stand_up_to_the_first_that_did_not_succeed(steps: list[str], kept: str) -> None:
    assert " ".join(step.name for step in succeeded(rows(*steps))) == kept


def test_step_that_failed_is_not_taken_for_a_try_of_another_of_its_name() -> None:
    failed, other = rows("a:failed", "a:succeeded")
    other.command = "make another"
    assert succeeded([failed, other]) == []


def test_nothing_stands_behind_a_step_of_which_nothing_is_known() -> None:
    first, second, third = rows("a:succeeded", "b:succeeded", "c:succeeded")
    assert succeeded([first, third]) == [first]
    assert succeeded([second, third]) == []
