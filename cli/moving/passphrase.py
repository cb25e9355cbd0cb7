"""The passphrase of a room's backup: from a file, from standard input, or typed, and never from an argument."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path

from opsdb.errors import UsageError
from opsdb.private_files import read_private

SHORTEST = 16
_LONGEST = 1024


def read_passphrase(file: Path | None, *, new: bool = False) -> str:
    """The first line of a file, or of standard input. On a terminal it is asked for, twice where it is `new`.

    Raises UsageError for one that is missing, too short, or in a file that others can read.
    """
    if file is not None:
        try:
            text = read_private(file)
        except FileNotFoundError:
            raise UsageError(f"--passphrase-file: there is no file {file}") from None
        except UnicodeDecodeError:
            raise UsageError(f"--passphrase-file: {file} is not UTF-8 text") from None
    elif sys.stdin.isatty():
        text = getpass.getpass("Passphrase: ")
        if new and getpass.getpass("Once more: ") != text:
            raise UsageError("the two passphrases differ: nothing was done")
    else:
        text = sys.stdin.readline(_LONGEST + 2)
    passphrase = text.partition("\n")[0].rstrip("\r")
    if not passphrase:
        raise UsageError(
            "the passphrase is missing. Hint: give it as a line on standard input, or in a file by --passphrase-file"
        )
    if len(passphrase) > _LONGEST or not passphrase.isprintable():
        raise UsageError(f"the passphrase must be at most {_LONGEST} printable characters")
    if new and len(passphrase) < SHORTEST:
        raise UsageError(
            f"the passphrase has {len(passphrase)} characters, and needs {SHORTEST}: whoever finds the file can try as "
            "many as they like"
        )
    return passphrase
