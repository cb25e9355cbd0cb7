"""The settings file of a room, `ops.toml`: where it is found, who may have written it, and what stands in it.

`docs/decisions/0037-settings-files.md` says why it is found and trusted in this way.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from opsdb.errors import UsageError
from opsdb.private_files import replace_private
from opsdb.setting_types import expanded
from opsdb.trust import who_else_may_write

NAME = "ops.toml"
NEAR = Path(".ops") / NAME
"""Where it is looked for in the working folder and its parents."""
ROOM_SIGNS = ("secrets.json", "room.json")
"""What a folder holds in which a room was started, by a version without settings files too."""
OF_THE_HOST = Path("/etc/ops") / NAME
LARGEST_BYTES = 1_000_000
HEAD = (
    "# Settings of this room: `ops settings` lists them, docs/settings.md explains them. No secrets.\n"
    "# `ops up` writes where the room is, and its ports; all else, these words included, is yours.\n"
)


@dataclass(frozen=True)
class SettingsFile:
    """A file that was found and may be believed. `values` are as TOML has them, by the name of the setting."""

    path: Path
    values: Mapping[str, object]
    text: str = field(repr=False)

    @property
    def home(self) -> Path | None:
        """The OPS_HOME that it names."""
        home = self.values.get("home")
        if home is None:
            return None
        if not isinstance(home, str) or not home:
            raise UsageError(f'{self.where("home")}: expected the path of a folder, as in home = "/opt/ops/.ops"')
        return self.absolute("home", home)

    def absolute(self, key: str, path: str) -> Path:
        """The path of a key as this file means it: a relative one begins where the file is. Raises UsageError."""
        try:
            return Path(os.path.normpath(self.path.parent / expanded(path)))
        except ValueError as error:
            raise UsageError(f"{self.where(key)}: {key}: {error}") from None

    def line(self, key: str) -> int | None:
        """The number of the line on which a key stands; None where it is unknown."""
        written = re.compile(rf"[ \t]*[\"']?{re.escape(key)}[\"']?[ \t]*=")
        return next((number for number, text in enumerate(self.text.splitlines(), 1) if written.match(text)), None)

    def where(self, key: str) -> str:
        """The place of a key, as an error begins with it."""
        line = self.line(key)
        return f"{self.path}, line {line}" if line else f"{self.path}: {key}"


@dataclass(frozen=True)
class Found:
    """The files that count for a room, the one that counts most first, and its OPS_HOME where a file or the working
    folder says it."""

    files: tuple[SettingsFile, ...] = ()
    home: Path | None = None
    home_from: SettingsFile | None = None


def find_files(home: Path | None, *, new: SettingsFile | None = None) -> Found:
    """The files of the room in `home`, or of the one that the working folder or the host leads to.

    `new` is a file that is yet to be written into a room without one; it counts as if it stood there.
    Raises UsageError for a file that another user may have written, or that cannot be read.
    """
    home, near = (home, None) if home else _nearest()
    host = read_file(OF_THE_HOST)
    leads = near or (host if host and host.home and not home else None)
    if leads:
        home = leads.home or leads.path.parent
    if home is None:  # there is no room yet
        return Found(files=(host,) if host else ())
    own = near if near and _same(near.path.parent, home) else read_file(home / NAME) or new
    if own and own.home and not _same(own.home, home):
        raise UsageError(
            f"{own.where('home')}: it leads to {own.home}, but this is the file of the room in {home}. "
            f'Hint: write home = "." there, or set OPS_HOME={own.home}'
        )
    candidates = (own, None if near is own else near, host)
    files = tuple(one for one in candidates if one and (one is own or one.home is None or _same(one.home, home)))
    return Found(files, home, leads)


def read_file(path: Path) -> SettingsFile | None:
    """One file; None when it is missing.

    Raises UsageError when it cannot be read, is not TOML, or may have been written by anybody but this user and root.
    """
    try:
        foreign = who_else_may_write(path)
        text = _read(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    if foreign:
        raise UsageError(
            f"{path} is not read: {foreign}, and settings decide what this user executes. Hint: delete it, give it and "
            "its folders to this user or root and close them to others, or name your room: OPS_HOME=/path/to/.ops"
        )
    return parse_file(path, text)


def parse_file(path: Path, text: str) -> SettingsFile:
    """The text of a settings file that may be believed, at its place. Raises UsageError when it is not TOML."""
    import tomllib  # most commands have no use for it

    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from None
    return SettingsFile(path, values, text)


def write_own(home: Path, ports: Mapping[str, int], *, defaults: Mapping[str, int]) -> bool:
    """Note in the file of a room where it is and on which ports, unless its files say so. Returns whether it changed.

    A default that no file contradicts is not written: it would hide what the file of the host says later. All else in
    the file stays as it is, comments and order included. Raises OSError, and UsageError as `find_files`.
    """
    path = home / NAME
    files = find_files(home).files
    own = next((one for one in files if one.path == path), None)
    said: dict[str, object] = {key: value for one in reversed(files) for key, value in one.values.items()}
    said = {**defaults, **said}
    changes: dict[str, int | str] = {key: port for key, port in ports.items() if str(said[key]) != str(port)}
    if "home" not in said:
        changes = {"home": ".", **changes}  # so it still is when the folder is moved
    if not changes:
        return False
    import tomlkit

    document = tomlkit.parse(own.text if own else HEAD)
    for key, value in changes.items():
        document[key] = value
    # through a link, which an operator may have made, and with the mode that it was given
    there = Path(os.path.realpath(path))
    replace_private(there, tomlkit.dumps(document), mode=stat.S_IMODE(there.stat().st_mode) if own else 0o600)
    return True


def _nearest() -> tuple[Path | None, SettingsFile | None]:
    """The folder of the nearest room, and its file if it has one; a room without one must not lead to that above."""
    try:
        here = Path.cwd()
    except FileNotFoundError:
        raise UsageError("the working folder was deleted. Hint: change to one that exists") from None
    for folder in (here, *here.parents):
        home = (folder / NEAR).parent
        found = read_file(home / NAME)
        if found or any(os.path.lexists(home / sign) for sign in ROOM_SIGNS):
            return home, found
    return None, None


def _read(path: Path) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe would let us wait
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise UsageError(f"{path} is not a regular file")
        content = file.read(LARGEST_BYTES + 1)
    if len(content) > LARGEST_BYTES:
        raise UsageError(f"{path} is larger than {LARGEST_BYTES:,} bytes")
    return content.decode()


def _same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)
