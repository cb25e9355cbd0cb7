"""System users without login that root's room runs servers as: PostgreSQL refuses to run as root."""

from __future__ import annotations

import pwd
import stat
import subprocess
from pathlib import Path

from opsdb.errors import OpsError


def service_account(name: str) -> pwd.struct_passwd:
    """The system user of this name, made if there is none. For root only. Raises OpsError."""
    try:
        return pwd.getpwnam(name)
    except KeyError:
        command = ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin"]
        done = subprocess.run([*command, name], check=False, capture_output=True, text=True)
    try:
        return pwd.getpwnam(name)  # another room may have made it just now
    except KeyError:
        raise OpsError(f"the system user {name} could not be made: {done.stderr.strip()}") from None


def make_passable(folder: Path) -> list[str]:
    """Let all users pass through the folders above this one (`o+x`). Returns those that had to be changed."""
    return [str(above) for above in folder.resolve().parents if _make_passable(above)]


def _make_passable(folder: Path) -> bool:
    mode = folder.stat().st_mode
    if mode & stat.S_IXOTH:
        return False
    folder.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)
    return True
