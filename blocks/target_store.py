"""What a backup target can do, be it a folder or a bucket."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from opsdb.errors import OpsError

LARGEST_READ = 16 * 1024 * 1024
"""Bytes of a file that is read into memory: a manifest is not larger."""

Tell = Callable[[int], None]
"""Gets the bytes of a file that are done."""


def silent(_done: int) -> None:
    """Tells nobody."""


class Proof(StrEnum):
    """By what it is known that a file arrived as it was sent."""

    SHA256 = "sha256"
    """That of the file or its parts, as the place computed it."""
    MD5 = "md5"
    """Likewise."""
    READ_BACK = "read back"
    """All of it was read again and hashed."""


class TargetError(OpsError):
    """A backup target did not do what was asked: what it was, and what to do about it. No secret stands in it."""

    def __init__(self, found: str, *, advice: str) -> None:
        super().__init__(f"{found}: {advice}")
        self.found = found
        self.advice = advice


class TargetAwayError(TargetError):
    """It does not answer: it may later, with nothing changed here."""


class TakenError(TargetError):
    """Somebody else wrote under that name just now."""


class SameFolderError(TargetError):
    """It is the very place where the backups lie already."""


class Store(Protocol):
    """Files under names. All methods raise TargetError."""

    @property
    def place(self) -> str:
        """Where it is, as an operator calls it."""

    @property
    def public(self) -> Mapping[str, str]:
        """What another process needs to know in order to reach it, without the secrets."""

    @property
    def secrets(self) -> Mapping[str, str]:
        """What it needs besides, as environment variables."""

    @property
    def proofs(self) -> Sequence[Proof]:
        """By what put() has known in this process that files arrived, each once."""

    @property
    def refusals(self) -> Sequence[str]:
        """What the place has refused in this process and was done without, with what follows from it."""

    def url(self, name: str) -> str:
        """Where a file is."""

    def look(self) -> None:
        """Return when it is there and lets us in. Changes nothing."""

    def is_beside(self, folder: Path) -> bool:
        """Whether it is on the disk of this folder, as far as is known. Raises SameFolderError where it is that."""

    def sizes(self, start: str = "") -> dict[str, int]:
        """The size in bytes of each file whose name begins with `start`."""

    def read(self, name: str) -> bytes:
        """A small file, of which no more is read than a manifest may be large."""

    def sha256(self, name: str) -> str:
        """The sum of all bytes of a file, read there now."""

    def put(self, file: Path, *, sha256: str, tell: Tell = silent) -> bool:
        """Copy a file there, under its own name, and compare what arrived. Overwrites nothing.

        Returns False where the same file exists. What did not arrive as it was sent is removed again.
        """

    def get(self, name: str, file: Path, *, tell: Tell = silent) -> None:
        """Copy a file from there to `file`."""

    def delete(self, name: str) -> None:
        """Delete a file. Deleting a missing file is not an error."""

    def drop_unfinished(self, ours: Callable[[str], bool]) -> list[str]:
        """Drop what broken-off put() left under names that are `ours`. Returns the names.

        Where the place does not let it be found, that is one of the `refusals`.
        """
