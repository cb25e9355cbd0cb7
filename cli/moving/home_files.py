"""The files of OPS_HOME that move with a room, and those that stay because a room makes them again or it is of that
host."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import tarfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO

from opsdb.settings import Settings
from opsdb.settings_file import NAME as SETTINGS_FILE

STAYS = {
    "postgres": "the embedded PostgreSQL: its databases ops and prefect are dumped",
    "prefect": "made by each start",
    "log": "logs of the room's parts",
    "logs": "output of steps",
    "backups": "backups of other databases",
    "room-backups": "backups of the room",
    "sandboxes": "servers of restore drills, while they last",
    "running": "processes of the host",
    "room.json": "how the parts stand",
    "room.lock": "a lock of the host",
    "alerter.lock": "a lock of the host",
    "deployed.json": "made by each start",
    "deployed-code": "made by each start",
    "alert-authorities.pem": "made by each start",
    "alerter-outage.json": "of the host",
    "restoring": "a restore that is under way",
}
"""Entries of OPS_HOME that are left out, and why. All others go along, those that an operator put there included; what
is hidden, a link to a folder, or in a folder that the settings name for backups or Odoo's files, is named instead."""
NOT_THE_ROOM = {"postgres", "prefect", "log", "logs", "backups", "room-backups", "sandboxes", "room.lock", "restoring"}
"""Entries of OPS_HOME that a restore leaves where they are."""
_ASIDE = "before-"
_TEMPORARY = re.compile(r"\..+\.\d+(\.[0-9a-f]{8}|\.partial)?$")
"""Files of the room that are being written."""


def aside(stamp: str) -> str:
    """The folder in OPS_HOME for what stood there before a restore."""
    return f"{_ASIDE}{stamp}"


def entries(home: Path, without: Collection[Path] = ()) -> list[str]:
    """The names in OPS_HOME that go along. `without` are real paths of folders that stay, by `stays_by_settings`."""
    if not home.is_dir():
        return []
    return sorted(one.name for one in home.iterdir() if not _left(one.name) and _real(one) not in without)


def stays_by_settings(settings: Settings) -> frozenset[Path]:
    """The folders in OPS_HOME with backups of databases and with Odoo's files, by their real paths."""
    home = _real(settings.home)
    return frozenset(
        real
        for folder in (*settings.backup_folders, *settings.filestore_folders)
        if home in (real := _real(folder)).parents and not _left(real.relative_to(home).parts[0])
    )


def goes_along(settings: Settings, folder: Path) -> bool:
    """Whether what is put into a folder is part of the next backup."""
    home, real = _real(settings.home), _real(folder)
    if real == home:
        return True
    if home not in real.parents or _left(real.relative_to(home).parts[0]):
        return False
    return not stays_by_settings(settings).intersection((real, *real.parents))


def in_the_way(home: Path) -> list[str]:
    """The names in OPS_HOME of an existing room. A settings file alone makes no room."""
    if not home.is_dir():
        return []
    names = (one.name for one in home.iterdir())
    return sorted(
        one for one in names if one not in NOT_THE_ROOM and one != SETTINGS_FILE and not one.startswith((_ASIDE, "."))
    )


def files_bytes(home: Path, without: Collection[Path] = ()) -> int:
    """What the files that go along take, in bytes."""
    total = 0
    for path in _walk(home, without):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def left_out(home: Path, without: Collection[Path] = ()) -> dict[str, str]:
    """What an operator may have put into OPS_HOME that does not go along, and what to do about it."""
    hidden = [one.name for one in home.iterdir() if one.name.startswith(".") and not _TEMPORARY.match(one.name)]
    found = dict.fromkeys(sorted(hidden), "hidden at the top of OPS_HOME: copy it yourself")
    inside = [one.relative_to(_real(home)) for one in sorted(without) if one.exists()]
    found |= dict.fromkeys(map(str, inside), "a folder of the settings: copy it yourself")
    for path in _walk(home, without):
        if path.is_symlink() and not path.is_file() and not (path.parent == home and path.is_dir()):
            found[str(path.relative_to(home))] = "a link, which may lead elsewhere: make it again yourself"
    return found


def write_files(home: Path, to: IO[bytes], without: Collection[Path] = ()) -> None:
    """Write what goes along as a tar. What vanishes meanwhile is left out: the room may run. Raises OSError."""
    with tarfile.open(fileobj=to, mode="w", dereference=True) as tar:  # a file of two names is written twice
        for path in _walk(home, without):
            name = str(path.relative_to(home))
            if path.is_dir() and (path.parent == home or not path.is_symlink()):
                info = tarfile.TarInfo(name)
                info.type, info.mode = tarfile.DIRTYPE, 0o700
                tar.addfile(info)
            elif path.is_file():
                _add_file(tar, path, name)


def _add_file(tar: tarfile.TarFile, path: Path, name: str) -> None:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        info = tar.gettarinfo(arcname=name, fileobj=file)
        if info.isreg():
            tar.addfile(info, file)


def unpack_files(tar: Path, folder: Path) -> None:
    """Unpack them below a folder, as files of this user that are closed to others, down to the disk."""
    with tarfile.open(tar) as files:
        for info in files:
            info.mode = 0o700 if info.isdir() else 0o600 | (info.mode & stat.S_IXUSR)
            info.uid, info.gid, info.uname, info.gname = os.geteuid(), os.getegid(), "", ""
            files.extract(info, folder, filter="data")
    for path in folder.rglob("*"):
        if path.is_dir():
            path.chmod(0o700)
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)


def _left(name: str) -> bool:
    return name in STAYS or name.startswith((_ASIDE, "."))


def _walk(home: Path, without: Collection[Path]) -> Iterator[Path]:
    """All that goes along, a folder before what is in it. A link to a folder is followed at the top alone."""
    for name in entries(home, without):
        yield home / name
        for folder, folders, names in os.walk(home / name, onerror=_raise):
            here = Path(folder)
            folders[:] = sorted(one for one in folders if _real(here / one) not in without)
            yield from (here / one for one in (*folders, *sorted(names)))


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))
