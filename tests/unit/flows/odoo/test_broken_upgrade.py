"""How long an upgrade that ended in the middle may take to put back what it left."""

from __future__ import annotations

from flows.odoo.broken_upgrade import PUT_BACK_SECONDS
from opsdb.timings import Timings


def test_putting_back_is_over_before_the_room_ends_a_cancelled_run() -> None:
    timings = Timings()
    assert timings.stop + PUT_BACK_SECONDS <= timings.put_back  # its step is ended first
