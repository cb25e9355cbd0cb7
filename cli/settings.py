"""`ops settings`: what is set here, and where each value comes from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer
from pydantic import SecretStr

from cli.options import JsonOption
from cli.text import console, errors, lines, print_json, safe_text, say
from opsdb.setting_sources import Loaded, is_secret, variable
from opsdb.settings import Settings, load_with_sources

IN_EFFECT = {"backup_dir": "backups", "server_url": "server_address"}
"""Settings that others stand in for while they are not set, and where what is in effect then is found."""
_DEFAULT = re.compile(r"Default: (.+)\.")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="The room")(settings)


def settings(
    *,
    meanings: bool = typer.Option(False, "--meanings", help="Say what each is for, too."),
    as_json: JsonOption = False,
) -> None:
    """Show every setting: the value in effect, and the variable, file or default that it comes from.

    Secrets are not shown.

    The environment counts first, then `ops.toml` of the room, then /etc/ops/ops.toml. Settings of a file take effect
    when the room is started the next time.

    Example: ops settings --json
    """
    loaded = load_with_sources()
    rows = [_row(name, loaded) for name in Settings.model_fields]
    if as_json:
        print_json({"settings": rows, "warnings": list(loaded.warnings())})
        return
    for line in loaded.warnings():
        say(line, style="yellow", to=errors)
    for row in rows:
        value = safe_text(f"{_shown(row)}   ({row['source']})")
        console.print(
            lines([(f"{row['name']:<24}", value)]), style="dim" if row["from"] == "default" else None, soft_wrap=True
        )
        if meanings:
            console.print(f"  {row['meaning']}", style="dim", markup=False, soft_wrap=True)


def _row(name: str, loaded: Loaded[Settings]) -> dict[str, Any]:
    value, source = getattr(loaded.settings, IN_EFFECT.get(name, name)), loaded.sources[name]
    field = Settings.model_fields[name]
    secret = is_secret(field)
    return {
        "name": name,
        "variable": variable(name),
        "value": None if secret else _plain(value),
        "set": value is not None if secret else source.kind != "default",
        "secret": secret,
        "from": source.kind,
        "source": str(source),
        "file": source.file,
        "line": source.line,
        "meaning": field.description,
    }


def _plain(value: object) -> object:
    """A value as JSON has it."""
    if isinstance(value, tuple):
        return [str(one) for one in value]
    if isinstance(value, SecretStr):
        raise TypeError("a secret is not shown")
    return str(value) if isinstance(value, Path) else value


def _shown(row: Mapping[str, Any]) -> str:
    found = _DEFAULT.search(row["meaning"]) if row["from"] == "default" else None
    if row["secret"]:
        return "set, not shown" if row["set"] else f"not set: {found[1]}" if found else "not set"
    value = row["value"]
    if value is None and found:
        return found[1]
    if isinstance(value, list):
        return ":".join(value) or "-"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value if value not in (None, "") else "-")
