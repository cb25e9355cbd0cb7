"""How every connection over SSH is made: without ever asking anybody, and noticed when it hangs."""

from __future__ import annotations

SSH_OPTIONS = ("-oBatchMode=yes", "-oConnectTimeout=5", "-oServerAliveInterval=10", "-oServerAliveCountMax=3")
KNOWN_HOSTS_ONLY = "-oStrictHostKeyChecking=yes"
