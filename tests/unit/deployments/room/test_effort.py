from __future__ import annotations

import subprocess

from deployments.room.effort import Effort


def test_time_in_which_the_supervisor_saw_nothing_is_not_held_against_a_part() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        effort = Effort(process.pid, now=0.0, silent_seconds=60.0)
        effort.look(3600.0)  # the host was suspended for an hour
        assert not effort.idle
        for second in range(3601, 3660):
            effort.look(float(second))
        assert effort.idle
        process.kill()
