"""A backup while it is made: its name reserved and locked, published whole or removed."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from flows.backup.manifest import Manifest
from flows.backup.names import BackupName, parse_partial, partial_of
from opsdb.errors import PreflightError, StepFailedError

_RESERVE_SECONDS = 10.0
_RETRY_SECONDS = 0.1


class Draft:
    """A dump that is being written to `partial`. The open file holds a lock for as long as its process lives."""

    def __init__(self, *, folder: Path, name: BackupName, handle: int) -> None:
        self.name = name
        self.partial = folder / name.partial
        self.dump = folder / name.dump
        self.manifest = folder / name.manifest
        self.globals_partial = folder / partial_of(name.globals)
        self.filestore_partial = folder / partial_of(name.filestore)
        self._folder = folder
        self._handle = handle
        self._manifest_handle: int | None = None

    def publish(self, manifest: Manifest) -> None:
        """Give the dump, its manifest and the files that the manifest names their own names, overwriting nothing.

        The dump comes last: under its own name it has all the rest at every moment, also after a power cut.
        Raises StepFailedError where one of the names is taken.
        """
        os.fsync(self._handle)
        written = self._folder / self.name.manifest_partial
        written.unlink(missing_ok=True)
        text = manifest.text()
        handle = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._manifest_handle = handle
        with os.fdopen(handle, "w", closefd=False) as file:
            file.write(text)
        os.fsync(handle)
        companions = [self._folder / one.file for one in manifest.companions]
        try:
            for companion in companions:
                os.link(self._folder / partial_of(companion.name), companion)
            os.link(written, self.manifest)
            written.unlink()
            _sync_folder(self._folder)
            os.link(self.partial, self.dump)
        except FileExistsError as error:
            raise StepFailedError(f"{error.filename2} is there already: nothing was overwritten") from None
        for companion in companions:
            (self._folder / partial_of(companion.name)).unlink()
        self.partial.unlink()
        _sync_folder(self._folder)

    def close(self) -> None:
        """Remove what was not published, and let go of the lock.

        The open files tell what is ours and how far publish() came: an interrupt may have struck between any two lines.
        """
        try:
            if self._manifest_handle is not None:
                if _is_at(self._manifest_handle, self.manifest) and not _is_at(self._handle, self.dump):
                    self.manifest.unlink()
                os.close(self._manifest_handle)
            _remove_companions(self._folder, self.name, published=_is_at(self._handle, self.dump))
            (self._folder / self.name.manifest_partial).unlink(missing_ok=True)
            self.partial.unlink(missing_ok=True)
        finally:
            os.close(self._handle)


@contextmanager
def draft(folder: Path, database: str, *, clock: Callable[[], datetime]) -> Iterator[Draft]:
    """Reserve the name of a new backup in the second that `clock` shows, or in the next that is free.

    Whatever ends the block, nothing of an unpublished backup stays. Raises PreflightError where no file can be made.
    """
    reserved = _reserve(folder, database, clock)
    try:
        yield reserved
    finally:
        reserved.close()


def clear_leftovers(folder: Path, database: str) -> list[str]:
    """Remove what killed runs left of backups of this database; returns the names of the partial dumps.

    A partial whose lock can be had belongs to no living run. No clock is asked: a run may be slow, and clocks jump.
    """
    removed = []
    for path in sorted(folder.iterdir()):
        name = parse_partial(path.name)
        if name is None or name.database != database or path.is_symlink() or not path.is_file():
            continue
        handle = _open_existing(path)
        if handle is None:
            continue
        try:
            if _lock(handle) and _is_at(handle, path):
                if not (folder / name.dump).exists():  # it died between the two links of publish()
                    (folder / name.manifest).unlink(missing_ok=True)
                _remove_companions(folder, name, published=(folder / name.dump).exists())
                (folder / name.manifest_partial).unlink(missing_ok=True)
                path.unlink(missing_ok=True)
                removed.append(path.name)
        finally:
            os.close(handle)
    return removed


def _remove_companions(folder: Path, name: BackupName, *, published: bool) -> None:
    """The partial ones, and where the dump has not got its own name those that publish() had linked to them."""
    for companion in name.companions:
        partial, own = folder / partial_of(companion), folder / companion
        if not published and partial.exists() and own.exists() and partial.samefile(own):
            own.unlink()
        partial.unlink(missing_ok=True)


def _reserve(folder: Path, database: str, clock: Callable[[], datetime]) -> Draft:
    deadline = time.monotonic() + _RESERVE_SECONDS
    while True:
        name = BackupName(database, clock().astimezone(UTC).replace(microsecond=0))
        handle = _create(folder, name)
        if handle is not None:
            return Draft(folder=folder, name=name, handle=handle)
        if time.monotonic() > deadline:
            raise PreflightError(f"{folder / name.dump} is taken, and the clock does not go on")
        time.sleep(_RETRY_SECONDS)


def _create(folder: Path, name: BackupName) -> int | None:
    """The locked, empty partial of this name, or None when the name is taken."""
    path = folder / name.partial
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return None
    except OSError as error:
        raise PreflightError(f"cannot write to the backup folder {folder}: {error.strerror}") from error
    try:
        # Someone who clears leftovers may have had the lock first, and have removed it.
        if _lock(handle) and _is_at(handle, path):
            if not any((folder / one).exists() for one in (name.dump, name.manifest, *name.companions)):
                _check_links(path, folder / name.manifest_partial)
                return handle
            path.unlink()
    except BaseException:
        os.close(handle)
        path.unlink(missing_ok=True)
        raise
    os.close(handle)
    return None


def _check_links(path: Path, probe: Path) -> None:
    try:
        os.link(path, probe)
    except OSError as error:
        raise PreflightError(
            f"{path.parent} is on a file system without hard links ({error.strerror}), by which a backup is published "
            "without overwriting another: choose another folder"
        ) from error
    probe.unlink()


def _open_existing(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
