"""Which room this is: the variable in Prefect that a restore leaves (docs/decisions/0050)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

VARIABLE = "ops_room"
"""Its name. It has `id`, in `before` the ids whose places the room takes over, and in `copy_of` which room it is a copy
of, while it does not work in that one's place."""


@dataclass(frozen=True, slots=True)
class RoomId:
    """A room's id, and those that it had on other hosts, from which it moved: their places are its own."""

    id: str
    before: tuple[str, ...] = ()
    copy_of: str | None = None
    """The room that continues elsewhere, in words, where this one was restored without --take-over."""


def room_id(variable: Mapping[str, Any] | None, *, otherwise: str) -> RoomId:
    """The id that the variable says, where there is one."""
    if not isinstance(variable, Mapping) or not isinstance(variable.get("id"), str):
        return RoomId(otherwise)
    copy_of = variable.get("copy_of")
    before = tuple(str(one) for one in variable.get("before", ()))
    return RoomId(variable["id"], before, copy_of if isinstance(copy_of, str) else None)
