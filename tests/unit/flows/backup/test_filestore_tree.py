"""What a filestore holds besides plain files, and what may be read of it: links are followed within the roots alone."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path

import pytest

from flows.backup.filestore_tree import Entry, Fault, walk
from opsdb.settings import Settings
from tests.support.other_user import NOBODY, as_nobody
from tests.support.programs import needs_root


class Place:
    """A filestore `odoo` with the file `ab/one`, beside it another one, a further root, and folders outside."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "filestore" / "odoo"
        self.other = folder / "filestore" / "other"
        self.root = folder / "root"
        self.outside = folder / "outside"
        for one in (self.store / "ab", self.other, self.root / "home", self.outside):
            one.mkdir(parents=True)
        for one, content in (
            (self.store / "ab" / "one", "one"),
            (self.other / "theirs", "theirs"),
            (self.root / "more", "more"),
            (self.root / "home" / "secrets.json", "secret"),
            (self.outside / "secret", "secret"),
        ):
            one.write_text(content)
        self.settings = Settings(
            home=self.root / "home", filestore_dir=folder / "filestore", filestore_roots=(self.root,)
        )

    def link(self, name: str, target: Path | str) -> None:
        (self.store / name).symlink_to(target)

    def walk(self) -> Iterator[Entry | Fault]:
        return walk(self.store, self.settings, self.root / "backups")

    def read(self) -> tuple[dict[str, bytes], list[str]]:
        """The files with their content, and what was wrong with the rest."""
        files, wrong = {}, []
        for found in self.walk():
            if isinstance(found, Fault):
                wrong.append(f"{found.path} {found.found}")
            elif found.is_file:
                files[found.name] = os.read(found.handle, 1000)
        return files, wrong


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def a_folder_elsewhere(place: Place) -> None:
    (place.root / "cd").mkdir()
    (place.root / "cd" / "two").write_text("two")
    place.link("cd", place.root / "cd")


def a_chain(place: Place) -> None:
    (place.outside / "on").symlink_to(place.root / "more")
    place.link("link", place.outside / "on")


FOLLOWED: dict[str, tuple[Callable[[Place], None], dict[str, bytes]]] = {
    "to a file": (lambda at: at.link("link", "ab/one"), {"./link": b"one"}),
    "to a folder": (lambda at: at.link("link", "ab"), {"./link/one": b"one"}),
    "to a file of another root": (lambda at: at.link("ab/link", at.root / "more"), {"./ab/link": b"more"}),
    "to a folder of another root": (a_folder_elsewhere, {"./cd/two": b"two"}),
    "to another filestore": (lambda at: at.link("link", "../other/theirs"), {"./link": b"theirs"}),
    "in a chain that ends inside": (a_chain, {"./link": b"more"}),
}


@pytest.mark.parametrize("kind", FOLLOWED)
def test_links_within_the_roots_are_followed(place: Place, kind: str) -> None:
    make, expected = FOLLOWED[kind]
    make(place)
    assert place.read() == ({"./ab/one": b"one"} | expected, [])


def a_chain_out(place: Place) -> None:
    (place.root / "on").symlink_to(place.outside)
    place.link("x", place.root / "on" / "secret")


def a_pipe_elsewhere(place: Place) -> None:
    os.mkfifo(place.root / "pipe")
    place.link("x", place.root / "pipe")


REFUSED: dict[str, tuple[Callable[[Place], None], str]] = {
    "to a file outside": (lambda at: at.link("x", "/etc/passwd"), "is a link to /etc/passwd, where runs may read no"),
    "to a file outside, in words of its own": (
        lambda at: at.link("x", "../../outside/secret"),
        "is a link to {outside}/secret, where runs may read no",
    ),
    "to a folder outside": (lambda at: at.link("x", at.outside), "is a link to {outside}, where runs may read no"),
    "through a link to a folder outside": (
        a_chain_out,
        "is a link to {outside}/secret, where runs may read no",
    ),
    "into the room": (
        lambda at: at.link("x", at.root / "home" / "secrets.json"),
        "is a link to {root}/home/secrets.json, where runs may read no",
    ),
    "to what the room is in": (lambda at: at.link("x", at.root), "/home is OPS_HOME or a folder of backups"),
    "to nothing": (lambda at: at.link("x", "gone"), "is a link to gone: No such file or directory"),
    "to nothing outside": (lambda at: at.link("x", "/mnt/gone/x"), "is a link to /mnt/gone/x: No such file"),
    "to itself": (lambda at: at.link("x", "x"), "is a link in a circle"),
    "to the filestore itself": (lambda at: at.link("x", "."), "leads back to a folder that it is in"),
    "to all filestores": (lambda at: at.link("x", ".."), "leads back to a folder that it is in"),
    "to a pipe": (a_pipe_elsewhere, "is a named pipe"),
    "no link but a pipe": (lambda at: os.mkfifo(at.store / "x"), "is a named pipe"),
    "no link but a socket": (lambda at: listen(at.store / "x"), "is a socket"),
}


def listen(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made, chdir(path.parent):  # a path that is short enough for it
        made.bind(path.name)


@pytest.mark.parametrize("kind", REFUSED)
def test_links_that_lead_elsewhere_and_what_is_no_file_are_named(place: Place, kind: str) -> None:
    make, expected = REFUSED[kind]
    make(place)
    files, wrong = place.read()
    expected = expected.format(outside=place.outside, root=place.root)
    assert [one for one in wrong if one.startswith(f"{place.store}/x") and expected in one], wrong
    assert files["./ab/one"] == b"one"
    assert b"secret" not in files.values()


@pytest.mark.parametrize("name", ["backups", "own", "nightly"])
def test_folder_of_backups_is_no_part_of_a_filestore_and_what_lies_deeper_may_be(place: Place, name: str) -> None:
    """That of the run, that of the room, and one of OPS_BACKUP_ROOTS."""
    backups = place.root / name
    (backups / "disk").mkdir(parents=True)
    (backups / "odoo.dump").write_text("dump")
    (backups / "disk" / "two").write_text("two")
    place.settings = place.settings.model_copy(
        update={"backup_dir": place.root / "own", "backup_roots": (place.root / "nightly",)}
    )
    place.link("a", backups)
    place.link("b", backups / "odoo.dump")
    place.link("c", backups / "disk")
    own = "OPS_HOME or a folder of backups"
    assert place.read() == (
        {"./ab/one": b"one", "./c/two": b"two"},
        [f"{place.store}/a is {own}", f"{place.store}/b is a link to {backups}/odoo.dump, in {own}"],
    )


@needs_root
def test_device_is_named_and_not_opened(place: Place) -> None:
    os.mknod(place.store / "x", 0o20666, os.makedev(240, 7))  # that of no driver
    assert place.read() == ({"./ab/one": b"one"}, [f"{place.store}/x is a device, and no file of a filestore"])


def link_of_a_user(path: Path, target: Path) -> Path:
    path.symlink_to(target)
    os.lchown(path, NOBODY, NOBODY)
    return path


def a_link_of_a_user(place: Place) -> Path:
    return link_of_a_user(place.store / "x", place.root / "more")


def a_link_to_a_link_of_a_user(place: Place) -> Path:
    place.link("x", place.outside / "on")
    return link_of_a_user(place.outside / "on", place.root / "more")


def a_link_through_a_folder_of_a_user(place: Place) -> Path:
    place.link("x", place.outside / "on" / "more")
    return link_of_a_user(place.outside / "on", place.root)


@needs_root
@pytest.mark.parametrize("make", [a_link_of_a_user, a_link_to_a_link_of_a_user, a_link_through_a_folder_of_a_user])
def test_link_of_a_user_is_not_followed_to_what_belongs_to_another(place: Place, make: Callable[[Place], Path]) -> None:
    """Root could read it: whoever gets the backup's copy would have it."""
    link = make(place)
    assert place.read() == (
        {"./ab/one": b"one"},
        [f"{place.store}/x leads to {place.root}/more of another user by {link}, a link of uid {NOBODY}"],
    )
    os.chown(place.root / "more", NOBODY, NOBODY)
    assert place.read() == ({"./ab/one": b"one", "./x": b"more"}, [])


def test_as_many_links_are_followed_as_the_kernel_follows(place: Place) -> None:
    (place.outside / "0").symlink_to(place.root / "more")
    for number in range(1, 40):
        (place.outside / str(number)).symlink_to(str(number - 1))
    place.link("x", place.outside / "38")
    assert place.read()[0]["./x"] == (place.store / "x").read_bytes() == b"more"
    place.link("y", place.outside / "39")
    assert place.read()[1] == [f"{place.store}/y is a link in a circle"]
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        (place.store / "y").read_bytes()


@needs_root
@pytest.mark.parametrize(
    ("name", "mode"), [("ab/deep/file", 0), ("ab/deep", 0), ("ab/deep", 0o400), ("ab/deep", 0o100), (".", 0)]
)
def test_what_our_user_may_not_read_or_enter_is_named(name: str, mode: int) -> None:
    with tempfile.TemporaryDirectory() as passable:
        Path(passable).chmod(0o755)
        place = Place(Path(passable))
        (place.store / "ab/deep").mkdir()
        (place.store / "ab/deep/file").write_text("deep")
        for path in (place.store, *place.store.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        closed = place.store / name
        closed.chmod(mode)
        with as_nobody():
            files, wrong = place.read()
        assert wrong == [f"{closed} may not be read by user nobody"]
        assert "./ab/deep/file" not in files


def swap(path: Path, target: Path) -> None:
    path.rename(f"{path}.moved")
    path.symlink_to(target)


def test_folder_that_is_swapped_for_a_link_is_the_one_that_was_opened(place: Place) -> None:
    (place.outside / "one").write_text("secret")
    files = {}
    for found in place.walk():
        assert isinstance(found, Entry)
        if found.name == "./ab":
            swap(place.store / "ab", place.outside)
        if found.is_file:
            files[found.name] = os.read(found.handle, 1000)
    assert files == {"./ab/one": b"one"}


def test_file_that_is_swapped_for_a_link_is_judged_as_that(place: Place) -> None:
    (place.store / "b").write_text("b")
    found = []
    for one in place.walk():
        if isinstance(one, Entry) and one.name == "./ab":
            swap(place.store / "b", place.outside / "secret")
        found.append(one)
    assert [one.path for one in found if isinstance(one, Fault)] == [str(place.store / "b")]


def test_filestore_that_is_swapped_for_a_link_is_refused(place: Place) -> None:
    swap(place.store, place.other)
    (found,) = place.walk()
    assert isinstance(found, Fault)
    place.store.unlink()
    swap(place.store.parent, place.outside)
    (place.outside / "odoo").mkdir()
    (found,) = place.walk()
    assert isinstance(found, Fault)
    assert "became a link meanwhile" in found.found


def test_file_and_folder_that_vanish_meanwhile_are_passed_over(place: Place) -> None:
    (place.store / "b").write_text("b")
    (place.store / "c").mkdir()
    names = []
    for found in place.walk():
        assert isinstance(found, Entry)
        if found.name == "./ab":
            (place.store / "b").unlink()
            (place.store / "c").rmdir()
        names.append(found.name)
    assert names == [".", "./ab", "./ab/one"]


def test_deep_folders_leave_no_handle_open(place: Place) -> None:
    deep = place.store
    for _ in range(300):
        deep = deep / "d"
        deep.mkdir()
    (deep / "file").write_text("deep")
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    assert place.read()[0]["./" + "d/" * 300 + "file"] == b"deep"
    walking = place.walk()
    for _ in range(100):
        next(walking)
    walking.close()  # type: ignore[attr-defined]  # a generator
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
