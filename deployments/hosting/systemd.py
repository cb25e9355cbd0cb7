"""Units of systemd: one for the whole room, and one for each part on a host of its own. Judged by systemd-analyze."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path, PurePosixPath

from pydantic import Field

from deployments.hosting.programs import absent, find_program, judged, run_program, write_files
from deployments.hosting.template import Files, Template, Verdict
from deployments.hosting.values import UnixPath, UserName, Values
from opsdb.timings import Timings

_PROGRAM = re.compile(r"^(Exec\w+=)(/\S+)", re.MULTILINE)
_PARTS = ("worker", "sync", "exporter", "alerter")


class SystemdValues(Values):
    """What the units take."""

    home: UnixPath = Field(description="OPS_HOME of the room, as in /opt/ops/.ops.")
    user: UserName = Field("ops", description="System user that the room runs as; not root, unless runbooks need it.")
    program: UnixPath = Field(str(Path(sys.executable).parent / "ops"), description="Path of `ops`. Default: this one.")
    secrets_file: UnixPath = Field(
        "/etc/ops/room.env", description="File with settings that are secrets, NAME=value; it may be missing."
    )
    drain_seconds: float = Field(
        30, ge=0, le=86400, description="Time that running runs get to end, as the room has it."
    )

    @property
    def home_parent(self) -> str:
        """The folder in which the room's folder lies."""
        return str(PurePosixPath(self.home).parent)

    @property
    def stop_seconds(self) -> int:
        """How long a stop may take."""
        return round(Timings(drain=self.drain_seconds).room_stop)


def check_units(files: Files) -> Verdict:
    """Let `systemd-analyze verify` read the units; any word is a refusal. A program that is not here is replaced."""
    program = find_program("systemd-analyze")
    if program is None:
        return absent("systemd-analyze verify", "systemd is not installed here")
    with tempfile.TemporaryDirectory() as name:
        paths = write_files({unit: _PROGRAM.sub(_present, text) for unit, text in files.items()}, Path(name))
        answer = run_program([program, "verify", "--man=no", *map(str, paths)])
    return judged("systemd-analyze verify", answer, silent=True)


def _present(match: re.Match[str]) -> str:
    return match[0] if Path(match[2]).exists() else f"{match[1]}/bin/true"


SYSTEMD = Template(
    name="systemd",
    about="A unit that starts the room at boot, and one for each part on a host without a room.",
    values=SystemdValues,
    files={"ops-control-room.service": "room.service.j2"}
    | {f"ops-{part}.service": f"{part}.service.j2" for part in _PARTS},
    checks=(check_units,),
)
