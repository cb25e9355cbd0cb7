"""Files that hold a secret of the room: whole at every moment, and readable by this user alone."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

from opsdb.errors import UsageError


def read_private(path: Path) -> str:
    """The text of a file, through no link. Raises FileNotFoundError, and UsageError where it is not ours alone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise UsageError(f"{path} is not a regular file")
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise UsageError(f"{path} must be readable by its owner alone, this user: chmod 600 {path}")
        with os.fdopen(descriptor, encoding="utf-8", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def make_private(path: Path, text: str) -> None:
    """Write a new file, down to the disk, in folders that are made closed to others.

    Of two calls at once the first one counts. Raises OSError.
    """
    for folder in reversed(path.parents):
        if not folder.exists():
            folder.mkdir(mode=0o700, exist_ok=True)
    temporary = _write_beside(path, text)
    try:
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink()
    _sync_folder(path.parent)


def replace_private(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Write a file in the place of one that may be there, down to the disk. Raises OSError."""
    temporary = _write_beside(path, text)
    temporary.chmod(mode)
    temporary.replace(path)
    _sync_folder(path.parent)


def _write_beside(path: Path, text: str) -> Path:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
    except OSError:
        temporary.unlink()
        raise
    return temporary


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
