"""What counts as proof that a bucket holds what was sent."""

from __future__ import annotations

import base64
import hashlib
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from blocks import checksums
from blocks.checksums import PART_BYTES, part_bytes, sums_of
from blocks.target_store import Proof

TEBIBYTE = 1024**4
md5 = partial(hashlib.md5, usedforsecurity=False)


@pytest.mark.parametrize("size", [0, 1, PART_BYTES, PART_BYTES * 10_000, PART_BYTES * 10_000 + 1, 5 * TEBIBYTE])
def test_no_file_has_more_parts_than_s3_takes(size: int) -> None:
    assert -(-size // part_bytes(size)) <= 10_000
    assert part_bytes(size) >= PART_BYTES


def base64_of(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def test_sums_are_those_of_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "PART_BYTES", 4)
    monkeypatch.setattr(checksums, "_MEBIBYTE", 1)
    file = tmp_path / "file"
    file.write_bytes(b"0123456789")
    sums = sums_of(file, 10)
    assert (sums.sha256, sums.size_bytes) == (hashlib.sha256(b"0123456789").hexdigest(), 10)
    parts = [b"0123", b"4567", b"89"]
    etag = md5(b"".join(md5(one).digest() for one in parts)).hexdigest() + "-3"
    whole = base64_of(hashlib.sha256(b"".join(hashlib.sha256(one).digest() for one in parts)).digest())
    agreed: dict[str, Any] = {"size_bytes": 10, "sha256": f"{whole}-3", "etag": f'"{etag}"'}
    assert sums.proof(**agreed) is Proof.SHA256
    assert sums.proof(**agreed | {"sha256": whole}) is Proof.SHA256
    assert sums.proof(**agreed | {"sha256": None}) is Proof.MD5
    assert sums.proof(**agreed | {"etag": None}) is Proof.SHA256
    assert sums.proof(**agreed | {"etag": '"no-md5-at-all"'}) is Proof.SHA256
    wrongs: list[dict[str, Any]] = [
        {"size_bytes": 9},
        {"sha256": f"{whole}-2"},
        {"sha256": base64_of(hashlib.sha256(b"0123456789").digest())},
        {"etag": etag.replace("-3", "-2")},
        {"etag": "0" * 32},
        {"sha256": None, "etag": None},
        {"sha256": None, "etag": '"no-md5-at-all"'},
    ]
    for wrong in wrongs:
        assert sums.proof(**agreed | wrong) is None, wrong


def test_one_part_has_its_own_sum(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"one")
    sums = sums_of(file, 3)
    etag, sha256 = md5(b"one").hexdigest(), base64_of(hashlib.sha256(b"one").digest())
    assert sums.proof(size_bytes=3, sha256=sha256, etag=f'"{etag}"') is Proof.SHA256
    assert sums.proof(size_bytes=3, sha256=sha256, etag=f'"{etag}-1"') is None


def test_one_part_may_be_all_parts_of_an_upload(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"one")
    etag = f'"{md5(md5(b"one").digest()).hexdigest()}-1"'
    assert sums_of(file, 3).proof(size_bytes=3, sha256=None, etag=etag) is Proof.MD5
