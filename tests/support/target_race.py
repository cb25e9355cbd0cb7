"""Two rooms that claim one place in the same moment."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from blocks.target_store import Store
from flows.offsite.owner import NotOursError, read_owner, take_ownership

ROOMS = ("ours", "theirs")


def overtake(kind: type, at: int, go_ahead: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody goes ahead right after what is there was looked at for the `at`-th time."""
    looks, really = itertools.count(1), kind.sizes  # type: ignore[attr-defined]

    def sizes(store: Store, start: str = "") -> dict[str, int]:
        found: dict[str, int] = really(store, start)
        if next(looks) == at:
            go_ahead()
        return found

    monkeypatch.setattr(kind, "sizes", sizes)


def claim_at_once(store: Callable[[], Store]) -> str:
    """Both rooms claim the place at once. Returns the room that has it; the other one must be refused."""
    together = threading.Barrier(2)

    def one(room: str) -> bool:
        mine = store()
        together.wait(10)
        try:
            take_ownership(mine, room)
        except NotOursError:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        (winner,) = (room for room, won in zip(ROOMS, pool.map(one, ROOMS), strict=True) if won)
    found = read_owner(store())
    assert found is not None
    assert found.room == winner
    return winner
