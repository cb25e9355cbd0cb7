"""The archive of a filestore: whole files, each as it was at one moment, and nothing that an unpacked copy shares."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import random
import subprocess
import sys
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.backup import filestore_archive as module
from flows.backup.filestore_archive import write_archive
from flows.backup.filestore_tree import Entry
from opsdb.errors import StepFailedError
from opsdb.places import filestore_environment
from opsdb.settings import Settings

SMALL, LARGE = 10, 3 * 1024 * 1024 + 17


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "filestore" / "odoo"
    folder.mkdir(parents=True)
    return folder


def settings(store: Path) -> Settings:
    return Settings(home=store.parents[1] / "home", filestore_dir=store.parent)


def archive(store: Path) -> Path:
    path = store.parents[1] / "a.tar.gz"
    with path.open("w+b") as file:
        made = write_archive(store, file, settings(store), store.parents[1] / "backups")
    data = path.read_bytes()
    assert (made["bytes"], made["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    return path


def members(path: Path) -> dict[bytes, bytes]:
    """Its files as GNU tar unpacks them."""
    subprocess.run(["gzip", "--test", path], check=True, capture_output=True)
    into = path.parent / "unpacked"
    into.mkdir()
    done = subprocess.run(["tar", "-xzf", path, "-C", into, "--keep-old-files"], check=True, capture_output=True)
    assert done.stderr == b""
    top = os.fsencode(into)
    return {
        os.path.relpath(os.path.join(at, name), top): Path(os.fsdecode(os.path.join(at, name))).read_bytes()  # noqa: PTH118
        for at, _, names in os.walk(top)
        for name in names
    }


def test_names_of_all_kinds_come_back(store: Path) -> None:
    names = [b"a\nb", b"-rf", b"\xff\xfe", "ż ó".encode(), b"x" * 255, b"d/" * 120 + b"deep", b"*", b"a\\b", b"$(id)"]
    for name in names:
        path = store / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name * 3)
    assert members(archive(store)) == {name: name * 3 for name in names}


def test_each_name_of_a_file_and_each_link_is_a_file_of_its_own(store: Path) -> None:
    (store / "one").write_text("one")
    (store / "same").hardlink_to(store / "one")
    (store / "link").symlink_to("one")
    (store / "ab").mkdir()
    (store / "cd").symlink_to("ab")
    with tarfile.open(archive(store)) as opened:
        kinds = {one.name: one.type for one in opened}
    assert kinds == {
        ".": tarfile.DIRTYPE,
        "./ab": tarfile.DIRTYPE,
        "./cd": tarfile.DIRTYPE,
        "./link": tarfile.REGTYPE,
        "./one": tarfile.REGTYPE,
        "./same": tarfile.REGTYPE,
    }


def test_empty_filestore_is_an_archive_without_files(store: Path) -> None:
    assert members(archive(store)) == {}


def test_large_and_sparse_files_take_no_memory(store: Path) -> None:
    with (store / "large").open("wb") as file:
        file.truncate(64 * 1024 * 1024)
    (store / "more").write_bytes(random.Random(1).randbytes(LARGE))
    tracemalloc.start()
    path = archive(store)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 * 1024 * 1024
    assert path.stat().st_size < LARGE + 1024 * 1024
    unpacked = members(path)
    assert unpacked[b"large"] == bytes(64 * 1024 * 1024)
    assert unpacked[b"more"] == random.Random(1).randbytes(LARGE)


Change = Callable[[Path, int], object]
"""Does something to a file that is read, the n-th time."""


def changing(monkeypatch: pytest.MonkeyPatch, path: Path, change: Change, *, before: bool) -> None:
    """Let it change before its bytes are read, when its size is known, or after."""
    copy, times = module._copy, []

    def copy_and_change(out: module.Compressed, entry: Entry, size: int, folder: Path) -> bool:
        if entry.name != f"./{path.name}":
            return copy(out, entry, size, folder)
        times.append(entry)
        if before:
            change(path, len(times))
        complete = copy(out, entry, size, folder)
        if not before:
            change(path, len(times))
        return complete

    monkeypatch.setattr(module, "_copy", copy_and_change)
    monkeypatch.setattr(module, "_WAIT_SECONDS", (0.0, 0.0, 0.0))


def shrink(path: Path, times: int) -> None:
    if times <= 2:
        os.truncate(path, path.stat().st_size - 4)


def grow(path: Path, times: int) -> None:
    if times <= 2:
        with path.open("ab") as file:
            file.write(b"more")


def rewrite(path: Path, times: int) -> None:
    if times == 1:
        path.write_bytes(bytes(path.stat().st_size))


def replace(path: Path, times: int) -> None:
    new = path.parent.parent / "new"
    if times == 1:
        new.write_bytes(b"other")
        new.rename(path)


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("change", [shrink, grow, rewrite])
def test_file_that_changes_while_it_is_read_is_read_again(
    store: Path, monkeypatch: pytest.MonkeyPatch, *, size: int, before: bool, change: Change
) -> None:
    contents = {b"a": b"a" * 700, b"b": random.Random(2).randbytes(size), b"c": b"c" * 700}
    for name, content in contents.items():
        (store / os.fsdecode(name)).write_bytes(content)
    changing(monkeypatch, store / "b", change, before=before)
    unpacked = members(archive(store))
    assert unpacked == contents | {b"b": (store / "b").read_bytes()}
    assert unpacked[b"b"] != contents[b"b"]


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_file_that_is_replaced_or_deleted_while_it_is_read_is_what_it_was(
    store: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    content = random.Random(3).randbytes(size)
    (store / "b").write_bytes(content)
    changing(monkeypatch, store / "b", replace, before=True)
    path = archive(store)
    assert members(path) == {b"b": content}
    (path.parent / "unpacked").rename(path.parent / "before")
    changing(monkeypatch, store / "b", lambda path, times: path.unlink(missing_ok=times > 1), before=True)
    assert members(archive(store)) == {b"b": b"other"}


def test_file_with_fewer_bytes_than_it_says_is_not_whole(store: Path, tmp_path: Path) -> None:
    """As where a server of files has not said yet that it shrank."""
    (store / "b").write_text("b")
    with (store / "b").open("rb") as file, (tmp_path / "a").open("w+b") as written:
        out, status = module.Compressed(written), os.fstat(file.fileno())
        entry = Entry("./b", file.fileno(), status, linked=False)
        assert module._copy(out, entry, status.st_size, store)
        assert not module._copy(out, entry, status.st_size + 1, store)


def test_file_that_changes_each_time_is_named(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (store / "b").write_text("b")
    changing(monkeypatch, store / "b", lambda path, _: grow(path, 1), before=True)
    with pytest.raises(StepFailedError, match=f"{store}/b changed each of the 4 times that it was read"):
        archive(store)


def test_archive_that_is_not_on_the_disk_as_it_was_written_is_found(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (store / "b").write_bytes(random.Random(4).randbytes(LARGE))
    check = module._check

    def damage_and_check(file: io.BufferedRandom, out: module.Compressed) -> None:
        file.seek(1_000_000)
        file.write(b"X")
        file.flush()
        check(file, out)

    monkeypatch.setattr(module, "_check", damage_and_check)
    with pytest.raises(StepFailedError, match="the archive on the disk is not what was written"):
        archive(store)


def program(store: Path, path: Path) -> subprocess.CompletedProcess[str]:
    env = {"FILESTORE": str(store), "ARCHIVE": str(path), "BACKUPS": str(path.parent)}
    env |= filestore_environment(settings(store))
    argv = [sys.executable, "-P", "-m", "flows.backup.filestore_archive"]
    return subprocess.run(argv, env=env, check=False, capture_output=True, text=True, timeout=60)


def test_program_prints_what_it_wrote_over_the_file_and_one_line_for_what_is_wrong(store: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(b"left" * 1000)
    (store / "one").write_text("one")
    (store / "link").symlink_to("one")
    done = program(store, path)
    assert done.stderr == ""
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert done.stdout == f"files: 2\nlinks: 1\nbytes: {path.stat().st_size}\n{sha256}  -\n"
    assert members(path) == {b"one": b"one", b"link": b"one"}
    (store / "x\ny").symlink_to("/etc/passwd")
    done = program(store, path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(rf"{store}/x\ny is a link to /etc/passwd, where runs may read no filestore")
    assert done.stderr.count("\n") == 1
    (store / "x\ny").unlink()
    (store / "link").unlink()
    backups = store.parent / "backups"
    backups.mkdir()
    (store / "link").symlink_to(backups)
    done = program(store, path.rename(backups / path.name))
    assert done.stderr == f"{store}/link is OPS_HOME or a folder of backups. Hint: keep it out of the filestore\n"


def test_full_disk_is_named(store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(_out: module.Compressed, _data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module.Compressed, "_send", refuse)
    path = store.parents[1] / "a.tar.gz"
    path.touch()
    assert module.run({"FILESTORE": str(store), "ARCHIVE": str(path), "BACKUPS": str(path.parent)}) == 1
    assert capsys.readouterr().err == "the archive cannot be written: No space left on device\n"
