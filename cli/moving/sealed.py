"""A stream that a passphrase seals: nobody without it can read a byte of it, or change, reorder, or cut it off unseen.

The key comes from the passphrase by scrypt, with a salt of its own for each file. Parts of 1 MiB are sealed with
AES-256-GCM, by a nonce that counts them and marks the last one: the STREAM construction, as `age` has it.
"""

from __future__ import annotations

import os
from typing import IO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from opsdb.errors import UsageError

MAGIC = b"ops-room-backup-1\n"
SALT_BYTES = 16
PART_BYTES = 1024 * 1024
TAG_BYTES = 16
COST = 2**17
"""128 MiB of memory and about half a second for each passphrase that somebody tries. It belongs to the format."""


class SealedWriter:
    """Seals what is written to it into a binary file. Without `close` the file counts as cut off."""

    def __init__(self, file: IO[bytes], passphrase: str) -> None:
        salt = os.urandom(SALT_BYTES)
        self._file = file
        self._cipher = _cipher(passphrase, salt)
        self._waiting = bytearray()
        self._number = 0
        file.write(MAGIC + salt)
        self._seal(b"", last=False)  # by this part alone a wrong passphrase differs from damage

    def write(self, data: bytes) -> int:
        """Take more; the file gets whole parts."""
        self._waiting += data
        while len(self._waiting) > PART_BYTES:  # the last part is sealed by close()
            self._seal(bytes(self._waiting[:PART_BYTES]), last=False)
            del self._waiting[:PART_BYTES]
        return len(data)

    def close(self) -> None:
        """Seal the end. The file stays open."""
        self._seal(bytes(self._waiting), last=True)
        self._waiting.clear()

    def _seal(self, part: bytes, *, last: bool) -> None:
        self._file.write(self._cipher.encrypt(_nonce(self._number, last=last), part, MAGIC))
        self._number += 1


class SealedReader:
    """Reads what a SealedWriter wrote, each byte proven before it is handed on.

    Its methods raise UsageError for a file of another kind, a wrong passphrase, and damage; `name` is what errors call
    the file.
    """

    def __init__(self, file: IO[bytes], passphrase: str, *, name: str) -> None:
        self._file = file
        self._name = name
        self._open = bytearray()
        self._number = 0
        self._over = False
        head = file.read(len(MAGIC) + SALT_BYTES)
        if not head.startswith(MAGIC) or len(head) < len(MAGIC) + SALT_BYTES:
            raise UsageError(f"{name} is not a backup of a room that this version can read (`ops db backup` makes one)")
        self._cipher = _cipher(passphrase, head[len(MAGIC) :])
        try:
            self._cipher.decrypt(_nonce(0, last=False), file.read(TAG_BYTES), MAGIC)
        except InvalidTag:
            raise UsageError(
                f"the passphrase does not open {name}, or its first bytes are damaged. Hint: try the passphrase again, "
                "without blanks at its ends; or take another copy of the file"
            ) from None
        self._number = 1
        self._ahead = file.read(PART_BYTES + TAG_BYTES)

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, fewer at the end alone."""
        while len(self._open) < size and not self._over:
            self._unseal()
        found = bytes(self._open[:size])
        del self._open[:size]
        return found

    def check_end(self) -> None:
        """Read and prove all that is left."""
        while self.read(PART_BYTES):
            pass

    def _unseal(self) -> None:
        part, self._ahead = self._ahead, self._file.read(PART_BYTES + TAG_BYTES)
        last = not self._ahead
        try:
            self._open += self._cipher.decrypt(_nonce(self._number, last=last), part, MAGIC)
        except InvalidTag:
            at = len(MAGIC) + SALT_BYTES + TAG_BYTES + (self._number - 1) * (PART_BYTES + TAG_BYTES)
            raise UsageError(
                f"{self._name} is damaged or cut off after {at:,} bytes. Hint: take another copy of it"
            ) from None
        self._number += 1
        self._over = last


def _cipher(passphrase: str, salt: bytes) -> AESGCM:
    return AESGCM(Scrypt(salt=salt, length=32, n=COST, r=8, p=1).derive(passphrase.encode()))


def _nonce(number: int, *, last: bool) -> bytes:
    """It never comes twice under one key: each file has its own."""
    return number.to_bytes(11, "big") + bytes([last])
