"""What settings must be beside having the right type: a home that is ours alone, an address that libpq understands."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from opsdb.errors import UsageError
from opsdb.trust import who_else_may_write

# Stricter than libpq, which takes the rest of a password that holds a bare @, / or # for a host or a port, and then
# quotes it in its error.
POSTGRESQL_URL = re.compile(r"postgres(?:ql)?://(?:[^@/?#]*@)?[^@/?#]*/[^@/?#]*(?:\?[^#]*)?")


def check_home(home: Path) -> None:
    """Refuse an OPS_HOME that another user could change. Raises UsageError.

    What stands in it is believed and executed: processes to stop, addresses, the pages of the UI.
    """
    try:
        for path in itertools.chain([home], _inside(home), _inside(home / "prefect")):
            if found := who_else_may_write(path):
                raise UsageError(
                    f"OPS_HOME={home} is not this user's alone: {found}. Hint: start the room as the user whose folder "
                    "it is, or choose an OPS_HOME where only this user and root may write, such as /opt/ops/.ops"
                )
    except OSError as error:
        raise UsageError(f"OPS_HOME={home} cannot be looked at: {error.strerror}: {error.filename}") from error


def check_postgresql_url(variable: str, url: str) -> None:
    """Refuse an address that libpq could read in another way. Raises UsageError, which does not quote it."""
    try:
        parts = urlsplit(url)
        good = POSTGRESQL_URL.fullmatch(url) is not None and parts.path != "/" and parts.port != 0
    except ValueError:  # an invalid port
        good = False
    if not good:
        raise UsageError(
            f"{variable}: expected postgresql://user@host:port/database, with %40 for @, %2F for /, %23 for #"
        )


def _inside(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from folder.iterdir()
