"""What the tests of the ops database share."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, text

from opsdb.settings import Settings
from opsdb.stuck import sweep
from opsdb.sync_marks import write_watermark
from tests.integration.opsdb.stuck_case import PREFECT_NOW, Case


@pytest.fixture
def watched(engine: Engine, settings: Settings) -> Engine:
    """The same, where somebody sweeps and Prefect answers, and has for long."""
    with engine.begin() as db:
        sweep(db, settings)
        write_watermark(db, PREFECT_NOW, outage_seconds=settings.timings.prefect_outage)
        db.execute(text("UPDATE ops.sync_marks SET at = at - interval '1 day'"))
    return engine


@pytest.fixture
def case(watched: Engine, settings: Settings) -> Case:
    return Case(watched, settings)
