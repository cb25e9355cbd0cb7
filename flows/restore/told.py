"""What the pages of a restore and of a drill say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flows.backup.told import RESTORES, restore_command
from flows.engine.facts import Facts, listed
from flows.engine.markdown import code, text
from opsdb.amounts import seconds


def restore_facts(_parameters: Mapping[str, Any], result: Mapping[str, Any]) -> Facts:
    """A restore: which database there is now, out of what, and what is not in it."""
    left = result.get("not_restored") or []
    found = [
        ("new database", code(result["database"])),
        ("published", text(result.get("published", "as it is"))),
        *_neutralised(result.get("neutralised")),
        *_proof(result),
        ("not restored", "; ".join(text(one) for one in left) if left else "nothing: all of it is there"),
        ("filestore", code(result["filestore"]) if result.get("filestore") else "not unpacked"),
    ]
    return Facts(found)


def drill_facts(parameters: Mapping[str, Any], result: Mapping[str, Any]) -> Facts:
    """A drill: what was proven of which backup."""
    return Facts(_proof(result), [restore_command(str(result["backup"]), parameters)], RESTORES)


def _neutralised(done: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    if done is None:
        return []
    refused = done["refused"]
    found = [
        ("rows changed", "; ".join(f"{text(name)} {rows:,}" for name, rows in done["rows_changed"].items()) or "none"),
        ("looked for afterwards", f"{len(done['left'])} kinds of what a copy must not have: nothing is left"),
        ("refused by the server", "; ".join(text(name) for name in refused) if refused else "nothing"),
    ]
    own = sorted(done["own_files"])
    return [*found, ("own files", listed(own) if own else "none")]


def _proof(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows, tables = result.get("rows_compared"), result.get("tables_compared")
    found = [
        ("backup", code(result["backup"])),
        ("made at", text(result["created_at"])),
        ("signature", text(result["signature"])),
        ("restored in", seconds(result.get("restore_seconds"))),
        ("compared", f"{rows:,} rows in {tables} tables" if rows is not None else "no rows: the backup has no counts"),
        ("on", f"PostgreSQL {text(result.get('proven_on'))}"),
    ]
    missing = result.get("missing_files") or []
    return [*found, ("missing files", listed(missing) if missing else "none")]
