"""Manifests: read only as they were written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flows.backup.files import list_backups
from flows.backup.manifest import read_manifest
from tests.support.backups import NOW, make_backup


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 2}', "\0" * 10, "x" * 100_000])
def test_read_manifest_of_a_broken_file_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "m").write_text(text)
    assert read_manifest(tmp_path / "m") is None


def test_read_manifest_follows_no_link_and_hangs_on_no_pipe(tmp_path: Path) -> None:
    dump = make_backup(tmp_path, "odoo", NOW)
    (tmp_path / "link").symlink_to(f"{dump}.json")
    os.mkfifo(tmp_path / "pipe")
    assert read_manifest(tmp_path / "link") is None
    assert read_manifest(tmp_path / "pipe") is None
    assert read_manifest(tmp_path) is None


def test_manifest_of_format_1_is_read(tmp_path: Path) -> None:
    path = Path(f"{make_backup(tmp_path, 'odoo', NOW)}.json")
    manifest = read_manifest(path)
    assert manifest is not None
    path.write_text(manifest.model_copy(update={"format": 1}).model_dump_json(indent=2, exclude_none=True) + "\n")
    assert read_manifest(path) == manifest.model_copy(update={"format": 1})
    assert [backup.verified for backup in list_backups(tmp_path, "odoo")] == [True]


def test_every_bit_of_a_manifest_counts(tmp_path: Path) -> None:
    path = Path(f"{make_backup(tmp_path, 'odoo', NOW)}.json")
    good = path.read_bytes()
    assert read_manifest(path) is not None
    accepted = []
    for place in range(len(good)):
        for bit in range(8):
            path.write_bytes(good[:place] + bytes([good[place] ^ 1 << bit]) + good[place + 1 :])
            if read_manifest(path) is not None:
                accepted.append((place, bit))
    for length in range(len(good)):
        path.write_bytes(good[:length])
        if read_manifest(path) is not None:
            accepted.append((length, -1))
    assert accepted == []
