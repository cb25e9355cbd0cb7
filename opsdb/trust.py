"""Whether a path leads where it says: only root and we can change it, or any folder above it."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
from pathlib import Path

SAFE_FOLDER = "give it and the folders above to this user or root, and close them to others, or choose another"
"""What to do about a folder where somebody else may write."""
_LONGEST_CHAIN = 40  # of links, as for the kernel


def who_else_may_write(path: Path) -> str | None:
    """Who beside root and us could put something else at `path`, as the start of an error; None where nobody could.

    Judged are the folders from `/` down to it, those that a link on the way leads to, and the link itself. A sticky
    folder is safe for what stands in it, but not as the last folder of the path. A missing path is not judged: we
    make it ourselves. Raises OSError for a path that cannot be looked at.
    """
    rest, at, links = [*reversed(path.absolute().parts[1:])], Path("/"), 0
    if found := _weakness(at, at.lstat(), last=not rest):
        return found
    while rest:
        part = rest.pop()
        if part == "..":
            at = at.parent
            continue
        here = at / part
        try:
            status = here.lstat()
        except FileNotFoundError:
            return None
        if found := _weakness(here, status, last=not rest):
            return found
        if stat.S_ISLNK(status.st_mode):
            links += 1
            if links > _LONGEST_CHAIN:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
            target = here.readlink()
            at = Path("/") if target.is_absolute() else at
            rest += reversed(target.parts[1:] if target.is_absolute() else target.parts)
        else:
            at = here
    return None


def _weakness(path: Path, found: os.stat_result, *, last: bool) -> str | None:
    if found.st_uid not in _trusted():
        return f"{path} belongs to {_user(found.st_uid)}"
    if stat.S_ISLNK(found.st_mode) or (found.st_mode & stat.S_ISVTX and not last):
        return None  # a link has no mode, and from a sticky folder nobody removes what is another's
    if found.st_mode & stat.S_IWOTH:
        return f"everybody may write to {path}"
    if found.st_mode & stat.S_IWGRP:
        if _has_access_list(path):  # its mask stands where the group's bits do
            return f"the access list of {path} lets others write to it"
        if not _is_ours_alone(found.st_gid):
            return f"group {_group(found.st_gid)} may write to {path}"
    return None


def _trusted() -> set[int]:
    """Whoever owns `/` can change everything: root, who in a user namespace has another number."""
    return {0, os.geteuid(), Path("/").stat().st_uid}


def _is_ours_alone(gid: int) -> bool:
    """Whether a group is root's, or a user's own as Debian makes them, and nobody else is in it."""
    trusted = _trusted()
    own = {entry.pw_name for entry in pwd.getpwall() if entry.pw_uid in trusted}
    if any(entry.pw_gid == gid and entry.pw_uid not in trusted for entry in pwd.getpwall()):
        return False
    try:
        members = set(grp.getgrgid(gid).gr_mem)
    except KeyError:
        members = set()
    return gid in {0, os.getegid()} and members <= own


def _has_access_list(path: Path) -> bool:
    try:
        return "system.posix_acl_access" in os.listxattr(path)
    except OSError:  # a file system without them
        return False


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return f"gid {gid}"
