"""Manifests: read only as they were written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flows.backup.folder import Folder
from flows.backup.manifest import read_manifest
from flows.backup.names import BackupName
from tests.support.backups import NOW, make_backup, manifest_at


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 2}', "\0" * 10, "x" * 100_000])
def test_read_manifest_of_broken_bytes_is_none(text: str) -> None:
    assert read_manifest(text.encode(), BackupName("odoo", NOW)) is None


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
