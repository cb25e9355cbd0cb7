"""What a restored database consists of, compared with what its backup's manifest says: by name, then by definition."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from flows.backup.contents import differences as contents_differences
from flows.backup.contents import summary
from flows.backup.extensions import differing_extensions
from flows.backup.grants import RoleMap, joined, roles_in, with_roles, without_roles
from flows.backup.inventory import ROLES, Definition, Inventory, read_objects, unquoted
from flows.backup.manifest import Manifest
from flows.backup.postgres import Connection
from flows.restore.normal_form import read_again
from opsdb.errors import StepFailedError

_SHOWN = 60  # characters of a definition in a message
# Texts that are the same on every version. Other ones depend on how a version shows expressions.
_PORTABLE = {"schema", "column", "sequence", "type", "comment", *ROLES}
# What a new database has before anything is restored, and what a version of an extension has or has not.
_USUAL = {("schema", "public"), ("extension", "plpgsql")}
_OF_EXTENSIONS = "function of an extension"
NOT_MADE = {"event trigger", "publication"}
"""Only a superuser may make these, and they are left out."""
_OF_NOT_MADE = tuple(f"{what} {kind} " for what in ("comment", "owner of") for kind in sorted(NOT_MADE))


def differences_from(
    manifest: Manifest, db: Connection, *, roles: RoleMap | None = None, without: Collection[str] = ()
) -> list[str]:
    """All that differs between the database behind `db` and the one that was dumped: a phrase for each thing.

    See differing_objects(). What a manifest of an older format does not know is not compared.
    """
    wrong = contents_differences(manifest.contents, db) if manifest.contents else []
    if manifest.extensions is not None:
        wrong += differing_extensions(manifest.extensions, db)
    if manifest.inventory is not None:
        dumped_by = int(re.split(r"\D", manifest.server_version)[0])
        wrong += differing_objects(manifest.inventory, db, dumped_by=dumped_by, roles=roles, without=without)
    return wrong


def check_same(wrong: list[str]) -> None:
    """Raise StepFailedError for differences, but for what is left out."""
    if wrong := [one for one in wrong if not one.startswith(_OF_NOT_MADE)]:
        raise StepFailedError(f"the restored database is not what was dumped: {summary(wrong)}")


def same_major(manifest: Manifest, db: Connection) -> bool:
    """Whether definitions are compared as they are: on a server of the version that was dumped."""
    return int(re.split(r"\D", manifest.server_version)[0]) == db.info.server_version // 10000


def compared(manifest: Manifest, *, without: Collection[str] = ()) -> dict[str, Any]:
    """The parts of a manifest that were compared, for the result of a run: counts, None for what it does not know.

    `not_compared` names what could not be recorded while the database was dumped.
    """
    counts = manifest.inventory.counts if manifest.inventory else None
    unread = manifest.inventory.unread if manifest.inventory else []
    return {
        "tables_compared": len(manifest.contents.tables) if manifest.contents else None,
        "rows_compared": manifest.contents.rows if manifest.contents else None,
        "objects_compared": {kind: n for kind, n in counts.items() if kind not in without} if counts else None,
        "not_compared": [*(manifest.contents.uncounted if manifest.contents else ()), *unread],
        "attachments_compared": manifest.attachments.named if manifest.attachments else None,
    }


def differing_objects(
    expected: Inventory,
    db: Connection,
    *,
    dumped_by: int,
    roles: RoleMap | None = None,
    without: Collection[str] = (),
) -> list[str]:
    """What the database behind `db` consists of otherwise than expected: a phrase for each object.

    `dumped_by` is the major version of the server that was dumped: texts of definitions are compared on the same one.
    `roles` are those that stand for others, None for one that was left out. Kinds in `without` are not compared.
    `db` has the settings of pin_settings(), and belongs to a role without rights of its own (see read_again).
    """
    texts, found = expected.texts(), read_objects(db)
    same = dumped_by == db.info.server_version // 10000
    wrong: list[str] = []
    for kind in sorted((texts.keys() | found.keys()) - {*without, *expected.unread}):
        want, have = texts.get(kind, {}), found.get(kind, {})
        if kind in ROLES:
            wrong += _other_roles(kind, want, have, roles or {})
            continue
        if kind != _OF_EXTENSIONS:
            wrong += [f"{kind} {name} is missing" for name in want.keys() - have.keys()]
            wrong += [
                f"{kind} {name} is there as well" for name in have.keys() - want.keys() if (kind, name) not in _USUAL
            ]
        if same:
            wrong += _other_texts(db, kind, want, have)
        elif kind in _PORTABLE:
            wrong += _other_portable(kind, want, have)
    return sorted(wrong)


def _other_texts(db: Connection, kind: str, want: Mapping[str, str], have: Mapping[str, Definition]) -> Iterator[str]:
    for name in want.keys() & have.keys():
        if want[name] == have[name].text:
            continue
        again = read_again(db, kind, name, want[name], have[name])
        if again != have[name].text:
            yield f"{kind} {name} {_instead(have[name].text, want[name])}"


def _other_portable(kind: str, want: Mapping[str, str], have: Mapping[str, Definition]) -> Iterator[str]:
    for name in want.keys() & have.keys():
        if unquoted(want[name]) != unquoted(have[name].text):
            yield f"{kind} {name} {_instead(have[name].text, want[name])}"


def _other_roles(kind: str, want: Mapping[str, str], have: Mapping[str, Definition], roles: RoleMap) -> Iterator[str]:
    mixed = joined(roles)
    for name in want.keys() | have.keys():
        before = with_roles(want[name], roles) if name in want else None
        after = with_roles(have[name].text, {}) if name in have else None
        left_out = name in want and len(with_roles(want[name], roles)) < len(with_roles(want[name], {}))
        if before == after or (left_out and (kind == "owner" or after is None)):
            continue
        joins = kind != "owner" and before is not None and bool(roles_in(before) & mixed)
        if joins and (after is None or without_roles(before or "[]", mixed) == without_roles(after, mixed)):
            continue
        yield f"{kind} of {name} {_instead(after or 'the usual', before or 'the usual')}"


def _instead(found: str, wanted: str) -> str:
    if len(found) <= _SHOWN and len(wanted) <= _SHOWN:
        return f"is {found or 'empty'} instead of {wanted or 'empty'}"
    return "is defined otherwise"
