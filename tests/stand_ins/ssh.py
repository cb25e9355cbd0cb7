"""A stand-in for ssh whose far side is a clean environment on this machine, as it is with the real one.

It knows one destination whose key is known, refuses options and destinations that it does not know, and takes the words
for the far side as one text for its shell. What runs there is in a session of its own and outlives a client that is
killed.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

_PROGRAM = """#!{python} -I
import json, os, pathlib, subprocess, sys, time
state, words = pathlib.Path({state!r}), sys.argv[1:]
with open(state / "ledger", "a") as ledger:
    ledger.write(json.dumps(words) + "\\n")
options = []
while words[0] != "--":
    assert words[0].startswith("-o"), words
    options.append(words.pop(0)[2:])
destination, *command = words[1:]
assert "BatchMode=yes" in options and "StrictHostKeyChecking=yes" in options, options
mood = (state / "mood").read_text()
if destination != "deploy@odoo.example" or "Port=2222" not in options:
    print(f"ssh: Could not resolve hostname {{destination}}: Name or service not known", file=sys.stderr)
    sys.exit(255)
if mood == "hang":
    time.sleep(60)
if mood != "well":
    print(mood, file=sys.stderr)
    sys.exit(255)
environment = json.loads((state / "far_side").read_text())
far = subprocess.Popen(["sh", "-c", " ".join(command)], env=environment, cwd="/", start_new_session=True)
sys.exit(far.wait())
"""


@dataclass
class Ssh:
    """What the stand-in was asked, and how it answers."""

    state: Path

    @property
    def calls(self) -> list[list[str]]:
        """The words of each call."""
        ledger = self.state / "ledger"
        return [json.loads(line) for line in ledger.read_text().splitlines()] if ledger.exists() else []

    def feel(self, mood: str) -> None:
        """`well`, `hang`, or what ssh itself complains of."""
        (self.state / "mood").write_text(mood)


def ssh(folder: Path, *, far_side: dict[str, str]) -> Ssh:
    """Write the program into `folder`. `far_side` is the environment over there."""
    state = folder / "ssh-state"
    state.mkdir()
    program = folder / "ssh"
    program.write_text(_PROGRAM.format(python=sys.executable, state=str(state)))
    program.chmod(0o755)
    (state / "far_side").write_text(json.dumps(far_side))
    made = Ssh(state)
    made.feel("well")
    return made
