"""In which folders runs may read and write, by the room's settings."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

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
