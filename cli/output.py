"""How commands speak: tables and colour for people, JSON for programs."""

from __future__ import annotations

import json
import os
import shutil
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

console = Console()
errors = Console(stderr=True)

STATUS_STYLE = {
    "queued": "dim",
    "claimed": "cyan",
    "running": "blue",
    "succeeded": "green",
    "failed": "bold red",
    "cancelled": "yellow",
}


def say(line: str) -> None:
    """A line for people as it is: its brackets are no markup, and no width breaks it."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """One JSON document on stdout; times in ISO 8601 with their zone."""
    json.dump(value, sys.stdout, indent=2, default=_plain, ensure_ascii=False)
    sys.stdout.write("\n")


def own_name() -> str:
    """How this command is typed here: `ops` where PATH leads to it, else its path."""
    script = Path(sys.executable).parent / "ops"
    found = shutil.which("ops")
    if found is not None and Path(found).absolute() == script:
        return "ops"
    if not os.access(script, os.X_OK):
        return "python -m cli"
    return str(script.relative_to(Path.cwd())) if script.is_relative_to(Path.cwd()) else str(script)


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
