"""A backup's filestore, unpacked into a new folder."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from flows.backup.attachments import differing_attachments, stored
from flows.backup.contents import summary
from flows.backup.folder import OpenFiles, check_space
from flows.backup.manifest import Manifest
from flows.backup.names import BackupName
from flows.backup.repository import Backup
from flows.engine.active_run import current_run
from flows.engine.preflight import missing_programs
from flows.engine.progress import read
from flows.engine.step import step
from opsdb.errors import PreflightError, StepFailedError
from opsdb.places import refuse_entry, refuse_filestore
from opsdb.trust import SAFE_FOLDER, who_else_may_write

FILESTORE_SECONDS = 3600
_LIBC = ctypes.CDLL(None, use_errno=True)
_RENAME_EXCHANGE = 2  # as in linux/fs.h
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NAME_BYTES = 255  # of a file or folder on any file system of Linux
_MOUNTS = Path("/proc/self/mountinfo")
_LEFT_OUT = re.compile(r"^left out: (.+)$", re.MULTILINE)

# Whoever unpacks owns the files and may read and write all of them, and nobody else may, whatever the archive says; no
# file runs as somebody else. Archives of this room hold files and folders alone. Those of older ones hold links as
# well: one that leads out of the new folder would share files with another, and is left out, as are pipes and devices.
# In a folder of another user, Odoo's, root works as that user: no link that is put there leads root anywhere.
AS_OWNER = """\
umask 077
cd -- "$PARENT"
owner() {
  if [ -n "$OWNER" ]; then
    setpriv --reuid="${OWNER%:*}" --regid="${OWNER#*:}" --clear-groups -- "$@"
  else
    "$@"
  fi
}
"""
UNPACK = f"""\
{AS_OWNER}
owner mkdir -- "$UNPACKED"
gzip --decompress --stdout -- "$ARCHIVE" \\
  | owner tar --extract --file=- --directory="$UNPACKED" --no-same-owner --no-same-permissions --keep-old-files
owner chmod --recursive u+rwX -- "$UNPACKED"
inside=$(owner realpath -- "$UNPACKED")
while IFS= read -r -d '' odd; do
  [ -L "$odd" ] && [[ "$(owner readlink --canonicalize-missing -- "$odd")" = "$inside"/* ]] && continue
  owner rm -- "$odd"
  printf 'left out: %q\\n' "${{odd#"$UNPACKED"/}}"
done < <(owner find "$UNPACKED" ! -type f ! -type d -print0)
wait "$!"  # whether all was looked at
owner sync --file-system -- "$UNPACKED"
"""


class Unpacked:
    """A folder under a name of the run, until keep() gives it its own.

    The folder around it is opened once, and judged as it is then: whatever stands under its name later changes nothing.
    """

    def __init__(self, target: Path | None, *, partial: str = "") -> None:
        self.target = target
        self.left_out: list[str] = []
        """What the archive held besides files and folders, and is missing: the last of it, if it is very much."""
        self._name = partial or f".{current_run().id.hex}.partial"  # short, however long the target's is
        self.environment: dict[str, str] = {}
        """Of steps that work in the folder around it, by AS_OWNER."""
        self._parent: int | None = None

    @property
    def partial(self) -> Path | None:
        """Where it is, for this process."""
        return None if self._parent is None else Path(f"/proc/self/fd/{self._parent}") / self._name

    def open(self, target: Path) -> dict[str, str]:
        """The environment of the step that unpacks. Raises PreflightError where that may not happen there any more."""
        if current_run().plan is not None:
            self.environment = {"PARENT": str(target.parent), "UNPACKED": f"./{self._name}"}
            return self.environment
        self._parent = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        shutil.rmtree(self._name, ignore_errors=True, dir_fd=self._parent)  # of an attempt that was killed
        here, found = f"/proc/self/fd/{self._parent}", os.fstat(self._parent)
        _check_parent(Path(here).readlink(), target.name)
        owner = f"{found.st_uid}:{found.st_gid}" if _is_anothers(found) else ""
        parent = here.replace("self", str(os.getpid()))
        self.environment = {"PARENT": parent, "UNPACKED": f"./{self._name}", "OWNER": owner}
        return self.environment

    def is_target_there(self) -> bool:
        """Whether its own name is taken."""
        return self.target is not None and self._parent is not None and _is_there(self._parent, self.target.name)

    def keep(self) -> None:
        """Give it its own name. Raises StepFailedError where that is taken meanwhile."""
        if self.target is None or self._parent is None:
            return
        if self.is_target_there():
            raise StepFailedError(f"{self.target} was made meanwhile: the filestore was not put there")
        os.rename(self._name, self.target.name, src_dir_fd=self._parent, dst_dir_fd=self._parent)

    def take_back(self) -> None:
        """Undo keep()."""
        if self.target is not None and self._parent is not None:
            os.rename(self.target.name, self._name, src_dir_fd=self._parent, dst_dir_fd=self._parent)

    def exchange(self) -> None:
        """Give it the name of the folder that is there, and that one its own, at once. Again, it is undone.

        Raises StepFailedError where the file system cannot do that.
        """
        if self.target is None or self._parent is None:
            return
        try:
            _exchange(self._parent, self._name, self.target.name)
        except OSError as error:
            raise StepFailedError(f"{_cannot_exchange(self.target, error)}: nothing was replaced") from error

    def remove(self, names: Collection[str]) -> int:
        """Remove files from it, named as `xx/sha1`; returns how many were there. Follows no link."""
        if self._parent is None:
            return 0
        removed = 0
        folder = os.open(self._name, _OPEN_FOLDER, dir_fd=self._parent)
        try:
            for name in names:
                inside, _, file = name.rpartition("/")
                with suppress(OSError):  # holds() says what is left
                    handle = os.open(inside, _OPEN_FOLDER, dir_fd=folder)
                    try:
                        os.unlink(file, dir_fd=handle)
                        removed += 1
                    finally:
                        os.close(handle)
        finally:
            os.close(folder)
        return removed

    def holds(self, names: Collection[str]) -> list[str]:
        """Those of the named files that are in it, in order."""
        partial = self.partial
        return sorted(name for name in names if partial is not None and os.path.lexists(partial / name))

    def close(self) -> None:
        """Remove what was not kept, or what was exchanged for it."""
        if self._parent is not None:
            shutil.rmtree(self._name, ignore_errors=True, dir_fd=self._parent)
            os.close(self._parent)
            self._parent = None


@contextmanager
def unpacked(opened: OpenFiles, name: BackupName, target: Path | None, *, partial: str = "") -> Iterator[Unpacked]:
    """The filestore in a partial folder beside `target`, which is removed at the end unless it was kept.

    `partial` is its name until then, by default one of the run's. What stands there is removed first: with a name that
    the next run gives too, that is what a killed one left.
    """
    with closing(Unpacked(target, partial=partial)) as files:
        if target is not None:
            env = {"ARCHIVE": opened.paths[name.filestore], **files.open(target)}
            output = step("filestore", UNPACK, timeout=FILESTORE_SECONDS, env=env, progress=read(env["ARCHIVE"]))
            files.left_out = _LEFT_OUT.findall(output.stdout or "")
        yield files


def compare_unpacked(manifest: Manifest, names: set[str], files: Unpacked) -> None:
    """Read every unpacked file that is named. Raises StepFailedError where one is not what was backed up."""
    if manifest.attachments is None or files.partial is None:
        return
    if wrong := differing_attachments(manifest.attachments, names, stored(files.partial, names)):
        raise StepFailedError(f"the filestore was not unpacked as it was: {summary(wrong)}")


def check_new_folder(backup: Backup, manifest: Manifest, target: Path, *, replaces: bool = False) -> None:
    """The backup has a filestore, and `target` can be made for it and has room. Raises PreflightError.

    Where it `replaces` one, a folder may be there.
    """
    if too_long := [one for one in target.parts if len(os.fsencode(one)) > _NAME_BYTES]:
        raise PreflightError(
            f"{target} cannot be made: {too_long[0]} has more than {_NAME_BYTES} bytes. Hint: choose a shorter name"
        )
    if manifest.filestore is None:
        raise PreflightError(f"{manifest.file} was made without a filestore: leave filestore_dir empty")
    if manifest.filestore.file in backup.lost:
        raise PreflightError(
            f"{backup.repository.url(manifest.filestore.file)} is missing or not whole, so that no filestore can be "
            "unpacked. Hint: choose another backup, name the target that has a copy, or leave filestore_dir empty to "
            "restore the database alone"
        )
    if missing := missing_programs("gzip", "tar"):
        raise PreflightError(f"not on the PATH: {', '.join(missing)}. Hint: install gzip and tar")
    if refusal := refuse_entry(target.parent, write=True):
        raise PreflightError(f"the filestore cannot be unpacked as {target}: {refusal}")
    if target.is_symlink() or (target.exists() and not (replaces and target.is_dir())):
        raise PreflightError(f"filestore_dir: {target} already exists, and it is not touched: choose a new folder")
    if not target.parent.is_dir():
        raise PreflightError(f"filestore_dir: there is no folder {target.parent}: make it first")
    _check_parent(target.parent, target.name)
    check_space(target.parent, {"the unpacked filestore": manifest.filestore.size_bytes})  # it is hardly less


def check_exchange(target: Path) -> None:
    """A folder that is there can be exchanged for another one beside it, once that is whole. Raises PreflightError.

    Two empty folders beside it are exchanged for a moment: a file system says in no other way whether it can do that.
    """
    if not target.is_dir() or refuse_entry(target.parent, write=True):  # which check_new_folder() says
        return
    mounted = str(target.resolve()).replace("\\", "\\134").replace(" ", "\\040")  # as proc_pid_mountinfo(5) has it
    if any(line.split()[4] == mounted for line in _MOUNTS.read_text().splitlines()):
        raise PreflightError(
            f"filestore_dir: {target} is a mount point, and cannot be exchanged for a new folder. Hint: mount its file "
            f"system at {target.parent}"
        )
    parent = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # it may be a link
    made = [f".ops-{current_run().id.hex}-{number}" for number in (1, 2)]

    def remove() -> None:
        for name in made:
            with suppress(FileNotFoundError):
                os.rmdir(name, dir_fd=parent)

    try:
        remove()  # what an attempt left that was killed here
        for name in made:
            os.mkdir(name, mode=0o700, dir_fd=parent)
        _exchange(parent, *made)
    except OSError as error:
        raise PreflightError(
            f"filestore_dir: {_cannot_exchange(target, error)}. Hint: name a folder on ext4, xfs, btrfs or tmpfs, or "
            "restore to a new name with odoo_db_restore"
        ) from error
    finally:
        remove()
        os.close(parent)


def _exchange(parent: int, one: str, other: str) -> None:
    """Let two entries of a folder change their names at once. Raises OSError."""
    if _LIBC.renameat2(parent, os.fsencode(one), parent, os.fsencode(other), _RENAME_EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _cannot_exchange(target: Path, error: OSError) -> str:
    return f"the file system of {target.parent} cannot exchange two folders ({error.strerror})"


def _check_parent(parent: Path, name: str) -> None:
    """A filestore may be unpacked in this folder. Raises PreflightError."""
    if refusal := refuse_filestore(parent / name, current_run().settings):
        raise PreflightError(refusal)
    if _is_anothers(parent.stat()):
        if missing := missing_programs("setpriv"):
            raise PreflightError(f"not on the PATH: {', '.join(missing)}. Hint: install util-linux")
    elif found := who_else_may_write(parent):
        raise PreflightError(f"the folder {parent} is not safe: {found}. Hint: {SAFE_FOLDER}")


def _is_anothers(found: os.stat_result) -> bool:
    """Whether a folder is another user's, in which root works as that user."""
    return os.geteuid() == 0 and found.st_uid != 0


def _is_there(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
