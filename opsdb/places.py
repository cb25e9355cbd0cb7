"""In which folders runs may read and write, by the room's settings."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Sequence
from pathlib import Path

from opsdb.setting_sources import SETTLED
from opsdb.settings import Settings


def refuse_backups(path: Path, settings: Settings) -> str | None:
    """Why a run may not read or write backups in this folder, with what to do about it; None where it may."""
    return _refuse(path, settings.backup_folders, settings, setting="OPS_BACKUP_ROOTS")


def refuse_target(path: Path, settings: Settings) -> str | None:
    """Why backups may not be copied into this folder, with what to do about it; None where they may."""
    # not Path.resolve(), which breaks on links in a circle
    wanted, home, own = (Path(os.path.realpath(one)) for one in (path, settings.home, settings.backups))
    if wanted.is_relative_to(home) and not wanted.is_relative_to(own):
        return f"{path} is in OPS_HOME, where the room keeps its own state. Hint: name another folder"
    return None


def refuse_filestore(path: Path, settings: Settings) -> str | None:
    """Why a run may not read a filestore from this folder or unpack one as it; None where it may."""
    return _refuse(path, settings.filestore_folders, settings, setting="OPS_FILESTORE_ROOTS")


def filestore_environment(settings: Settings) -> dict[str, str]:
    """The settings by which another process judges filestores as this one does."""
    named = {"OPS_HOME": settings.home, "OPS_BACKUP_DIR": settings.backups, "OPS_FILESTORE_DIR": settings.filestore_dir}
    lists = {"OPS_FILESTORE_ROOTS": settings.filestore_roots, "OPS_BACKUP_ROOTS": settings.backup_roots}
    roots = {name: ":".join(map(str, paths)) for name, paths in lists.items()}
    return {name: str(path) for name, path in named.items() if path is not None} | roots | {SETTLED: "1"}


def refuse_entry(folder: Path, *, write: bool = False) -> str | None:
    """Why this user cannot list a folder, or write there too, with what to do about it; None where they can.

    A missing path is not judged.
    """
    wanted = os.R_OK | os.X_OK | (os.W_OK if write else 0)
    for one in (*reversed(folder.parents), folder):
        if not one.is_dir():
            return None
        if not os.access(one, wanted if one == folder else os.X_OK, effective_ids=True):
            what = "enter" if one != folder else "enter, read and write" if write else "enter and read"
            return f"{this_user()} may not {what} {one}. Hint: give {this_user()} that right, or choose another folder"
    return None


def this_user() -> str:
    """The user whose rights this process has."""
    try:
        return f"user {pwd.getpwuid(os.geteuid()).pw_name}"
    except KeyError:
        return f"uid {os.geteuid()}"


FOLDER_PARAMETERS: dict[str, Callable[[Path, Settings], str | None]] = {
    "backup_dir": refuse_backups,
    "filestore_dir": refuse_filestore,
}
"""What judges the parameters of runbooks that name a folder."""


def _refuse(path: Path, allowed: Sequence[Path], settings: Settings, *, setting: str) -> str | None:
    if refusal := refuse_target(path, settings):
        return refusal
    wanted = Path(os.path.realpath(path))
    if any(wanted.is_relative_to(os.path.realpath(one)) for one in allowed):
        return None
    places = ", ".join(map(str, allowed)) or "none so far"
    return (
        f"{path} is outside the folders in which runs may work ({places}). "
        f"Hint: choose one of those, or add it to {setting} and start the room again"
    )
