"""A backup target that is a folder, on another disk or mounted from another host."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from blocks.target_store import LARGEST_READ, Proof, SameFolderError, TakenError, TargetError, Tell, silent
from opsdb.trust import SAFE_FOLDER, who_else_may_write

_CHUNK_BYTES = 1024 * 1024
_ADVICE = {
    errno.EACCES: "give it to the room's user",
    errno.EPERM: "give it to the room's user",
    errno.ENOTDIR: "name a folder",
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there",
    errno.EROFS: "mount it so that it can be written to",
}


@dataclass(frozen=True)
class FolderStore:
    """Files directly in an existing folder: one that is not mounted must not be made on this disk."""

    folder: Path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> FolderStore:
        """What `public` describes."""
        return cls(Path(json.loads(environment["TARGET"])["folder"]))

    @property
    def place(self) -> str:
        """See Store."""
        return f"folder {self.folder}"

    @property
    def public(self) -> Mapping[str, str]:
        """See Store."""
        return {"TARGET": json.dumps({"folder": str(self.folder)})}

    @property
    def secrets(self) -> Mapping[str, str]:
        """See Store."""
        return {}

    @property
    def proofs(self) -> tuple[Proof, ...]:
        """See Store. A folder says nothing of a file but what it reads as."""
        return (Proof.READ_BACK,)

    @property
    def refusals(self) -> tuple[str, ...]:
        """See Store."""
        return ()

    def url(self, name: str) -> str:
        """See Store."""
        return (self.folder / name).as_uri()

    def look(self) -> None:
        """See Store."""
        with self._asked():
            found = self.folder.stat()
            if not stat.S_ISDIR(found.st_mode):
                raise TargetError(f"{self.folder} is not a folder", advice="correct folder of the block")
            self._check_safe()
            if not os.access(self.folder, os.R_OK | os.W_OK | os.X_OK):
                raise TargetError(f"{self.folder} cannot be written to", advice="give it to the room's user")

    def is_beside(self, folder: Path) -> bool:
        """See Store."""
        try:
            there = next(one for one in (folder, *folder.parents) if one.exists())
            if self.folder.resolve() == folder.resolve() or (there == folder and self.folder.samefile(folder)):
                raise SameFolderError(
                    f"{self.folder} is the folder of the backups itself", advice="choose one on another disk"
                )
            return self.folder.stat().st_dev == there.stat().st_dev
        except OSError:  # of a missing path, look() says more
            return False

    def sizes(self, start: str = "") -> dict[str, int]:
        """See Store."""
        with self._asked():
            found = {}
            for entry in os.scandir(self.folder):
                if entry.name.startswith(start) and entry.is_file(follow_symlinks=False):
                    with suppress(FileNotFoundError):  # pruned meanwhile, by a run on another database
                        found[entry.name] = entry.stat(follow_symlinks=False).st_size
            return found

    def read(self, name: str) -> bytes:
        """See Store."""
        with self._asked(), self._opened(name) as file:
            return file.read(LARGEST_READ)

    def sha256(self, name: str) -> str:
        """See Store."""
        with self._asked(), self._opened(name) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # what counts is on the disk
            return hashlib.file_digest(file, "sha256").hexdigest()

    def put(self, file: Path, *, sha256: str, tell: Tell = silent) -> bool:
        """See Store. It gets its name when it was read back."""
        self.is_beside(file.parent)
        partial, final = self.folder / _partial(file.name), self.folder / file.name
        if file.name in self.sizes(file.name):
            if self.sha256(file.name) != sha256:
                raise TargetError(
                    f"{final} already exists with other content",
                    advice="nothing was overwritten; see who wrote it, and move it away",
                )
            return False
        with self._asked():
            self._check_safe()
            self._check_space(file.stat().st_size)
            # who has made it is alone with this name, and nobody else may remove it
            handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                with os.fdopen(handle, "wb") as target:
                    if final.exists():
                        raise TakenError(f"{final} was written by another just now", advice="start the run again")
                    with file.open("rb") as source:
                        _copy(source, target.write, tell)
                    target.flush()
                    os.fsync(handle)
                if self.sha256(partial.name) != sha256:
                    raise TargetError(
                        f"{final} did not arrive as it was sent", advice="it was removed again; check both disks"
                    )
                partial.rename(final)  # no hard link, which mounts of other systems lack
                self._sync()
            finally:
                partial.unlink(missing_ok=True)
        return True

    def get(self, name: str, file: Path, *, tell: Tell = silent) -> None:
        """See Store."""
        with self._asked(), self._opened(name) as source, _written_here(file) as write:
            _copy(source, write, tell)

    def delete(self, name: str) -> None:
        """See Store."""
        with self._asked():
            (self.folder / name).unlink(missing_ok=True)

    def drop_unfinished(self, ours: Callable[[str], bool]) -> list[str]:
        """See Store."""
        dropped = []
        for partial in self.sizes("."):
            name = partial.removeprefix(".").removesuffix(".partial")
            if partial == _partial(name) and ours(name):
                self.delete(partial)
                dropped.append(name)
        return dropped

    def _opened(self, name: str) -> BufferedReader:
        """A file, of which no link is followed and no pipe waited for."""
        handle = os.open(self.folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        return os.fdopen(handle, "rb")

    def _check_safe(self) -> None:
        if weakness := who_else_may_write(self.folder):
            raise TargetError(f"{self.folder} is not safe, {weakness}", advice=SAFE_FOLDER)

    def _check_space(self, size_bytes: int) -> None:
        free = shutil.disk_usage(self.folder).free
        if free < size_bytes:
            raise TargetError(
                f"{self.folder} has {free:,} bytes free and {size_bytes:,} are needed", advice="make room there"
            )

    def _sync(self) -> None:
        handle = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    @contextmanager
    def _asked(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise TargetError(f"{error.filename} does not exist", advice="is the disk mounted?") from error
        except OSError as error:
            found = f"{error.filename or self.folder}: {error.strerror or type(error).__name__}"
            raise TargetError(found, advice=_ADVICE.get(error.errno or 0, "see what is wrong with the disk")) from error


@contextmanager
def _written_here(file: Path) -> Iterator[Callable[[bytes], None]]:
    """Writes a file on this host, of which no error speaks for the target's folder."""

    def refused(error: OSError) -> TargetError:
        return TargetError(
            f"{file} cannot be written on this host: {error.strerror or type(error).__name__}",
            advice="make room here, or name another backup_dir",
        )

    try:
        target = file.open("wb")
    except OSError as error:
        raise refused(error) from error

    def write(data: bytes) -> None:
        try:
            target.write(data)
            target.flush()
        except OSError as error:
            raise refused(error) from error

    try:
        yield write
    finally:
        with suppress(OSError):
            target.close()


def _partial(name: str) -> str:
    return f".{name}.partial"


def _copy(source: BufferedReader, write: Callable[[bytes], object], tell: Tell) -> None:
    done = 0
    while data := source.read(_CHUNK_BYTES):
        write(data)
        done += len(data)
        tell(done)
