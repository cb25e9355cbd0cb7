"""Which backups may go, wherever they lie."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from flows.backup.manifest import Manifest
from flows.backup.names import BackupName

KEPT_AT_LEAST = 3
"""Verified backups of a database that stay whatever their age: what is wrong with the newest may be noticed late."""


class Kept(Protocol):
    """A backup wherever it lies."""

    @property
    def name(self) -> BackupName:
        """Its database and time."""

    @property
    def manifest(self) -> Manifest | None:
        """What makes it ours."""

    @property
    def verified(self) -> bool:
        """Whether it was verified when it was made, and all of it still has its size."""

    @property
    def signed(self) -> bool:
        """Whether its manifest is signed with a key of the room."""


B = TypeVar("B", bound=Kept)


def prunable(
    backups: Iterable[B], *, now: datetime, retention_days: int, keep_at_least: int = KEPT_AT_LEAST
) -> list[B]:
    """Those of one database's backups that may be deleted, oldest first.

    That is what has a manifest and is older than `retention_days` at `now`, but never one of the `keep_at_least`
    newest verified ones, and nothing at all where there are fewer: a damaged dump may then be the best there is. The
    same number of signed ones stays: who has no key must not drive them out with backups of his own.
    """
    if retention_days < 1 or keep_at_least < 1:
        raise ValueError("retention_days and keep_at_least must be 1 or more")
    ours = sorted((one for one in backups if one.manifest is not None), key=lambda one: one.name.created_at)
    verified = [one for one in ours if one.verified]
    if len(verified) < keep_at_least:
        return []
    signed = [one for one in verified if one.signed]
    kept = {one.name for one in (*verified[-keep_at_least:], *signed[-keep_at_least:])}
    limit = now - timedelta(days=retention_days)
    return [one for one in ours if one.name.created_at < limit and one.name not in kept]
