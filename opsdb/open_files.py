"""How many files a process of the room may have open: connections, pipes to runs and logs are files."""

from __future__ import annotations

import resource

from opsdb.errors import UsageError

NEEDED = 512
"""A worker has about ten per run, Prefect's server two per client, and PostgreSQL refuses to start with too few."""
WANTED = 4096


def allow_open_files() -> int:
    """Raise the soft limit of this process, and so of its children, as far as the hard one allows. Returns it.

    Raises UsageError when that is below 512.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    if soft != resource.RLIM_INFINITY and soft < NEEDED:
        raise UsageError(
            f"at most {soft} files may be open here, the room needs {NEEDED}: raise the hard limit "
            f"(`ulimit -Hn`, `LimitNOFILE=` of a systemd unit, `nofile` in limits.conf) to {WANTED}"
        )
    return soft
