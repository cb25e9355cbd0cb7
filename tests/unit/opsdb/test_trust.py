"""Who else may write somewhere: each way by which another user could put something else there."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from opsdb.trust import who_else_may_write
from tests.support.programs import needs_root

NOBODY = 65534
AS_NOBODY: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of ours alone, with one in it."""
    (tmp_path / "above" / "last").mkdir(parents=True, mode=0o755)
    return tmp_path / "above" / "last"


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o500, 0o1755])
def test_nobody_else_writes_to_a_folder_of_ours(folder: Path, mode: int) -> None:
    folder.chmod(mode)
    assert who_else_may_write(folder) is None
    assert who_else_may_write(folder / "not" / "there" / "yet") is None


@pytest.mark.parametrize("mode", [0o777, 0o702, 0o1777])
def test_everybody_may_write_to_the_last_folder(folder: Path, mode: int) -> None:
    folder.chmod(mode)
    assert who_else_may_write(folder) == f"everybody may write to {folder}"


def test_everybody_may_rename_what_stands_in_an_open_folder(folder: Path) -> None:
    folder.parent.chmod(0o777)
    assert who_else_may_write(folder) == f"everybody may write to {folder.parent}"
    folder.parent.chmod(0o1777)
    assert who_else_may_write(folder) is None, "a sticky folder protects what is ours in it"


@needs_root
@pytest.mark.parametrize("chosen", [lambda last: last, lambda last: last.parent], ids=["the folder", "one above"])
def test_the_owner_may_write_whatever_the_mode_says(folder: Path, chosen: Callable[[Path], Path]) -> None:
    given = chosen(folder)
    given.chmod(0o555)
    os.chown(given, NOBODY, 0)
    assert who_else_may_write(folder) == f"{given} belongs to nobody"
    os.chown(given, 60_123, 0)
    given.chmod(0o1777)
    assert who_else_may_write(folder) == f"{given} belongs to uid 60123", "who owns a sticky folder removes all in it"


@needs_root
def test_a_group_with_others_in_it_may_write(folder: Path) -> None:
    folder.chmod(0o775)
    assert who_else_may_write(folder) is None, "only root is in root's group"
    os.chown(folder, 0, NOBODY)
    assert who_else_may_write(folder) == f"group nogroup may write to {folder}"
    os.chown(folder, 0, 60_123)
    assert who_else_may_write(folder) == f"group gid 60123 may write to {folder}"


def test_an_access_list_may_let_others_write(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.chmod(0o770)
    # as setfacl -m user:nobody:rwx leaves it, also on a file system that keeps no lists
    monkeypatch.setattr(os, "listxattr", lambda _path: ["system.posix_acl_access"])
    assert who_else_may_write(folder) == f"the access list of {folder} lets others write to it"


def test_a_link_is_judged_by_where_it_stands_and_where_it_leads(folder: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    for target in (folder, Path("above/last"), Path("above/../above/./last")):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        assert who_else_may_write(link / "new") is None
    folder.parent.chmod(0o777)
    assert who_else_may_write(link / "new") == f"everybody may write to {folder.parent}"
    folder.parent.chmod(0o755)
    tmp_path.chmod(0o777)
    assert who_else_may_write(link) == f"everybody may write to {tmp_path}"


@needs_root
def test_a_link_of_another_user_in_a_sticky_folder_is_his(folder: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    link = tmp_path / "link"
    link.symlink_to(folder)
    os.chown(link, NOBODY, NOBODY, follow_symlinks=False)
    assert who_else_may_write(link) == f"{link} belongs to nobody"


def test_links_in_a_circle_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    with pytest.raises(OSError, match="symbolic links"):
        who_else_may_write(tmp_path / "one" / "new")


@needs_root
def test_what_is_called_safe_another_user_cannot_change() -> None:
    """The kernel agrees: for each mode of two folders, that user tries to swap a file, or a folder, or to add one."""
    with tempfile.TemporaryDirectory() as passable:
        Path(passable).chmod(0o755)
        last = Path(passable) / "above" / "last"
        for above, mode in itertools.product((0o755, 0o775, 0o777, 0o1777), repeat=2):
            last.mkdir(parents=True)
            last.parent.chmod(above)
            last.chmod(mode)
            (last / "file").write_text("ours")
            swap = f"mv {last} {last}2 || mv {last}/file {last}/file2 || touch {last}/new"
            done = subprocess.run(["sh", "-c", swap], capture_output=True, check=False, **AS_NOBODY)
            assert (done.returncode == 0) == (who_else_may_write(last) is not None), (oct(above), oct(mode))
            shutil.rmtree(last.parent)
