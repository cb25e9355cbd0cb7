"""Attachments: files are named by their content, so an archive can be held against the rows that name them."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from flows.backup.attachments import archived, differing_attachments, find_faults, stored


def name_of(content: bytes) -> str:
    sha1 = hashlib.sha1(content, usedforsecurity=False).hexdigest()
    return f"{sha1[:2]}/{sha1}"


GOOD, OTHER, LOST = (name_of(content) for content in (b"good", b"other", b"lost"))


def archive(path: Path, files: dict[str, bytes]) -> str:
    with tarfile.open(path, "w:gz") as opened:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            opened.addfile(member, io.BytesIO(content))
    return str(path)


def test_archive_is_held_against_the_names(tmp_path: Path) -> None:
    files = {f"./{GOOD}": b"good", f"./{OTHER}": b"damaged", "./checklist/ab/cd": b"", "./more": b"x"}
    faults = find_faults({GOOD, OTHER, LOST}, archived(archive(tmp_path / "a", files)))
    assert (faults.lost, faults.damaged) == ([LOST], [OTHER])


@pytest.mark.parametrize(
    ("files", "wrong"),
    [
        ({GOOD: b"good", OTHER: b"other"}, []),
        ({GOOD: b"good"}, [f"attachment {OTHER} is missing"]),
        ({GOOD: b"bad", OTHER: b"other"}, [f"attachment {GOOD} is damaged: its SHA-1 differs"]),
        ({}, [f"attachment {one} is missing" for one in sorted((GOOD, OTHER))]),
    ],
)
@pytest.mark.promise(11)
def test_what_production_had_lost_is_no_difference_and_all_else_is(
    tmp_path: Path, files: dict[str, bytes], wrong: list[str]
) -> None:
    names = {GOOD, OTHER, LOST}
    then = find_faults(names, archived(archive(tmp_path / "then", {GOOD: b"good", OTHER: b"other"})))
    assert differing_attachments(then.recorded(3), names, archived(archive(tmp_path / "now", files))) == wrong


def test_unpacked_files_are_read_through_no_link(tmp_path: Path) -> None:
    for name, content in ((GOOD, b"good"), (OTHER, b"other")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / OTHER).rename(tmp_path / "moved")
    (tmp_path / OTHER).symlink_to(tmp_path / "moved")
    assert find_faults({GOOD, OTHER}, stored(tmp_path, {GOOD, OTHER})).lost == [OTHER]
