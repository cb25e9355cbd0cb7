"""What of OPS_HOME goes along when a room moves, and what stays because a room makes it again or it is of that host."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

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
"""Entries of OPS_HOME that are left out, and why. All others go along, those that an operator put there included."""
NOT_THE_ROOM = {"postgres", "prefect", "log", "logs", "backups", "room-backups", "sandboxes", "room.lock", "restoring"}
"""Entries of OPS_HOME that a restore leaves where they are."""
_ASIDE = "before-"


def aside(stamp: str) -> str:
    """The folder in OPS_HOME for what stood there before a restore."""
    return f"{_ASIDE}{stamp}"


def entries(home: Path) -> list[str]:
    """The names in OPS_HOME that go along."""
    if not home.is_dir():
        return []
    return sorted(one.name for one in home.iterdir() if not _left(one.name))


def in_the_way(home: Path) -> list[str]:
    """The names in OPS_HOME of a room that is there already. A settings file alone makes no room."""
    if not home.is_dir():
        return []
    names = (one.name for one in home.iterdir())
    return sorted(
        one for one in names if one not in NOT_THE_ROOM and one != SETTINGS_FILE and not one.startswith((_ASIDE, "."))
    )


def write_files(home: Path, to: IO[bytes]) -> None:
    """Write the files that go along as a tar. What vanishes meanwhile is left out: the room may run. Raises OSError."""
    with tarfile.open(fileobj=to, mode="w") as tar:
        for path in _files(home):
            try:
                file = path.open("rb")
            except FileNotFoundError:
                continue
            with file:
                info = tar.gettarinfo(arcname=str(path.relative_to(home)), fileobj=file)
                if info.isreg():
                    tar.addfile(info, file)


def unpack_files(tar: Path, folder: Path) -> None:
    """Unpack them below a folder, as files of this user that are closed to others, down to the disk."""
    with tarfile.open(tar) as files:
        for info in files:
            info.mode = 0o600 | (info.mode & stat.S_IXUSR)
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


def _files(home: Path) -> Iterator[Path]:
    for name in entries(home):
        top = home / name
        if top.is_file():
            yield top
        for folder, _, names in os.walk(top):
            yield from (Path(folder, one) for one in sorted(names) if Path(folder, one).is_file())
