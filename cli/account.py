"""Who types a command, for the record: the system user, and who became it with sudo."""

from __future__ import annotations

import os
import pwd
import re

_NAME = re.compile(r"[\w.@-]{1,32}", re.ASCII)


def account() -> str:
    """The system user of this process, as in `alice`, or `alice as root` after sudo.

    Only the kernel's user id cannot be made up: SUDO_USER is what the environment says, and is left out where it does
    not look like a name.
    """
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = f"user {os.getuid()}"
    typist = os.environ.get("SUDO_USER", "")
    return f"{typist} as {name}" if _NAME.fullmatch(typist) and typist != name else name
