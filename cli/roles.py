"""`ops db roles`: the roles of the ops database, and what each may do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from cli.columns import Columns
from cli.options import JsonOption
from cli.text import print_json, say, show
from opsdb.migrate import repair_roles
from opsdb.rights import ROLES, Rights, Role
from opsdb.settings import load_settings


def roles(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the statements.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make the roles of the ops database that are missing, and repair the rights of each.

    Each role gets the rights that it needs in the schema `ops`, also on tables that are yet to be made, and loses all
    others there. Other roles keep theirs. Prints the statements that it executed, and what each role may do then.
    `ops db login` makes a login with one of these roles.

    Example: ops db roles --dry-run
    """
    statements, has_schema = repair_roles(load_settings(), dry=dry_run)
    if as_json:
        described = [_document(role) for role in ROLES.values()]
        print_json({"dry_run": dry_run, "statements": statements, "schema": has_schema, "roles": described})
        return
    if statements:
        say("Would execute:" if dry_run else "Executed:")
        for statement in statements:
            say(f"{statement};")
    if has_schema and not (dry_run and statements):
        say("Rights in the schema ops:" if statements else "Nothing to repair. Rights in the schema ops:")
        show(_table())
    if not has_schema:
        say("The database has no schema ops yet. Run `ops db upgrade`, then `ops db roles` again.")


def _table() -> Columns:
    table = Columns.of("role", "for", "tables", "views", "sequences", "functions", "other rights on")
    for role in ROLES.values():
        others = "; ".join(f"{name}: {_words(rights)}" for name, rights in role.but.items())
        by_kind = (role.tables, role.views, role.sequences, role.functions)
        table.add(role.name, role.about, *map(_words, by_kind), others)
    return table


def _words(rights: Rights) -> str:
    return ", ".join(sorted(rights)) or "none"


def _document(role: Role) -> Mapping[str, Any]:
    return {
        "role": role.name,
        "for": role.about,
        "tables": sorted(role.tables),
        "views": sorted(role.views),
        "sequences": sorted(role.sequences),
        "functions": sorted(role.functions),
        "other": {name: sorted(rights) for name, rights in role.but.items()},
    }
