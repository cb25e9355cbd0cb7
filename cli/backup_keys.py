"""`ops backups key`: the keys by which backups are signed."""

from __future__ import annotations

import sys

import typer

from cli.text import say
from flows.backup.keyring import parse_key, room_keyring
from opsdb.errors import UsageError
from opsdb.settings import load_settings

_LONGEST_KEY = 1000


def register(app: typer.Typer) -> None:
    """Add the commands."""
    key = typer.Typer(help="The keys by which backups are signed.", no_args_is_help=True)
    key.command("export")(export)
    key.command("import")(import_)
    app.add_typer(key, name="key")


def export() -> None:
    """Print the key by which this room signs its backups: a secret. It is made where there is none yet.

    Keep it away from the backups: whoever has it can forge them. A room that imports it restores backups of this one.

    Example: ops backups key export > /some/safe/place/backup.key
    """
    sys.stdout.write(room_keyring(load_settings()).make_own().text)


def import_() -> None:
    """Read the key of another room from standard input, and accept the backups that are signed with it.

    The room still signs with its own.

    Example: ops backups key import < /some/safe/place/backup.key
    """
    key = parse_key(sys.stdin.buffer.read(_LONGEST_KEY).decode(errors="replace").strip())
    if key is None:
        raise UsageError(
            "standard input holds no key. Hint: `ops backups key export` prints it, in the room that made the backups"
        )
    new = room_keyring(load_settings()).accept(key)
    say(f"key {key.id} is accepted" if new else f"key {key.id} was accepted already")
