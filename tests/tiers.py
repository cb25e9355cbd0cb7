"""What of a matrix `make test` leaves to `make gate`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def in_gate(cases: Iterable[Any]) -> list[Any]:
    """The cases of a parametrized test, marked; a tuple is one case of several values."""
    return [pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.gate) for case in cases]
