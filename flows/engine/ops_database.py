"""The ops database as a runbook asks it: patiently."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection

from opsdb.database import GONE, connect, reachable
from opsdb.settings import Settings

T = TypeVar("T")

PATIENCE_SECONDS = 300.0
"""How long a run waits for an ops database that is away: a late backup is better than a night without."""


def in_ops(settings: Settings, work: Callable[[Connection], T]) -> T:
    """Do something in a transaction as soon as the database answers. Raises RoomUnreachableError after a while."""
    engine = connect(settings, application="run")
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    try:
        while True:
            try:
                with engine.begin() as db:
                    return work(db)
            except GONE:
                if time.monotonic() > give_up_at:
                    with reachable():
                        raise
            time.sleep(settings.timings.retry)
    finally:
        engine.dispose()
