"""The unit that starts the room at boot: its command, in the environment that systemd gives it and no other."""

from __future__ import annotations

import configparser
import os
import shlex
import signal
import subprocess
from pathlib import Path

from deployments.hosting.systemd import SYSTEMD, SystemdValues
from deployments.hosting.template import render
from tests.acceptance.room.desk import START_SECONDS, Desk
from tests.support.waiting import wait_for

OF_SYSTEMD = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "LANG": "C.UTF-8", "INVOCATION_ID": "0" * 32}
"""What a service of systemd's has in its environment, beside what its unit says: no HOME for one of root's."""


def test_command_of_the_unit_starts_a_room_and_ends_it_in_good_order(own_folder: Path) -> None:
    desk = Desk(own_folder / "room")
    desk.home.mkdir(mode=0o700)
    names = ("prefect_port", "health_port", "exporter_port")
    (desk.home / "ops.toml").write_text(
        "".join(f"{name} = {port}\n" for name, port in zip(names, desk.ports, strict=True))
    )
    values = SystemdValues.model_validate({"home": str(desk.home)})
    unit = configparser.ConfigParser(delimiters="=", interpolation=None)
    unit.read_string(render(SYSTEMD, values)["ops-control-room.service"])
    service = unit["Service"]
    name, _, value = service["Environment"].partition("=")
    with subprocess.Popen(
        shlex.split(service["ExecStart"]),
        env={**OF_SYSTEMD, name: value},
        cwd=service["WorkingDirectory"],
        umask=int(service["UMask"], 8),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    ) as room:
        try:
            wait_for(lambda: room.poll() is not None or desk.ops("status").code == 0, seconds=START_SECONDS)
            assert room.poll() is None
            os.kill(room.pid, signal.SIGTERM)  # to this process alone: KillMode=mixed
            assert room.wait(float(service["TimeoutStopSec"])) == 0  # or systemd would start it again
        finally:
            room.kill()
    assert desk.processes() == {}
