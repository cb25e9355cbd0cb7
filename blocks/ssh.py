"""How every connection over SSH is made: without ever asking anybody, and noticed when it hangs."""

from __future__ import annotations

import os

SSH_OPTIONS = ("-oBatchMode=yes", "-oConnectTimeout=5", "-oServerAliveInterval=10", "-oServerAliveCountMax=3")
KNOWN_HOSTS_ONLY = "-oStrictHostKeyChecking=yes"


def agent_env() -> dict[str, str]:
    """The variable by which ssh finds this user's agent, where there is one."""
    return {name: value for name, value in os.environ.items() if name == "SSH_AUTH_SOCK" and value}
