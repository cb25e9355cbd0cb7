"""Whether a backup is an Odoo's, by all that its manifest says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from flows.copies.original import is_odoo
from flows.restore.lookup import Found


def ready(tables: list[str] | None, uncounted: list[str], listed: list[str] | None) -> Found:
    contents = None if tables is None else SimpleNamespace(tables=tables, uncounted=uncounted)
    inventory: Any = None
    if listed is not None:
        inventory = SimpleNamespace(unread=[], texts=lambda: {"table": dict.fromkeys(listed, "")})
    manifest = SimpleNamespace(contents=contents, inventory=inventory)
    return cast("Found", SimpleNamespace(manifest=manifest, target="elsewhere"))


MODULES = "public.ir_module_module"


@pytest.mark.parametrize(
    ("tables", "uncounted", "listed", "odoo"),
    [
        ([MODULES], [], [MODULES], True),
        ([], [MODULES], [MODULES], True),  # locked while it was backed up: modules are upgraded
        ([], [MODULES], None, True),
        (["public.line"], [], ["public.line"], False),
        (None, [], None, None),
    ],
)
def test_odoo_is_known_also_where_its_modules_could_not_be_counted(
    tables: list[str] | None, uncounted: list[str], listed: list[str] | None, *, odoo: bool | None
) -> None:
    assert is_odoo(ready(tables, uncounted, listed)) is odoo
