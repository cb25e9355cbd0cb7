"""What stands between a throwaway server and the rest of this host, as far as this host allows it: found by trying."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

SANDBOX_USER = "ops_sandbox"
_PROBE_SECONDS = 10
# What a server needs of the host's files. Nothing else is there for it.
_SHOWN = (
    *("/usr", "/bin", "/lib", "/lib32", "/lib64", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/localtime"),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/var/cache/postgresql/dicts"),
)


@dataclass(frozen=True, slots=True)
class Walls:
    """How a program is started behind them."""

    names: tuple[str, ...]
    """Which ones stand, for people."""
    user: str | None
    """The system user that the program becomes; None for the own one."""
    before: tuple[str, ...]
    """What comes before the program in its command."""
    hides_files: bool
    installation: tuple[Path, ...]
    """The folders with the programs and their libraries."""

    def command(self, program: Sequence[str | Path], *, folder: Path) -> list[str]:
        """The command that runs a program behind the walls, in `folder`, which is all that it may write to."""
        become = []
        if self.user:
            become = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups", "--no-new-privs"]
        shown: list[str] = []
        if self.hides_files:
            shown = ["--dev", "/dev", "--proc", "/proc"]
            shown += ["--tmpfs", "/tmp", "--perms", "1777", "--tmpfs", "/dev/shm"]  # noqa: S108 - new ones, inside
            bound = (*map(Path, _SHOWN), *self.installation)
            above = {parent: None for path in bound for parent in reversed(path.parents)}
            shown += [word for path in list(above)[1:] for word in ("--perms", "0755", "--dir", str(path))]
            shown += [word for path in _SHOWN for word in ("--ro-bind-try", path, path)]
            shown += [word for path in self.installation for word in ("--ro-bind", str(path), str(path))]
            shown += ["--bind", str(folder), "/sandbox", "--chdir", "/sandbox", "--"]
        return [*self.before, *shown, *become, *map(str, program)]


def find_walls(programs: Path) -> Walls:
    """The walls that stand on this host around a server of these programs. As root, it is to run as a system user."""
    root = os.geteuid() == 0
    user = SANDBOX_USER if root else None
    bubblewrap = ["bwrap", "--unshare-net", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent"]
    if root:
        bubblewrap += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    network = ["unshare", "--net"] if root else ["unshare", "--user", "--map-current-user", "--net"]
    names = ["a PostgreSQL of its own, thrown away afterwards", "a login without rights"]
    if user:
        names.append(f"the system user {user}")
    there = _installation(programs)
    walls = Walls((*names, "no files of this host", "no network"), user, tuple(bubblewrap), True, there)
    if _works(walls, programs):
        return walls
    walls = Walls((*names, "no network"), user, (*network, "--"), False, there)
    return walls if _works(walls, programs) else Walls(tuple(names), user, (), False, there)


def _installation(programs: Path) -> tuple[Path, ...]:
    wheel = programs.parent.parent  # the embedded PostgreSQL's, whose libraries are beside its package
    libraries = wheel.with_name(f"{wheel.name}.libs")
    return (programs.parent, libraries) if libraries.is_dir() else (programs.parent,)


def _works(walls: Walls, programs: Path) -> bool:
    """Whether a server's program starts behind them, but for the user, who may not be there yet."""
    if not shutil.which(walls.before[0]):
        return False
    command = replace(walls, user=None).command([programs / "postgres", "--version"], folder=programs)
    try:
        done = subprocess.run(command, capture_output=True, timeout=_PROBE_SECONDS, check=False, cwd="/")
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
