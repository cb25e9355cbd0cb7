"""A backup's filestore, unpacked into a new folder."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

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
_NAME_BYTES = 255  # of a file or folder on any file system of Linux
_LEFT_OUT = re.compile(r"^left out: (.+)$", re.MULTILINE)

# Whoever unpacks owns the files and may read and write all of them, and nobody else may, whatever the archive says; no
# file runs as somebody else. Archives of this room hold files and folders alone. Those of older ones hold links as
# well: one that leads out of the new folder would share files with another, and is left out, as are pipes and devices.
# In a folder of another user, Odoo's, root works as that user: no link that is put there leads root anywhere.
UNPACK = """\
umask 077
cd -- "$PARENT"
owner() {
  if [ -n "$OWNER" ]; then
    setpriv --reuid="${OWNER%:*}" --regid="${OWNER#*:}" --clear-groups -- "$@"
  else
    "$@"
  fi
}
owner mkdir -- "$UNPACKED"
gzip --decompress --stdout -- "$ARCHIVE" \\
  | owner tar --extract --file=- --directory="$UNPACKED" --no-same-owner --no-same-permissions --keep-old-files
owner chmod --recursive u+rwX -- "$UNPACKED"
inside=$(owner realpath -- "$UNPACKED")
while IFS= read -r -d '' odd; do
  [ -L "$odd" ] && [[ "$(owner readlink --canonicalize-missing -- "$odd")" = "$inside"/* ]] && continue
  owner rm -- "$odd"
  printf 'left out: %q\\n' "${odd#"$UNPACKED"/}"
done < <(owner find "$UNPACKED" ! -type f ! -type d -print0)
wait "$!"  # whether all was looked at
owner sync --file-system -- "$UNPACKED"
"""


class Unpacked:
    """A folder under a name of the run, until keep() gives it its own.

    The folder around it is opened once, and judged as it is then: whatever stands under its name later changes nothing.
    """

    def __init__(self, target: Path | None) -> None:
        self.target = target
        self.left_out: list[str] = []
        """What the archive held besides files and folders, and is not there: the last of it, if it is very much."""
        self._name = f".{current_run().id.hex}.partial"  # short, however long the target's is
        self._parent: int | None = None

    @property
    def partial(self) -> Path | None:
        """Where it is, for this process."""
        return None if self._parent is None else Path(f"/proc/self/fd/{self._parent}") / self._name

    def open(self, target: Path) -> dict[str, str]:
        """The environment of the step that unpacks. Raises PreflightError where that may not happen there any more."""
        if current_run().plan is not None:
            return {"PARENT": str(target.parent), "UNPACKED": f"./{self._name}"}
        self._parent = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        here, found = f"/proc/self/fd/{self._parent}", os.fstat(self._parent)
        _check_parent(Path(here).readlink(), target.name)
        owner = f"{found.st_uid}:{found.st_gid}" if _is_anothers(found) else ""
        return {"PARENT": here.replace("self", str(os.getpid())), "UNPACKED": f"./{self._name}", "OWNER": owner}

    def keep(self) -> None:
        """Give it its own name. Raises StepFailedError where that is taken meanwhile."""
        if self.target is None or self._parent is None:
            return
        if _is_there(self._parent, self.target.name):
            raise StepFailedError(f"{self.target} was made meanwhile: the filestore was not put there")
        os.rename(self._name, self.target.name, src_dir_fd=self._parent, dst_dir_fd=self._parent)

    def take_back(self) -> None:
        """Undo keep()."""
        if self.target is not None and self._parent is not None:
            os.rename(self.target.name, self._name, src_dir_fd=self._parent, dst_dir_fd=self._parent)

    def close(self) -> None:
        """Remove what was not kept."""
        if self._parent is not None:
            shutil.rmtree(self._name, ignore_errors=True, dir_fd=self._parent)
            os.close(self._parent)
            self._parent = None


@contextmanager
def unpacked(opened: OpenFiles, name: BackupName, target: Path | None) -> Iterator[Unpacked]:
    """The filestore in a partial folder beside `target`, which is removed at the end unless it was kept."""
    with closing(Unpacked(target)) as files:
        if target is not None:
            env = {"ARCHIVE": opened.paths[name.filestore], **files.open(target)}
            output = step("filestore", UNPACK, timeout=FILESTORE_SECONDS, env=env, progress=read(env["ARCHIVE"]))
            files.left_out = _LEFT_OUT.findall(output.stdout or "")
        yield files


def check_new_folder(backup: Backup, manifest: Manifest, target: Path) -> None:
    """The backup has a filestore, and `target` can be made for it and has room. Raises PreflightError."""
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
    if target.exists():
        raise PreflightError(f"{target} is there already, and it is not touched: choose a new folder")
    if not target.parent.is_dir():
        raise PreflightError(f"there is no folder {target.parent}: make it first")
    _check_parent(target.parent, target.name)
    check_space(target.parent, {"the unpacked filestore": manifest.filestore.size_bytes})  # it is hardly less


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
