"""A backup while it is made: its name reserved and locked, published whole or removed."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from flows.backup.keyring import Key
from flows.backup.manifest import Manifest
from flows.backup.names import BackupName, parse_partial, partial_of
from opsdb.errors import PreflightError, StepFailedError

_RESERVE_SECONDS = 10.0
_RETRY_SECONDS = 0.1


class Draft:
    """A backup that is written under partial names into a folder, from reserve() until the end of a `with` block.

    Its files are open for as long as its process lives, the dump with a lock: what is written and published is them,
    whatever stands under their names. Whatever ends the block, nothing of a backup that was not published stays.
    """

    def __init__(self, folder: Path, database: str, *, clock: Callable[[], datetime]) -> None:
        self.folder = folder
        self.name = BackupName(database, _second(clock()))
        self._clock = clock
        self._handles: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def dump(self) -> Path:
        """The dump under its own name, which it gets last."""
        return self.folder / self.name.dump

    @property
    def manifest(self) -> Path:
        """The manifest under its own name."""
        return self.folder / self.name.manifest

    def partial(self, file: str) -> Path:
        """The name of a file of the backup until it is published."""
        return self.folder / partial_of(file)

    def path(self, file: str) -> str:
        """Where programs write and read a file of the backup: its partial, from reserve() on as it is open here."""
        handle = self._handles.get(file)
        return str(self.partial(file)) if handle is None else f"/proc/{os.getpid()}/fd/{handle}"

    def reserve(self) -> None:
        """Make the empty, locked dump in the second that the clock shows, or in the next that is free.

        Raises PreflightError where no file can be made.
        """
        deadline = time.monotonic() + _RESERVE_SECONDS
        while True:
            self.name = BackupName(self.name.database, _second(self._clock()))
            handle = _create(self.folder, self.name)
            if handle is not None:
                self._handles[self.name.dump] = handle
                for file in self.name.companions:
                    self._open(file)
                return
            if time.monotonic() > deadline:
                raise PreflightError(f"{self.dump} is taken, and the clock does not advance")
            time.sleep(_RETRY_SECONDS)

    def publish(self, manifest: Manifest, key: Key) -> int:
        """Give the dump, its manifest and the files that the manifest names their own names, overwriting nothing.

        The dump comes last: under its own name it has all the rest at every moment, also after a power cut. Returns
        the bytes of the signed manifest. Raises StepFailedError where one of the names is taken.
        """
        if not self._handles:
            raise StepFailedError(f"{self.dump} was not reserved")
        written = manifest.text(key).encode()
        with os.fdopen(self._open(self.name.manifest), "wb", closefd=False) as opened:
            opened.write(written)
        for handle in self._handles.values():
            os.fsync(handle)
        companions = [one.file for one in manifest.companions]
        try:
            for file in (*companions, self.name.manifest):
                self._link(file)
            self.partial(self.name.manifest).unlink()
            _sync_folder(self.folder)
            self._link(self.name.dump)
        except FileExistsError as error:
            taken = self.folder / str(error.filename2)
            raise StepFailedError(f"{taken} already exists: nothing was overwritten") from None
        except FileNotFoundError as error:
            gone = self.partial(str(error.filename2))
            raise StepFailedError(f"{gone} was deleted while it was written: nothing was published") from None
        for file in (*companions, self.name.dump):
            self.partial(file).unlink()
        _sync_folder(self.folder)
        return len(written)

    def close(self) -> None:
        """Remove what was not published, and let go of the lock.

        The open files tell what is ours and how far publish() came: an interrupt may have struck between any two lines.
        """
        if not self._handles:
            return
        try:
            published = _is_at(self._handles[self.name.dump], self.dump)
            manifest = self._handles.get(self.name.manifest)
            if manifest is not None and _is_at(manifest, self.manifest) and not published:
                self.manifest.unlink()
            _remove_partials(self.folder, self.name, published=published)
        finally:
            for handle in self._handles.values():
                os.close(handle)
            self._handles.clear()

    def _open(self, file: str) -> int:
        """Make a partial, empty and open. Who holds the lock of this name is alone with it."""
        path = self.partial(file)
        path.unlink(missing_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._handles[file] = handle
        return handle

    def _link(self, file: str) -> None:
        """Give the open file its own name."""
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:  # without a handle of the folder Python would link to /proc itself
            os.link(f"/proc/self/fd/{self._handles[file]}", file, dst_dir_fd=folder, follow_symlinks=True)
        finally:
            os.close(folder)


def clear_leftovers(folder: Path, database: str) -> list[str]:
    """Remove what killed runs left of backups of this database; returns the names of the partial dumps.

    A partial whose lock can be had belongs to no living run. No clock is asked: a run may be slow, and clocks jump.
    """
    removed = []
    for name in _partials(folder, database):
        path = folder / name.partial
        handle = _open_existing(path)
        if handle is None:
            continue
        try:
            if _lock(handle) and _is_at(handle, path):
                published = (folder / name.dump).exists()
                if not published:  # it died between the two links of publish()
                    (folder / name.manifest).unlink(missing_ok=True)
                _remove_partials(folder, name, published=published)
                removed.append(name.partial)
        finally:
            os.close(handle)
    return removed


def leftover_bytes(folder: Path, database: str) -> int:
    """About what that would free; no lock is tried, which could disturb another run.

    A file that has its own name as well, for its run died as it published it, frees nothing.
    """
    names = _partials(folder, database)
    files = [folder / partial_of(file) for name in names for file in (name.dump, *name.companions)]
    found = [file.lstat() for file in files if file.exists()]
    return sum(min(one.st_size, one.st_blocks * 512) for one in found if one.st_nlink == 1)


def _partials(folder: Path, database: str) -> list[BackupName]:
    names = [(path, parse_partial(path.name)) for path in sorted(folder.iterdir())]
    return [
        name
        for path, name in names
        if name is not None and name.database == database and not path.is_symlink() and path.is_file()
    ]


def _remove_partials(folder: Path, name: BackupName, *, published: bool) -> None:
    """All partial files, and where the dump has not got its own name those that publish() had linked to them."""
    for companion in name.companions:
        partial, own = folder / partial_of(companion), folder / companion
        if not published and partial.exists() and own.exists() and partial.samefile(own):
            own.unlink()
        partial.unlink(missing_ok=True)
    (folder / name.manifest_partial).unlink(missing_ok=True)
    (folder / name.partial).unlink(missing_ok=True)


def _second(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(microsecond=0)


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
