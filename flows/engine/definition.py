"""What a runbook is made of, as a hash: steps that an earlier attempt took stand only while it is the same."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

_IMPORT = re.compile(r"^(?:from|import) ((?:\w+\.)+\w+)", re.MULTILINE)


def definition_of(function: Callable[..., Any]) -> str:
    """A hash (sha256, hex) of a function's module and of what that imports of its own package, `flows` and `blocks`."""
    packages = {"flows", "blocks", function.__module__.partition(".")[0]}
    sources: dict[str, str] = {}
    wanted = [function.__module__]
    while wanted:
        module = wanted.pop()
        if module in sources:
            continue
        sources[module] = source = _source(module)
        wanted += [name for name in _IMPORT.findall(source) if name.partition(".")[0] in packages]
    digest = hashlib.sha256()
    for module, source in sorted(sources.items()):
        digest.update(f"{module}\0{source}\0".encode())
    return digest.hexdigest()


def _source(module: str) -> str:
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):  # __main__, or a name that is no module
        found = None
    return Path(found.origin).read_text() if found is not None and found.origin and found.has_location else ""
