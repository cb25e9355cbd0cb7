"""What of a matrix is left to `make gate` or `make soak`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def in_soak(cases: Iterable[Any]) -> list[Any]:
    """The cases of a parametrized test, marked; a tuple is one case of several values."""
    return _marked(cases, pytest.mark.soak)


def in_gate(cases: Iterable[Any]) -> list[Any]:
    """The same, for the gate."""
    return _marked(cases, pytest.mark.gate)


def _marked(cases: Iterable[Any], mark: pytest.MarkDecorator) -> list[Any]:
    return [pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=mark) for case in cases]
