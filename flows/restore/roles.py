"""The roles that a restored database needs: those of the backup, or others in their place."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping

from blocks.target_store import TargetError
from flows.backup.grants import RoleMap, roles_in, with_roles
from flows.backup.inventory import ROLES
from flows.backup.manifest import Manifest
from flows.backup.postgres import Connection
from flows.backup.repository import Backup
from opsdb.errors import PreflightError
from opsdb.shown import shown

_SHOWN = 5  # roles in one message
# pg_dumpall doubles quotes and never writes a backslash before one.
_PART = re.compile(r"--[^\n]*|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|;|[^;'\"-]+|.", re.DOTALL)
_CREATE = re.compile(r'CREATE ROLE (?:"((?:[^"]|"")*)"|([^\s";]+))')


def needed_roles(manifest: Manifest) -> set[str]:
    """The roles that own something, may do something, or have settings in the database. Empty for old formats."""
    needed = set(manifest.properties.roles) if manifest.properties else set()
    texts = manifest.inventory.texts() if manifest.inventory else {}
    for kind in ROLES:
        for text in texts.get(kind, {}).values():
            needed |= roles_in(text)
    return needed


def owners_in(manifest: Manifest, roles: RoleMap) -> set[str]:
    """The roles that own something in the database, after others took their place."""
    texts = manifest.inventory.texts() if manifest.inventory else {}
    return {owner for text in texts.get("owner", {}).values() for owner in roles_in(with_roles(text, roles))}


def choose_roles(
    server: Connection, manifest: Manifest, *, instead: Mapping[str, str], leave_missing: bool, roles_sql: str
) -> dict[str, str | None]:
    """What stands for each role of the backup on this server.

    `instead` names others; `roles_sql` is the backup's own file of roles. Raises PreflightError for a role that is
    missing, with the line that makes it, unless missing ones are to be left out, and where a superuser would get what
    was another role's: what is in it would run with a superuser's rights.
    """
    needed = needed_roles(manifest)
    if unknown := sorted(instead.keys() - needed):
        raise PreflightError(
            f"roles: the backup needs no role {_shown(unknown)}; it needs {_shown(sorted(needed)) or 'none'}"
        )
    chosen: dict[str, str | None] = {role: instead.get(role, role) for role in sorted(needed)}
    rows = server.execute("SELECT rolname, rolsuper FROM pg_catalog.pg_roles").fetchall()
    existing, superusers = {str(name) for name, _ in rows}, {str(name) for name, super_ in rows if super_}
    lines = dict(create_lines(roles_sql))
    missing = [role for role, new in chosen.items() if new not in existing]
    if wrong := sorted(str(chosen[role]) for role in missing if role in instead):
        raise PreflightError(f"roles: the server has no role {_shown(wrong)}: name one that is there")
    if raised := sorted(new for old, new in instead.items() if new in superusers and new != old):
        raise PreflightError(
            f"roles: {_shown(raised)} is a superuser, with whose rights the backup's code would run. Hint: name a role "
            "without them"
        )
    in_policies = {
        role
        for text in (manifest.inventory.texts() if manifest.inventory else {}).get("roles of policy", {}).values()
        for role in roles_in(text)
    }
    if fixed := sorted(in_policies - existing):
        raise PreflightError(
            f"the server has no role {_shown(fixed)}, which policies of the backup name: create it, nothing can stand "
            f"for it while the dump is loaded ({lines.get(fixed[0], 'the backup has no line that makes it')})"
        )
    if missing and not leave_missing:
        told = "; ".join(
            f"{_shown([role])} ({lines.get(role, 'the backup has no line that makes it')})" for role in missing[:_SHOWN]
        )
        more = f"; and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        left = _left_to_superuser(server, manifest, chosen | dict.fromkeys(missing), superusers)
        leave = "" if left else ", or leave out what they own and may do with missing_roles=leave"
        raise PreflightError(
            f"the server lacks {len(missing)} of the backup's roles: {told}{more}. Hint: create them, or name others "
            f'with roles={{"old": "new"}}{leave}'
        )
    chosen |= dict.fromkeys(missing)
    if left := _left_to_superuser(server, manifest, chosen, superusers):
        heir, roles = left
        raise PreflightError(
            f"missing_roles=leave: what belongs to {_shown(roles)} would go to {heir!r}, a superuser, with whose "
            'rights its code would run. Hint: create the role, or name another one with roles={"old": "new"}'
        )
    return chosen


def _left_to_superuser(
    server: Connection, manifest: Manifest, chosen: RoleMap, superusers: Collection[str]
) -> tuple[str, list[str]] | None:
    """The superuser that would get what the left-out roles own, and these roles; None where nobody is harmed.

    What they own goes to the owner of the database, or else to the room's own login.
    """
    own = manifest.properties.owner if manifest.properties else None
    heir = (chosen.get(own, own) if own else None) or server.info.user
    owners = owners_in(manifest, {}) | ({own} if own else set())
    left = sorted(role for role in owners if chosen.get(role, role) is None)
    return (heir, left) if left and heir in superusers else None


def read_roles(backup: Backup) -> str:
    """The backup's file of roles, or nothing where it is missing or altered."""
    file = backup.manifest.globals if backup.manifest else None
    try:
        written = backup.repository.store.read(file.file) if file else b""
    except TargetError:
        return ""
    return written.decode() if file and hashlib.sha256(written).hexdigest() == file.sha256 else ""


def create_lines(roles_sql: str) -> Iterator[tuple[str, str]]:
    """Each role that the text of pg_dumpall makes, and where: `line 14 of its roles: CREATE ROLE odoo;`.

    Quoted texts and comments are passed over, whatever they hold. No line that is given holds a password.
    """
    statement, line, began = "", 1, 1
    for part in _PART.findall(roles_sql):
        if part == ";":
            if match := _CREATE.fullmatch(statement.strip()):
                name = match[1].replace('""', '"') if match[1] is not None else match[2]
                yield name, f"line {began} of its roles: {shown(statement.strip())};"
            statement = ""
        elif not part.startswith("--"):
            if not statement.strip():
                began = line + part[: len(part) - len(part.lstrip())].count("\n")
            statement += part
        line += part.count("\n")


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(repr(name) for name in names[:_SHOWN]) + more
