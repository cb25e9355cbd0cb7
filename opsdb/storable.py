"""What PostgreSQL can keep of a value that came from outside."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def storable(value: Any) -> Any:
    """The value as JSON can hold it, without what PostgreSQL refuses: NUL, lone surrogates, NaN and infinity."""
    if isinstance(value, str):
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {storable(str(key)): storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [storable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    return storable(str(value))
