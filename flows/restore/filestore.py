"""A backup's filestore, unpacked into a new folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.backup.folder import OpenFiles, check_space
from flows.backup.manifest import Manifest
from flows.backup.names import BackupName
from flows.engine.active_run import current_run
from flows.engine.preflight import missing_programs
from flows.engine.step import step
from opsdb.errors import PreflightError, StepFailedError
from opsdb.places import refuse_filestore
from opsdb.trust import SAFE_FOLDER, who_else_may_write

FILESTORE_SECONDS = 3600

# Whoever unpacks owns the files, and nobody else may read or write them, whatever the archive says; no file runs as
# somebody else. A filestore holds no devices, and a link that leads out of it would hand out other files.
# In a folder of another user, Odoo's, root works as that user: no link that is put there leads root anywhere.
UNPACK = """\
umask 077
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
inside=$(owner realpath -- "$UNPACKED")
while IFS= read -r -d '' odd; do
  [ -L "$odd" ] && [[ "$(owner readlink --canonicalize-missing -- "$odd")" = "$inside"/* ]] && continue
  printf 'the archive holds %q, which is no file or folder of a filestore: nothing was restored\\n' "${odd##*/}" >&2
  exit 65
done < <(owner find "$UNPACKED" ! -type f ! -type d -print0)
wait "$!"  # whether all was looked at
owner sync --file-system -- "$UNPACKED"
"""


class Unpacked:
    """A folder under a name of the run, until keep() gives it its own."""

    def __init__(self, target: Path | None) -> None:
        self.target = target
        self.partial = target.parent / f".{target.name}.{current_run().id.hex}.partial" if target else None

    def keep(self) -> None:
        """Give it its own name. Raises StepFailedError where that is taken meanwhile."""
        if self.target is None or self.partial is None:
            return
        if self.target.exists():
            raise StepFailedError(f"{self.target} was made meanwhile: the filestore was not put there")
        self.partial.rename(self.target)

    def take_back(self) -> None:
        """Undo keep()."""
        if self.target is not None and self.partial is not None:
            self.target.rename(self.partial)


@contextmanager
def unpacked(opened: OpenFiles, name: BackupName, target: Path | None) -> Iterator[Unpacked]:
    """The filestore in a partial folder beside `target`, which is removed at the end unless it was kept."""
    files = Unpacked(target)
    try:
        if files.partial is not None:
            env = {"ARCHIVE": opened.paths[name.filestore], "UNPACKED": str(files.partial)}
            env["OWNER"] = _other_owner(files.partial.parent)
            step("filestore", UNPACK, timeout=FILESTORE_SECONDS, env=env)
        yield files
    finally:
        if files.partial is not None:
            shutil.rmtree(files.partial, ignore_errors=True)


def check_new_folder(manifest: Manifest, target: Path) -> None:
    """The backup has a filestore, and `target` can be made for it and has room. Raises PreflightError."""
    if manifest.filestore is None:
        raise PreflightError(f"{manifest.file} was made without a filestore: leave filestore_dir empty")
    if target.exists():
        raise PreflightError(f"{target} is there already, and it is not touched: choose a new folder")
    if not target.parent.is_dir():
        raise PreflightError(f"there is no folder {target.parent}: make it first")
    if refusal := refuse_filestore(target, current_run().settings):
        raise PreflightError(refusal)
    if _other_owner(target.parent):
        if missing := missing_programs("setpriv"):
            raise PreflightError(f"not on the PATH: {', '.join(missing)}. Hint: install util-linux")
    elif found := who_else_may_write(target.parent):
        raise PreflightError(f"the folder {target.parent} is not safe: {found}. Hint: {SAFE_FOLDER}")
    check_space(target.parent, {"the unpacked filestore": manifest.filestore.size_bytes})  # it is hardly less


def _other_owner(folder: Path) -> str:
    """The user and group whose folder it is, as `uid:gid`, where we are root and they are not; else nothing."""
    found = folder.stat()
    return f"{found.st_uid}:{found.st_gid}" if os.geteuid() == 0 and found.st_uid != 0 else ""
