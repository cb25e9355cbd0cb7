"""Names of runs that nobody thought of: Prefect's server makes them up, and so does the form of its UI."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any
from uuid import UUID

import httpx
from coolname.data import config
from prefect.client.orchestration import PrefectClient

_OF_FORM = re.compile(
    r"(Awesome|Rustic|Small|Gorgeous|Fantastic|Sleek|Intelligent|Unbranded|Refined|Licensed|Generic|Practical"
    r"|Ergonomic|Handcrafted|Tasty|Handmade|Incredible)-(?![a-z])[^-]{1,6}"
)
"""What the form of a run is filled in with in Prefect's second UI: an adjective, and a dish of at most 6 characters."""


def is_made_up(name: str) -> bool:
    """Whether nobody thought of a name: it is one of those that Prefect's server, or its form, makes up."""
    if _OF_FORM.fullmatch(name):
        return True
    adjective, dash, noun = name.partition("-")
    return bool(dash) and adjective in _words("adj_any") and noun in _words("subj")


async def rename_run(client: PrefectClient, run_id: UUID, name: str) -> bool:
    """Give a run a name in Prefect; whether it is there. Raises httpx.HTTPError."""
    try:
        await client.update_flow_run(run_id, name=name)
    except httpx.HTTPStatusError as error:
        if error.response.status_code == httpx.codes.NOT_FOUND:
            return False
        raise
    return True


@cache
def _words(name: str) -> frozenset[str]:
    """The words of a list that Prefect makes names of."""
    lists: Mapping[str, Any] = config
    one = lists[name]
    if one["type"] == "nested":
        return frozenset().union(*(_words(inner) for inner in one["lists"]))
    return frozenset(one["words"])
