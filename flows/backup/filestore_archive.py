"""Writes the archive of a filestore, as a step: `python -m flows.backup.filestore_archive`.

A process of its own, so that it ends with its step. Its environment says all: FILESTORE, ARCHIVE, which is there and is
written over, BACKUPS, the folder that it is in, and the settings by which links are judged. Prints how many `files: N`
are in it and `links: N` were followed, its size as `bytes: N`, and its sha256 as sha256sum does.

Each file is in it as it was at one moment: one that changes while it is read is read again. A link is in it as what it
leads to, and each name of a file as a file, so that an unpacked copy shares nothing with the filestore.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import stat
import sys
import tarfile
import time
import zlib
from collections.abc import Mapping
from io import BufferedRandom
from pathlib import Path

from flows.backup.filestore_tree import Entry, Fault, walk
from opsdb.errors import OpsError, StepFailedError
from opsdb.settings import Settings, load_settings
from opsdb.shown import shown

_PIECE_BYTES = 1024 * 1024
_LEVEL = 1  # attachments are compressed already, most of them
_WAIT_SECONDS = (0.1, 0.5, 2.0, 5.0)  # before a file that changed is read again


class Compressed:
    """A file that is written compressed. What was written since begin() can be taken back, whatever its size."""

    def __init__(self, file: BufferedRandom) -> None:
        self.plain_bytes = 0
        self.sha256 = hashlib.sha256()
        """Of the compressed bytes."""
        self._file = file
        self._gzip = zlib.compressobj(_LEVEL, zlib.DEFLATED, 31)
        self._pending = bytearray()
        self._begun = 0
        """Where in the pending bytes what can be taken back begins."""
        self._before: tuple[int, int, hashlib._Hash, zlib._Compress] | None = None
        """What was, when some of it was compressed already."""

    def begin(self) -> None:
        """Keep what was written so far."""
        self._begun, self._before = len(self._pending), None

    def write(self, data: bytes) -> None:
        """Raises OSError."""
        self._pending += data
        if len(self._pending) >= _PIECE_BYTES:
            self._flush()

    def take_back(self) -> None:
        """Drop what was written since begin()."""
        if self._before is None:
            del self._pending[self._begun :]
            return
        self._pending.clear()
        at, self.plain_bytes, self.sha256, self._gzip = self._before
        self._file.seek(at)
        self._file.truncate()
        self.begin()

    def close(self) -> None:
        """Write the end of it, and see it on the disk."""
        self.begin()
        self._flush()
        self._send(self._gzip.flush())
        self._file.flush()
        os.fsync(self._file.fileno())

    def _flush(self) -> None:
        if self._before is None:
            kept = self._pending[: self._begun]
            self._compress(kept)
            del self._pending[: self._begun]
            self._begun = 0
            self._before = (self._file.tell(), self.plain_bytes, self.sha256.copy(), self._gzip.copy())
        self._compress(self._pending)
        self._pending.clear()

    def _compress(self, data: bytearray) -> None:
        self.plain_bytes += len(data)
        self._send(self._gzip.compress(data))

    def _send(self, data: bytes) -> None:
        self.sha256.update(data)
        self._file.write(data)


def write_archive(folder: Path, file: BufferedRandom, settings: Settings, backups: Path) -> Mapping[str, int | str]:
    """Write what is in a filestore into an empty file; returns what is printed of it.

    Raises OSError, and StepFailedError for what cannot be archived, which it names.
    """
    out = Compressed(file)
    files = links = 0
    for found in walk(folder, settings, backups):
        if isinstance(found, Fault):
            raise StepFailedError(f"{found.path} {found.found}. Hint: {found.advice}")
        if found.is_file:
            _add_file(out, found, folder)
        else:
            out.write(_header(found.name, found.status))
        files += found.is_file
        links += found.linked
    out.write(bytes(2 * tarfile.BLOCKSIZE))
    out.close()
    _check(file, out)
    return {"files": files, "links": links, "bytes": file.seek(0, os.SEEK_END), "sha256": out.sha256.hexdigest()}


def _add_file(out: Compressed, entry: Entry, folder: Path) -> None:
    for wait in (*_WAIT_SECONDS, None):
        before = os.fstat(entry.handle)
        out.begin()
        out.write(_header(entry.name, before))
        if _copy(out, entry, before.st_size, folder) and _version(os.fstat(entry.handle)) == _version(before):
            out.write(bytes(-before.st_size % tarfile.BLOCKSIZE))
            return
        out.take_back()
        if wait is not None:
            time.sleep(wait)
    raise StepFailedError(
        f"{_shown(folder, entry)} changed each of the {len(_WAIT_SECONDS) + 1} times that it was read. Hint: Odoo "
        "never changes a file of its filestore: see what writes to it"
    )


def _copy(out: Compressed, entry: Entry, size: int, folder: Path) -> bool:
    """Whether the file had that many bytes."""
    os.lseek(entry.handle, 0, os.SEEK_SET)
    while size > 0:
        try:
            piece = os.read(entry.handle, min(size, _PIECE_BYTES))
        except OSError as error:
            raise StepFailedError(f"{_shown(folder, entry)} cannot be read: {error.strerror}") from error
        if not piece:
            return False
        out.write(piece)
        size -= len(piece)
    return True


def _version(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _shown(folder: Path, entry: Entry) -> str:
    return shown(f"{folder}{entry.name[1:]}")


def _header(name: str, status: os.stat_result) -> bytes:
    member = tarfile.TarInfo(name)
    member.mode, member.mtime = stat.S_IMODE(status.st_mode), int(status.st_mtime)
    member.uid, member.gid = status.st_uid, status.st_gid
    if stat.S_ISDIR(status.st_mode):
        member.type = tarfile.DIRTYPE
    else:
        member.size = status.st_size
    return member.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _check(file: BufferedRandom, out: Compressed) -> None:
    """Read it back from the disk, and decompress all of it. Raises StepFailedError."""
    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    file.seek(0)
    damaged = hashlib.file_digest(file, "sha256").digest() != out.sha256.digest()
    file.seek(0)
    plain_bytes = 0
    try:
        with gzip.GzipFile(fileobj=file, mode="rb") as plain:
            while piece := plain.read(_PIECE_BYTES):
                plain_bytes += len(piece)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        damaged = True
    if damaged or plain_bytes != out.plain_bytes:
        raise StepFailedError("the archive on the disk is not what was written: its sha256 differs")


def run(environment: Mapping[str, str]) -> int:
    """The program; returns its exit code. Errors are one line on stderr."""
    try:
        with Path(environment["ARCHIVE"]).open("r+b") as file:
            file.truncate()
            backups = Path(environment["BACKUPS"])
            made = write_archive(Path(environment["FILESTORE"]), file, load_settings(), backups)
    except OpsError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"the archive cannot be written: {error.strerror or type(error).__name__}", file=sys.stderr)
        return 1
    print("".join(f"{name}: {made[name]}\n" for name in ("files", "links", "bytes")), end="")
    print(f"{made['sha256']}  -")
    return 0


if __name__ == "__main__":
    sys.exit(run(os.environ))
