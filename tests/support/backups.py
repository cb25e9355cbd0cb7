"""Backups as successful runs leave them, without a database."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import strategies as st

from flows.backup.keyring import Key, Keyring
from flows.backup.manifest import Manifest, read_manifest
from flows.backup.names import BackupName, parse_name
from flows.backup.repository import Backup

NOW = datetime(2026, 3, 1, 2, 0, 0, tzinfo=UTC)
KEY = Key(b"k" * 32)
"""That of the room which made all backups here, unless a test says otherwise."""


def keyring_with(folder: Path, key: Key = KEY) -> Keyring:
    """A keyring in a folder that accepts a key."""
    keyring = Keyring(folder)
    keyring.accept(key)
    return keyring


def unsigned_text(manifest: Manifest) -> str:
    """A manifest as the room wrote it before it signed: what anybody can write."""
    old = manifest.model_copy(update={"format": 2})
    return with_sum(old.model_dump_json(indent=2, exclude_none=True).removesuffix("\n}") + ",\n")


def with_sum(text: str) -> str:
    """The lines of a manifest with a right checksum at their end, instead of the one that is there."""
    head = text.partition('  "checksum": "')[0]
    return f'{head}  "checksum": "{hashlib.sha256(head.encode()).hexdigest()}"\n}}\n'


def make_backup(folder: Path, database: str, created_at: datetime, content: bytes = b"dump") -> Path:
    """Write a dump and its manifest as a successful run leaves them."""
    name = BackupName(database, created_at)
    manifest = Manifest(
        database=database,
        file=name.dump,
        created_at=created_at,
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        tables=1,
        server_version="18.6",
        pg_dump_version="18.6",
        run_id="r",
    )
    (folder / name.dump).write_bytes(content)
    (folder / name.manifest).write_text(manifest.text(KEY))
    return folder / name.dump


def days_ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def dumps(backups: list[Backup]) -> list[str]:
    return [backup.name.dump for backup in backups]


def manifest_at(path: Path) -> Manifest | None:
    """The manifest in a file that is named for it."""
    name = parse_name(path.name.removesuffix(".json"))
    assert name is not None
    return read_manifest(path.read_bytes(), name).manifest


def rewrite(dump: Path, **changes: object) -> None:
    """Give the dump another manifest, one that is as good as any."""
    path = Path(f"{dump}.json")
    manifest = manifest_at(path)
    assert manifest is not None
    path.write_text(manifest.model_copy(update=changes).text(KEY))


kinds = st.sampled_from(["good", "damaged", "without manifest"])
