"""Manifests: read only as they were written."""

from __future__ import annotations

import os
import re
from datetime import timedelta
from pathlib import Path

import pytest

from flows.backup.folder import Folder
from flows.backup.keyring import Key, Keyring, Signature
from flows.backup.manifest import Manifest, read_manifest
from flows.backup.names import BackupName
from tests.support.backups import KEY, NOW, keyring_with, make_backup, manifest_at, with_sum


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 2}', "\0" * 10, "x" * 100_000])
def test_read_manifest_of_broken_bytes_is_none(text: str) -> None:
    assert read_manifest(text.encode(), BackupName("odoo", NOW)) == (None, None)


@pytest.mark.parametrize("odd", ["link", "pipe", "folder"])
def test_manifest_is_read_through_no_link_and_no_pipe_is_waited_for(tmp_path: Path, odd: str) -> None:
    path = Path(f"{make_backup(tmp_path, 'odoo', NOW)}.json")
    moved = path.rename(tmp_path / "moved")
    if odd == "link":
        path.symlink_to(moved)
    elif odd == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    assert [backup.manifest for backup in Folder(tmp_path).backups("odoo")] == [None]


def test_manifest_of_format_1_is_read(tmp_path: Path) -> None:
    path = Path(f"{make_backup(tmp_path, 'odoo', NOW)}.json")
    manifest = manifest_at(path)
    assert manifest is not None
    path.write_text(manifest.model_copy(update={"format": 1}).model_dump_json(indent=2, exclude_none=True) + "\n")
    assert manifest_at(path) == manifest.model_copy(update={"format": 1})
    assert [backup.verified for backup in Folder(tmp_path).backups("odoo")] == [True]


def text_of(name: BackupName, key: Key = KEY, **changes: object) -> str:
    manifest = Manifest(
        database=name.database,
        file=name.dump,
        created_at=name.created_at,
        size_bytes=4,
        sha256="0" * 64,
        tables=1,
        server_version="18.6",
        pg_dump_version="18.6",
        run_id="r",
    )
    return manifest.model_copy(update=changes).text(key)


NAME = BackupName("odoo", NOW)


def test_signature_says_who_signed(tmp_path: Path) -> None:
    keyring, other = Keyring(tmp_path / "keys"), Key(b"o" * 32)
    own = keyring.make_own()

    def judged(key: Key) -> Signature | None:
        read = read_manifest(text_of(NAME, key).encode(), NAME, keyring)
        assert read.manifest is not None
        return read.signature

    assert (judged(own), judged(other)) == (Signature.OURS, Signature.UNKNOWN_KEY)
    keyring.accept(other)
    assert (judged(own), judged(other)) == (Signature.OURS, Signature.KNOWN)
    assert read_manifest(text_of(NAME, own).encode(), NAME).signature is Signature.UNKNOWN_KEY


@pytest.mark.parametrize(
    "change", ['"size_bytes": 4>"size_bytes": 5', '"tables": 1>"tables": 2', '"run_id": "r">"run_id": "s"']
)
def test_changed_manifest_with_a_right_checksum_is_forged_and_none(tmp_path: Path, change: str) -> None:
    old, new = change.split(">")
    text = with_sum(text_of(NAME).replace(old, new))
    assert read_manifest(text.encode(), NAME, keyring_with(tmp_path / "keys")) == (None, Signature.WRONG)


def test_signature_of_another_backup_and_of_another_key_is_forged(tmp_path: Path) -> None:
    keyring, other = keyring_with(tmp_path / "keys"), Key(b"o" * 32)
    later = BackupName("odoo", NOW + timedelta(hours=1))
    signature = re.compile(r'"signature": "[0-9a-f]{64}"')
    taken = signature.findall(text_of(later))[0]
    assert read_manifest(with_sum(signature.sub(taken, text_of(NAME))).encode(), NAME, keyring).signature == "wrong"
    claimed = with_sum(text_of(NAME, other).replace(other.id, KEY.id))
    assert read_manifest(claimed.encode(), NAME, keyring) == (None, Signature.WRONG)
    assert read_manifest(text_of(later).encode(), NAME, keyring) == (None, None)


def test_format_3_without_its_signature_is_none_and_without_the_claim_unsigned(tmp_path: Path) -> None:
    keyring = keyring_with(tmp_path / "keys")
    stripped = re.sub(r'  "sign.*\n', "", text_of(NAME))
    assert read_manifest(with_sum(stripped).encode(), NAME, keyring) == (None, None)
    two = with_sum(text_of(NAME, format=2))
    assert read_manifest(two.encode(), NAME, keyring).signature is Signature.UNSIGNED
    one = text_of(NAME, format=1)
    assert read_manifest(one.encode(), NAME, keyring) == (None, None)
    assert read_manifest(one.partition('  "checksum"')[0].removesuffix(",\n").encode() + b"}", NAME, keyring).signature


@pytest.mark.parametrize("field", ["size_bytes", "database_bytes"])
@pytest.mark.parametrize("number", [-1, 2**63, 10**400], ids=["negative", "too large", "huge"])
def test_numbers_that_no_size_can_be_are_refused(field: str, number: int) -> None:
    assert read_manifest(text_of(NAME, KEY, **{field: number}).encode(), NAME) == (None, None)


def test_every_bit_of_a_manifest_counts(tmp_path: Path) -> None:
    path = Path(f"{make_backup(tmp_path, 'odoo', NOW)}.json")
    good = path.read_bytes()
    assert manifest_at(path) is not None
    accepted = []
    for place in range(len(good)):
        for bit in range(8):
            path.write_bytes(good[:place] + bytes([good[place] ^ 1 << bit]) + good[place + 1 :])
            if manifest_at(path) is not None:
                accepted.append((place, bit))
    for length in range(len(good)):
        path.write_bytes(good[:length])
        if manifest_at(path) is not None:
            accepted.append((length, -1))
    assert accepted == []
