"""What the tests of the ops database share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from opsdb.database import connect
from opsdb.settings import Settings


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    """Connections to a migrated ops database of this test alone."""
    engine = connect(settings, application="test")
    yield engine
    engine.dispose()
