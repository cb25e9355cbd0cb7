"""Prunes once a day, beside the sync."""

from __future__ import annotations

import asyncio
import logging
import threading

from prefect.client.orchestration import PrefectClient
from sqlalchemy import Engine

from deployments.prune.prune import prune
from opsdb.amounts import size
from opsdb.retention.prunes import is_due
from opsdb.room_locks import LockedError
from opsdb.settings import Settings

log = logging.getLogger(__name__)

LOOK_SECONDS = 60.0


async def keep_pruning(settings: Settings, _client: PrefectClient, engine: Engine) -> None:
    """Prune whenever a day has passed since the last time, where that is switched on.

    A pass that is cancelled ends at once. Raises what `prune` raises; the sync looks again then, and `is_due` says when
    the next pass is to begin.
    """

    def due() -> bool:
        with engine.connect() as db:
            return is_due(db, settings)

    while True:
        if await asyncio.to_thread(due):
            await _prune(settings)
        await asyncio.sleep(LOOK_SECONDS)


async def _prune(settings: Settings) -> None:
    stop = threading.Event()
    try:
        deleted = await asyncio.to_thread(prune, settings, by="room", stop=stop)
    except LockedError as error:
        log.info("not pruned yet: %s", error)
        return
    finally:
        stop.set()
    for name, amount in deleted.by_name.items():
        if amount.count:
            log.info("pruned %d %s, %s", amount.count, name, size(amount.bytes))
