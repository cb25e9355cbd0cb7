"""The room's own loggers stay at INFO, whichever of Prefect and the room is first in a process."""

from __future__ import annotations

import subprocess
import sys

import pytest

OURS = "from opsdb.own_loggers import log_at_info; log_at_info()"
THEIRS = "import prefect.logging; prefect.logging.get_logger()"
SAID = "import logging; logging.getLogger('flows.engine.x').info('ours'); logging.getLogger('httpx').info('theirs')"


@pytest.mark.parametrize("order", [(OURS, THEIRS), (THEIRS, OURS)])
def test_room_is_heard_at_info_and_others_are_not(order: tuple[str, str]) -> None:
    done = subprocess.run([sys.executable, "-c", "\n".join([*order, SAID])], capture_output=True, text=True, check=True)
    assert "ours" in done.stderr
    assert "theirs" not in done.stderr
