"""Manifests of rooms that did not sign yet, signed by this one."""

from __future__ import annotations

import fcntl
import os

from flows.backup.folder import Folder
from flows.backup.keyring import Key
from flows.backup.names import partial_of
from flows.backup.repository import Backup


def sign_manifest(backup: Backup, folder: Folder, key: Key) -> bool:
    """Replace the manifest of a backup in the folder by a signed one; False where the backup went meanwhile.

    What is signed is the manifest that was read with the backup. Raises OSError.
    """
    if backup.manifest is None:
        raise ValueError(f"{backup.name.dump} has no manifest")
    text = backup.manifest.model_copy(update={"format": 3}).text(key)
    own, partial = folder.path / backup.name.manifest, folder.path / partial_of(backup.name.manifest)
    handle = os.open(folder.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)  # two that sign at once would write one partial
        if not own.exists():
            return False
        partial.unlink(missing_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(own)
        os.fsync(handle)
    finally:
        os.close(handle)
    return True
