"""The keys by which manifests are signed: the room's own, and those of other rooms whose backups it accepts."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from opsdb.errors import UsageError
from opsdb.private_files import make_private, read_private
from opsdb.settings import Settings

KEY_ID = r"[0-9a-f]{16}"
_KEY = re.compile(r"ops-backup-key-([0-9a-f]{64})\n?")


class Signature(StrEnum):
    """Who signed a manifest, as far as the keys of this room tell."""

    OURS = "ours"
    KNOWN = "known"
    """By a room whose key was imported."""
    UNKNOWN_KEY = "unknown key"
    UNSIGNED = "unsigned"
    """Formats 1 and 2."""
    WRONG = "wrong"
    """It names a key of this keyring, which did not make it: the manifest is forged."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key of 32 bytes for HMAC-SHA-256."""

    secret: bytes = field(repr=False)

    @property
    def id(self) -> str:
        """What stands in manifests for it, and says nothing about it."""
        return hashlib.sha256(b"ops backup key\0" + self.secret).hexdigest()[:16]

    @property
    def text(self) -> str:
        """It as a line: a secret."""
        return f"ops-backup-key-{self.secret.hex()}\n"

    def sign(self, text: str) -> str:
        """The signature of a text, in hexadecimal."""
        return hmac.digest(self.secret, text.encode(), "sha256").hex()


def parse_key(text: str) -> Key | None:
    """The key in a line, or None for another line."""
    match = _KEY.fullmatch(text)
    return Key(bytes.fromhex(match[1])) if match else None


@dataclass(frozen=True, slots=True)
class Keyring:
    """A folder with a file for each key, which are never replaced. All methods raise UsageError for a bad file."""

    folder: Path

    @property
    def own_path(self) -> Path:
        """The file of the room's own key."""
        return self.folder / "own"

    def own(self) -> Key | None:
        """The key that signs; None where none was needed so far."""
        return _read(self.own_path)

    def make_own(self) -> Key:
        """The same, made by the first call. Two first calls at once agree on one key."""
        if self.own() is None:
            _write(self.own_path, Key(secrets.token_bytes(32)))
        key = self.own()
        if key is None:
            raise UsageError(f"{self.own_path} was deleted right after it was made")
        return key

    def accept(self, key: Key) -> bool:
        """Accept what another room signs with this key; False where it is accepted already."""
        if self._find(key.id) is not None:
            return False
        _write(self.folder / key.id, key)
        return True

    def accepted(self) -> list[str]:
        """The ids of the accepted keys of other rooms."""
        found = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        return [path.name for path in found if re.fullmatch(KEY_ID, path.name) and self._find(path.name)]

    def judge(self, text: str, *, key_id: str, signature: str) -> Signature:
        """Who signed the text."""
        key = self._find(key_id)
        if key is None:
            return Signature.UNKNOWN_KEY
        if not hmac.compare_digest(key.sign(text), signature):
            return Signature.WRONG
        return Signature.OURS if key == self.own() else Signature.KNOWN

    def _find(self, key_id: str) -> Key | None:
        own = self.own()
        if own is not None and own.id == key_id:
            return own
        path = self.folder / key_id
        key = _read(path)
        if key is not None and key.id != key_id:
            raise UsageError(f"{path} holds key {key.id}: rename it to that, or delete it")
        return key


def room_keyring(settings: Settings) -> Keyring:
    """The keys of the room of these settings."""
    return Keyring(settings.home / "backup-keys")


def _read(path: Path) -> Key | None:
    try:
        key = parse_key(read_private(path))
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        key = None
    if key is None:
        raise UsageError(f"{path} is broken: restore it from a copy; without one, move it away")
    return key


def _write(path: Path, key: Key) -> None:
    try:
        make_private(path, key.text)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
