"""`ops backups sign`: backups of the time before manifests were signed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from cli.known_names import check_about
from cli.options import DatabaseArgument, FolderOption, folder_of_backups
from cli.text import errors, safe_line, say
from flows.backup.folder import Folder
from flows.backup.keyring import Key, Signature, room_keyring
from flows.backup.repository import Backup
from flows.backup.signing import sign_manifest
from opsdb.amounts import size
from opsdb.errors import OpsError
from opsdb.runs.backups import recorded_sums
from opsdb.runs.lookup import reading
from opsdb.settings import Settings, load_settings


def sign(
    database: DatabaseArgument = None,
    *,
    folder: FolderOption = None,
    unrecorded: Annotated[
        bool, typer.Option("--unrecorded", help="Sign those, too, that no run of this room has made.")
    ] = False,
) -> None:
    """Sign the unsigned backups in the folder, after a comparison of all their bytes with their sha256.

    Do this once after an upgrade, while you trust what is in the folder: sums find damage, and not a backup that
    somebody made with sums of its own. Where the room's record knows other sums of a file, or no such file, its backup
    is left.

    What is left is named, and the exit code is 1: what is damaged, and what another room signed. Signed backups stay as
    they are. Copies at targets stay unsigned.

    Example: ops backups sign odoo_prod
    """
    settings = load_settings()
    keyring = room_keyring(settings)
    at = Folder(folder_of_backups(folder, settings), keyring)
    at.check()
    found = at.backups(database)
    if database is not None and not found:
        check_about(database, settings, what="DATABASE", also={one.name.database for one in at.backups()})
    unsigned = [one for one in found if not one.signed]
    recorded = _recorded(settings) if unsigned else None
    left = 0
    for one in unsigned:
        if reason := _refusal(one, recorded, unrecorded=unrecorded) or _sign(one, at, keyring.make_own()):
            say(f"{one.name.dump} was left: {reason}", style="bold red", to=errors)
            left += 1
    say(f"{len(unsigned) - left} signed, {len(found) - len(unsigned)} were signed before, {left} left, in {at.path}")
    raise typer.Exit(1 if left else 0)


def _refusal(backup: Backup, recorded: Mapping[str, set[str]] | None, *, unrecorded: bool) -> str | None:
    """Why it is left without a look at its bytes, or None. `recorded` are the sums that the room's record knows."""
    if backup.signature is Signature.UNKNOWN_KEY:
        return "another room signed it. Hint: import that room's key with `ops backups key import`"
    if wrong := backup.fault():
        return wrong
    for one in backup.manifest.files if backup.manifest and recorded is not None else []:
        known = (recorded or {}).get(one.file)
        if known is None and not unrecorded:
            return f"no run of this room has made {one.file}. Hint: see where it is from; --unrecorded signs it"
        if known is not None and one.sha256 not in known:
            return f"{one.file} is not what the run wrote that made it: the room's record knows another sha256"
    return None


def _sign(backup: Backup, folder: Folder, key: Key) -> str | None:
    """Why it was left, or None."""
    files = backup.manifest.files if backup.manifest else []
    say(f"{backup.name.dump}: reading {size(sum(one.size_bytes for one in files))}", style="dim", to=errors)
    if wrong := backup.fault(read_bytes=True):
        return wrong
    if not sign_manifest(backup, folder, key):
        return "it was deleted meanwhile"
    say(f"{backup.name.dump} is signed")
    return None


def _recorded(settings: Settings) -> Mapping[str, set[str]] | None:
    try:
        with reading(settings) as db:
            return recorded_sums(db)
    except OpsError as error:
        what = safe_line(str(error), width=300)
        errors.print(f"The sums are not compared with the room's record: {what}", markup=False)
        return None
