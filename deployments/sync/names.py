"""Names of runs that nobody thought of: Prefect's server makes them up, and so does the form of its UI.

`ops sync` names those runs by what they do, once they are recorded: no name keeps back a state.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import cache
from typing import Any
from uuid import UUID

import httpx
from cachetools import LRUCache
from coolname.data import config
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound

from opsdb.database import first_line
from opsdb.kinds.subjects import name_of_run
from opsdb.runs.runs import write_names

log = logging.getLogger(__name__)

AT_ONCE = 50
"""How many runs are named one after the other: what comes after that waits for the next poll."""
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


class Naming:
    """Names runs by what they do, unless somebody thought of a name. `kind` and `in_database` are those of the sync."""

    def __init__(
        self,
        client: PrefectClient,
        *,
        kind: Callable[[FlowRun], Awaitable[str]],
        in_database: Callable[..., Awaitable[Any]],
    ) -> None:
        self._client = client
        self._kind = kind
        self._in_database = in_database
        self._refused: LRUCache[UUID, bool] = LRUCache(2000)

    async def name(self, flow_runs: Iterable[FlowRun]) -> None:
        """Name the first of those whose names are made up, in Prefect and in `ops.runs`.

        What Prefect refuses is logged once, and tried again when the others have their turn. Raises
        httpx.TransportError, and DBAPIError.
        """
        made_up = {run.id: run for run in flow_runs if is_made_up(run.name)}
        tried = 0
        for run in sorted(made_up.values(), key=lambda run: run.id in self._refused):
            if tried == AT_ONCE:
                return
            try:
                name = await self._in_database(name_of_run, await self._kind(run), run.parameters)
                if name is None or name == run.name:
                    continue
                tried += 1
                await self._client.update_flow_run(run.id, name=name)
            except (httpx.HTTPStatusError, ObjectNotFound) as error:
                deleted = (
                    isinstance(error, httpx.HTTPStatusError) and error.response.status_code == httpx.codes.NOT_FOUND
                )
                if not deleted and run.id not in self._refused:
                    log.warning(
                        "run %s keeps the name %s: Prefect refuses another: %s", run.id, run.name, first_line(error)
                    )
                self._refused[run.id] = True
            else:
                await self._in_database(write_names, {run.id: name})


@cache
def _words(name: str) -> frozenset[str]:
    """The words of a list that Prefect makes names of."""
    lists: Mapping[str, Any] = config
    one = lists[name]
    if one["type"] == "nested":
        return frozenset().union(*(_words(inner) for inner in one["lists"]))
    return frozenset(one["words"])
