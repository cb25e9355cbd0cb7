"""The file that `ops db backup` makes: a sealed tar of a manifest, and of the parts that the manifest names."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tarfile
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import IO
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError

from cli.moving.sealed import PART_BYTES, SealedReader, SealedWriter
from opsdb.errors import OpsError, UsageError

FORMAT = 1
MANIFEST = "manifest.json"
OPS, PREFECT, ROLES, HOME = "ops.dump", "prefect.dump", "roles.json", "home.tar"
PARTS = (OPS, PREFECT, ROLES, HOME)
_LARGEST_MANIFEST = 8 * 1024 * 1024


class Part(BaseModel):
    """A file in the archive."""

    model_config = ConfigDict(extra="forbid")

    name: str
    size_bytes: int
    sha256: str


class Manifest(BaseModel):
    """What an archive says of itself. Times are aware, sizes are bytes."""

    model_config = ConfigDict(extra="forbid")

    format: int = FORMAT
    id: UUID
    created_at: datetime
    host: str
    home: str
    room_ran: bool
    """Whether the room worked while it was backed up: then it may have done more since."""
    ops_version: str
    prefect_version: str
    schema_revision: str
    server_version: str
    pg_dump_version: str
    ops_snapshot_at: datetime
    prefect_snapshot_at: datetime
    """Taken right after that of the record, before either is dumped. What lies between, the sync repeats."""
    database_bytes: int
    """What the room's tables take on disk in both databases."""
    unfinished: dict[str, int]
    """Runs that were not over, by their status."""
    entries: list[str]
    """Names in OPS_HOME that go along."""
    left: dict[str, str]
    """What is not in the archive, and why or what to do about it."""
    environment: list[str]
    """Settings that the room had from its environment, by name."""
    roles: list[str] = []
    """The roles of the record that a restore makes as they were, beside those of every room."""
    settings_file: str = ""
    """The text of `ops.toml` in OPS_HOME, which decides what the databases are called."""
    parts: list[Part]

    @property
    def size_bytes(self) -> int:
        """All parts together."""
        return sum(part.size_bytes for part in self.parts)

    @property
    def apart_seconds(self) -> float:
        """Between the two snapshots."""
        return (self.prefect_snapshot_at - self.ops_snapshot_at).total_seconds()


def describe_part(name: str, file: IO[bytes]) -> Part:
    """A part by what stands in its file."""
    file.seek(0)
    sha256, size_bytes = _copy(file, None)
    return Part(name=name, size_bytes=size_bytes, sha256=sha256)


def write_archive(path: Path, passphrase: str, manifest: Manifest, files: Mapping[str, IO[bytes]]) -> None:
    """Write, read again and publish an archive under a name that is free; the file is closed to others.

    Until it has been read again, it has another name. Raises UsageError where the name is taken, and OpsError.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w+b") as file:
                _write(file, passphrase, manifest, files)
                file.flush()
                os.fsync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)  # what is proven is what the disk has
                file.seek(0)
                verify_archive(file, passphrase, name=str(partial))
            _name(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except FileExistsError:
        raise UsageError(f"{path} already exists. Hint: name another file; a backup overwrites none") from None
    except OSError as error:
        raise OpsError(f"{path} could not be written: {error.strerror}. Nothing is left of it") from error
    try:
        _sync_folder(path.parent)
    except OSError as error:
        raise OpsError(
            f"{path} is whole, but its folder could not be written to the disk ({error.strerror}): it may be gone "
            "after a power failure. Hint: check that disk, and make another backup"
        ) from error


def verify_archive(file: IO[bytes], passphrase: str, *, name: str) -> Manifest:
    """Read all of an archive, and compare each part with the manifest. Raises UsageError."""
    return _read(file, passphrase, name, None)


def unpack_archive(file: IO[bytes], passphrase: str, *, name: str, to: Path) -> Manifest:
    """Verify it, and write its parts into a folder, down to the disk. Raises UsageError, and OSError."""
    manifest = _read(file, passphrase, name, to)
    _sync_folder(to)
    return manifest


def read_manifest(file: IO[bytes], passphrase: str, *, name: str) -> Manifest:
    """The manifest alone, which stands first. Raises UsageError."""
    with _opened(file, passphrase, name) as (_, tar):
        return _manifest(tar, name)


def _name(partial: Path, path: Path) -> None:
    """Give it its name, if that is free. Raises FileExistsError."""
    try:
        os.link(partial, path)
    except FileExistsError:
        raise
    except OSError:  # a disk that knows no hard links
        if os.path.lexists(path):
            raise FileExistsError from None
        partial.rename(path)


def _write(file: IO[bytes], passphrase: str, manifest: Manifest, files: Mapping[str, IO[bytes]]) -> None:
    sealed = SealedWriter(file, passphrase)
    with tarfile.open(fileobj=sealed, mode="w|", bufsize=PART_BYTES) as tar:  # type: ignore[call-overload]  # it writes
        text = manifest.model_dump_json(indent=2).encode()
        _add(tar, MANIFEST, io.BytesIO(text), len(text))
        for part in manifest.parts:
            files[part.name].seek(0)
            _add(tar, part.name, files[part.name], part.size_bytes)
    sealed.close()


def _add(tar: tarfile.TarFile, name: str, file: IO[bytes], size_bytes: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size_bytes, 0o600
    tar.addfile(info, file)


def _read(file: IO[bytes], passphrase: str, name: str, to: Path | None) -> Manifest:
    with _opened(file, passphrase, name) as (sealed, tar):
        manifest = _manifest(tar, name)
        for part in manifest.parts:
            info = tar.next()
            member = tar.extractfile(info) if info and info.name == part.name and info.isreg() else None
            if member is None or _copy(member, to / part.name if to else None) != (part.sha256, part.size_bytes):
                raise UsageError(f"{name}: {part.name} is not what its manifest says. Hint: take another copy of it")
        sealed.check_end()
        return manifest


@contextlib.contextmanager
def _opened(file: IO[bytes], passphrase: str, name: str) -> Iterator[tuple[SealedReader, tarfile.TarFile]]:
    sealed = SealedReader(file, passphrase, name=name)
    try:
        with tarfile.open(fileobj=sealed, mode="r|", bufsize=PART_BYTES) as tar:  # type: ignore[call-overload]  # it reads
            yield sealed, tar
    except tarfile.TarError:
        raise UsageError(f"{name} is not a backup of a room: its sealed content is not a tar archive") from None


def _manifest(tar: tarfile.TarFile, name: str) -> Manifest:
    info = tar.next()
    member = tar.extractfile(info) if info and info.name == MANIFEST and info.size <= _LARGEST_MANIFEST else None
    text = member.read() if member else b""
    try:
        found = Manifest.model_validate_json(text)
    except ValidationError as error:
        if b'"format"' in text and (newer := _format(text)) > FORMAT:
            raise UsageError(
                f"{name} has format {newer}, and this version reads up to {FORMAT}. Hint: install the version of the "
                "room that made it, or a newer one"
            ) from None
        raise UsageError(f"{name}: its manifest cannot be read ({error.error_count()} errors)") from None
    if {part.name for part in found.parts} != set(PARTS):
        raise UsageError(f"{name}: its manifest does not name the parts {', '.join(PARTS)}")
    return found


def _format(text: bytes) -> int:
    import json

    with contextlib.suppress(ValueError, TypeError, AttributeError):
        return int(json.loads(text).get("format", 0))
    return 0


def _copy(member: IO[bytes], path: Path | None) -> tuple[str, int]:
    """Its SHA-256 and size, and it itself in a file where one is named."""
    digest, size_bytes = hashlib.sha256(), 0
    with contextlib.ExitStack() as stack:
        file = None
        if path is not None:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            file = stack.enter_context(os.fdopen(handle, "wb"))
        while data := member.read(PART_BYTES):
            digest.update(data)
            size_bytes += len(data)
            if file:
                file.write(data)
        if file:
            file.flush()
            os.fsync(file.fileno())
    return digest.hexdigest(), size_bytes


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
