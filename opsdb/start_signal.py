"""The word to begin: `ops up` starts programs early, and they load while what they need is still starting."""

from __future__ import annotations

import os
import socket
import sys

START_FD = "OPS_START_FD"
"""In the environment of such a program: the descriptor of the socket on which it hears the word."""
LOADED, BEGIN = b"l", b"b"
"""What the program says there when it waits, and the word."""


def await_start() -> None:
    """Wait for the word of the supervisor. Call it when all is imported, before anything is asked of another part.

    Returns at once in a program that nobody asked to wait. Ends this process with 1 when the supervisor is gone.
    """
    given = os.environ.pop(START_FD, None)
    if given is None:
        return
    with socket.socket(fileno=int(given)) as line:
        try:
            line.sendall(LOADED)
            word = line.recv(1)
        except OSError:
            word = b""
    if not word:
        sys.exit(1)
