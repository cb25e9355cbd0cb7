"""The checksums by which a bucket shows that it holds what was sent."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from blocks.target_store import Proof, TargetError

PART_BYTES = 16 * 1024 * 1024
_MOST_PARTS = 10_000  # of one object, in S3
_MEBIBYTE = 1024 * 1024
_MD5 = re.compile(r"[0-9a-f]{32}(-[0-9]+)?")


def part_bytes(size_bytes: int) -> int:
    """The size of the parts in which a file of that size is sent: all of them but the last."""
    needed = -(-size_bytes // _MOST_PARTS)
    return max(PART_BYTES, -(-needed // _MEBIBYTE) * _MEBIBYTE)


def parts_of(file: Path, size_bytes: int) -> Iterator[bytes]:
    """The parts of a file that is `size_bytes` long; an empty one has one."""
    with file.open("rb") as source:
        yield source.read(part_bytes(size_bytes))
        while part := source.read(part_bytes(size_bytes)):
            yield part


@dataclass(frozen=True, slots=True)
class PartSum:
    """The sums of one part, in base64, as the headers of a request want them."""

    md5: str
    sha256: str


@dataclass
class Sums:
    """The sums of a file, computed part by part."""

    size_bytes: int = 0
    _whole: hashlib._Hash = field(default_factory=hashlib.sha256)
    _md5: list[bytes] = field(default_factory=list)
    _sha256: list[bytes] = field(default_factory=list)

    def add(self, part: bytes) -> PartSum:
        """Count the next part in."""
        self.size_bytes += len(part)
        self._whole.update(part)
        self._md5.append(hashlib.md5(part, usedforsecurity=False).digest())
        self._sha256.append(hashlib.sha256(part).digest())
        return PartSum(md5=_base64(self._md5[-1]), sha256=_base64(self._sha256[-1]))

    @property
    def sha256(self) -> str:
        """Of the whole file, in hexadecimal digits."""
        return self._whole.hexdigest()

    def proof(self, *, size_bytes: int, sha256: str | None, etag: str | None) -> Proof | None:
        """The part of a bucket's answer about an object that proves that it holds this file.

        None says that nothing does, not that it is another file: an ETag may be no MD5, where the bucket encrypts, and
        a sum may be made in another way than those of S3.
        """
        said = {Proof.SHA256: sha256 in self._composites()} if sha256 else {}
        if etag and _MD5.fullmatch(etag.strip('"')):
            said[Proof.MD5] = etag.strip('"') in self._etags()
        return next(iter(said), None) if size_bytes == self.size_bytes and all(said.values()) else None

    def _composites(self) -> set[str]:
        """As S3 spells it, with the number of parts at the end or without it."""
        if len(self._sha256) == 1:
            return {_base64(self._sha256[0]), *self._of_parts()}
        return self._of_parts()

    def _of_parts(self) -> set[str]:
        of_sums = _base64(hashlib.sha256(b"".join(self._sha256)).digest())
        return {of_sums, f"{of_sums}-{len(self._sha256)}"}

    def _etags(self) -> set[str]:
        """What is sent in one request has the MD5 itself; one part may also be all parts of an upload."""
        of_parts = f"{hashlib.md5(b''.join(self._md5), usedforsecurity=False).hexdigest()}-{len(self._md5)}"
        return {of_parts, self._md5[0].hex()} if len(self._md5) == 1 else {of_parts}


def sums_of(file: Path, size_bytes: int) -> Sums:
    """The sums of a file that is `size_bytes` long, in the parts in which it is sent."""
    sums = Sums()
    for part in parts_of(file, size_bytes):
        sums.add(part)
    return sums


def undamaged(file: Path, sums: Sums, sha256: str) -> Sums:
    """The sums, where they are those of the manifest. Raises TargetError."""
    if sums.sha256 != sha256:
        raise TargetError(
            f"{file} is damaged: its sha256 is not that of its manifest", advice="it was not uploaded; make a new one"
        )
    return sums


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()
