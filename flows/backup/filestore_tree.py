"""The files and folders of a filestore, opened one after another. No link leads out of where runs may read."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from opsdb.places import refuse_filestore, this_user
from opsdb.settings import Settings
from opsdb.shown import shown

_LOOK = os.O_PATH | os.O_CLOEXEC  # opens anything without touching it: a device, a pipe, what may not be read
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_MOST_LINKS = 40  # that the kernel follows, one after another
_OWN = "OPS_HOME or a folder of backups"
_KINDS = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or folder, open for reading until the next one is asked for."""

    name: str
    """Its path from the filestore, which is `.`: `./ab/abcdef`."""
    handle: int
    status: os.stat_result
    linked: bool
    """Whether a link stands under that name."""

    @property
    def is_file(self) -> bool:
        """Whether it is a file: else it is a folder."""
        return stat.S_ISREG(self.status.st_mode)


class Fault(NamedTuple):
    """What cannot be archived: where, what is wrong with it, and what to do about it."""

    path: str
    found: str
    advice: str


class _Link(NamedTuple):
    """A link that was followed."""

    place: Path
    owner: int


class _RefusedError(Exception):
    def __init__(self, found: str, advice: str) -> None:
        super().__init__(found)
        self.found = found
        self.advice = advice


@dataclass(frozen=True, slots=True)
class _Level:
    """A folder on the way down."""

    name: str
    handle: int
    identity: tuple[int, int]
    names: Iterator[str]


def find_top(folder: Path, settings: Settings) -> Path | Fault:
    """Where a filestore is: links in its path are followed by the rule of walk()."""
    links: list[_Link] = []
    root = os.open("/", _LOOK)
    try:
        handle = _open_through(root, str(folder), links)
    except OSError as error:
        return _fault(shown(str(folder)), error)
    finally:
        os.close(root)
    try:
        _check_target(handle, links, settings)
        return _place(handle)
    except _RefusedError as error:
        return Fault(shown(str(folder)), error.found, error.advice)
    finally:
        os.close(handle)


def walk(top: Path, settings: Settings, backups: Path) -> Iterator[Entry | Fault]:
    """What is in a filestore, each folder before what is in it, in the order of names.

    `top` is what find_top() found, a path without links. Folders are opened from the one above, and a link is judged
    by what it opened: who swaps names meanwhile leads nowhere else. A link is followed to a file or folder where runs
    may read filestores; it, and each link that it leads through, belongs to root, to us, or to the owner of that file
    or folder. What vanishes meanwhile is passed over.

    No folder of backups is archived, of which `backups` is the run's, nor a file in one.
    """
    walking = _Walk(top, settings, backups)
    try:
        yield from walking.visit(walking.open_top())
        while walking.levels:
            level = walking.levels[-1]
            name = next(level.names, None)
            if name is None:
                os.close(walking.levels.pop().handle)
            else:
                yield from walking.visit(walking.open(level, name))
    finally:
        for level in walking.levels:
            os.close(level.handle)


class _Walk:
    """The folders from the filestore down to where the walk is."""

    def __init__(self, top: Path, settings: Settings, backups: Path) -> None:
        self.levels: list[_Level] = []
        self._top = top
        self._settings = settings
        own = (settings.home, *settings.backup_folders, backups)
        self._own = {_identity(one.stat()) for one in own if os.path.exists(one)}  # noqa: PTH110 - one may be closed to us

    def visit(self, found: Entry | Fault | None) -> Iterator[Entry | Fault]:
        """Yield it, and go into a folder."""
        refused = found if isinstance(found, Fault) else None
        if isinstance(found, Entry):
            try:
                yield found
                refused = None if found.is_file else self._enter(found)
            finally:
                os.close(found.handle)
        if refused is not None:
            yield refused

    def open_top(self) -> Entry | Fault:
        """The filestore itself."""
        try:
            handle = os.open(self._top, _READ | os.O_DIRECTORY)
        except OSError as error:
            return _fault(str(self._top), error)
        if _place(handle) != self._top:
            os.close(handle)
            return Fault(str(self._top), "became a link meanwhile, which is not followed", "see who may write there")
        return Entry(".", handle, os.fstat(handle), linked=False)

    def open(self, level: _Level, name: str) -> Entry | Fault | None:
        """What stands under a name in a folder; None where nothing does any more."""
        own = f"{level.name}/{name}"
        try:
            seen = os.open(name, _LOOK | os.O_NOFOLLOW, dir_fd=level.handle)
        except FileNotFoundError:
            return None
        except OSError as error:
            return _fault(self._path(own), error)
        try:
            status = os.fstat(seen)
            linked = stat.S_ISLNK(status.st_mode)
            if linked:
                link, seen = seen, _follow(level.handle, seen, status, self._settings)
                os.close(link)
                status = os.fstat(seen)
                if not stat.S_ISDIR(status.st_mode):
                    self._check_not_own(_place(seen))
            _check_kind(status)
            return Entry(own, os.open(f"/proc/self/fd/{seen}", _READ), status, linked)
        except _RefusedError as error:
            return Fault(self._path(own), error.found, error.advice)
        except OSError as error:
            return _fault(self._path(own), error)
        finally:
            os.close(seen)

    def _enter(self, folder: Entry) -> Fault | None:
        identity = _identity(folder.status)
        if identity in self._own:
            return Fault(self._path(folder.name), f"is {_OWN}", "keep it out of the filestore")
        if any(identity == level.identity for level in self.levels):
            return Fault(self._path(folder.name), "leads back to a folder that it is in", "remove the link")
        try:
            os.stat(".", dir_fd=folder.handle)  # it may be read and yet not entered
            names = sorted(os.listdir(folder.handle))  # noqa: PTH208 - a Path has no handle
        except OSError as error:
            return _fault(self._path(folder.name), error)
        self.levels.append(_Level(folder.name, os.dup(folder.handle), identity, iter(names)))
        return None

    def _check_not_own(self, place: Path) -> None:
        """For a file: a folder beside backups may be a filestore's. Raises OSError and _RefusedError."""
        if _identity(place.parent.stat()) in self._own:
            raise _RefusedError(f"is a link to {shown(str(place))}, in {_OWN}", "keep it out of the filestore")

    def _path(self, name: str) -> str:
        return shown(f"{self._top}{name[1:]}")


def _follow(parent: int, link: int, status: os.stat_result, settings: Settings) -> int:
    """What an open link of the folder leads to, opened without reading it. Raises OSError and _RefusedError."""
    target, links = os.readlink("", dir_fd=link), [_Link(_place(link), status.st_uid)]
    try:
        handle = _open_through(parent, target, links)
    except OSError as error:
        what = "in a circle" if error.errno == errno.ELOOP else f"to {shown(target)}: {error.strerror}"
        raise _RefusedError(f"is a link {what}", "bring back what it leads to, or remove the link") from error
    try:
        _check_target(handle, links, settings)
    except BaseException:
        os.close(handle)
        raise
    return handle


def _open_through(start: int, path: str, links: list[_Link]) -> int:
    """Open what a path leads to, without reading it, and add the links on the way. Raises OSError.

    The kernel would follow them without a word about whose they are.
    """
    here, left = os.dup(start), list(reversed(Path(path).parts))
    try:
        while left:
            seen = _look(here, left.pop())
            status = os.fstat(seen)
            if not stat.S_ISLNK(status.st_mode):
                os.close(here)
                here = seen
                continue
            try:
                links.append(_Link(_place(seen), status.st_uid))
                if len(links) > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                left += reversed(Path(os.readlink("", dir_fd=seen)).parts)
            finally:
                os.close(seen)
    except BaseException:
        os.close(here)
        raise
    return here


def _look(folder: int, name: str) -> int:
    """Open what stands under a name, a link as that. Asked for a folder, the kernel mounts what it mounts on demand."""
    try:
        return os.open(name, _LOOK | os.O_NOFOLLOW | os.O_DIRECTORY, dir_fd=folder)
    except NotADirectoryError:
        return os.open(name, _LOOK | os.O_NOFOLLOW, dir_fd=folder)


def _check_target(handle: int, links: list[_Link], settings: Settings) -> None:
    place = _place(handle)
    if refuse_filestore(place, settings):
        raise _RefusedError(
            f"is a link to {shown(str(place))}, where runs may read no filestore",
            "put the files themselves there, or add the folder that they are in to OPS_FILESTORE_ROOTS and start the "
            "room again",
        )
    trusted = (0, os.geteuid(), os.fstat(handle).st_uid)
    for link in links:
        if link.owner not in trusted:
            raise _RefusedError(
                f"leads to {shown(str(place))} of another user by {shown(str(link.place))}, a link of uid {link.owner}",
                "let root, or the owner of what it leads to, make the link",
            )


def _check_kind(status: os.stat_result) -> None:
    if kind := _KINDS.get(stat.S_IFMT(status.st_mode)):
        raise _RefusedError(f"is {kind}, and no file of a filestore", "remove it, or move it out of the filestore")


def _place(handle: int) -> Path:
    """Where what is open is now."""
    return Path(f"/proc/self/fd/{handle}").readlink()


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _fault(path: str, error: OSError) -> Fault:
    if isinstance(error, PermissionError):
        user = this_user()
        return Fault(path, f"may not be read by {user}", f"give {user} the right to read it and to enter its folders")
    return Fault(path, f"cannot be read: {error.strerror}", "correct that")
