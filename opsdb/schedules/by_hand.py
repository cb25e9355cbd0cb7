"""The command that runs by hand what a schedule would have run."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from opsdb.tables import Lane


def run_command(kind: str, lane: Lane, parameters: Mapping[str, Any]) -> str:
    """`ops run` with these parameters, for a shell."""
    words = ["ops", "run", kind, *(["--lane", lane.value] if lane is not Lane.A else [])]
    for name, value in parameters.items():
        if value is not None:
            words += ["-p", f"{name}={_spelled(value)}"]
    return shlex.join(words)


def _spelled(value: Any) -> str:
    """A value as `ops run -p` reads it."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(_is_plain_word(item) for item in value):
        return ",".join(value)
    return json.dumps(value, ensure_ascii=False)


def _is_plain_word(item: Any) -> bool:
    return isinstance(item, str) and item == item.strip() != "" and "," not in item and not item.startswith("[")
