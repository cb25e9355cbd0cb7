"""Whose a backup target is. Two rooms may have databases of one name, so each place belongs to one room.

The room that first sends something there writes its id into a file. Nobody else sends or deletes anything there.
"""

from __future__ import annotations

import hashlib
import json
import random
import socket
import tempfile
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from blocks.target_store import Store, TargetAwayError, TargetError

FILE = "ops-room.json"
_TRIES = 4
_SETTLE_SECONDS = 2.0
"""After which a room looks whose the place is: who looked before its file was there has written by then."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The room's id, and the host from which it was taken, by which people know the room."""

    room: str
    host: str


class NotOursError(TargetError):
    """The place is not this room's. Who knows which copy is wanted may read it all the same."""


def take_ownership(store: Store, room: str, *, before: Collection[str] = ()) -> None:
    """Make the place this room's, if it is nobody's, or was its own `before` it moved.

    Raises NotOursError where it is another room's.
    """
    refused = TargetError(f"{store.url(FILE)} was deleted right after it was created", advice="start the run again")
    for _ in range(_TRIES):
        if check_owner(store, room, before=before):
            return
        try:
            if (found := read_owner(store)) is not None and found.room in before:
                store.delete(FILE)  # it names an id that this room had: whoever still has that finds the new one
            _write(store, room)
            time.sleep(_SETTLE_SECONDS)  # a store that knows no conditions takes two at once, and keeps the last
        except TargetAwayError:
            raise
        except TargetError as error:
            # another run of this room writes it now, or was killed while it did
            refused = error
            time.sleep(random.uniform(0.1, 0.4))  # noqa: S311 - so that two do not meet again
            if not check_owner(store, room, before=before):
                store.drop_unfinished(lambda name: name == FILE)
    if not check_owner(store, room, before=before):
        raise refused


def _write(store: Store, room: str) -> None:
    written = json.dumps({"room": room, "host": socket.gethostname()}).encode()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / FILE
        file.write_bytes(written)
        store.put(file, sha256=hashlib.sha256(written).hexdigest())


def check_owner(store: Store, room: str, *, before: Collection[str] = ()) -> bool:
    """Whether the place is this room's; False where it is nobody's, or of an id that this room had `before`.

    Raises NotOursError where it is another room's.
    """
    found = read_owner(store)
    if found is not None and found.room in before:
        return False
    if found is not None and found.room != room:
        raise NotOursError(
            f"{store.place} belongs to another room, that of host {found.host}: {store.url(FILE)} says so",
            advice="give this room a place of its own; if that room is gone, delete that file; if this room was moved "
            "there, stop it here",
        )
    return found is not None


def read_owner(store: Store) -> Owner | None:
    """Whose the place is, or None where it is nobody's. Raises NotOursError for a file that does not say it."""
    if FILE not in store.sizes(FILE):
        return None
    try:
        said = json.loads(store.read(FILE))
        return Owner(str(said["room"]), str(said["host"]))
    except (ValueError, KeyError, TypeError):
        raise NotOursError(
            f"{store.url(FILE)} does not say which room the place belongs to",
            advice="see who wrote it; delete it if the copies there are this room's",
        ) from None
