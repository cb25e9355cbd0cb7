"""Stand-ins for DigitalOcean and the net: doctl, the name service, and curl.

They keep what they know in a folder, write each call into its `ledger`, and refuse what they do not know.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.ssh_server import DROPLET

_START = """#!{python} -I
import json, os, pathlib, subprocess, sys
state, words = pathlib.Path({state!r}), sys.argv[1:]
with open(state / "ledger", "a") as ledger:
    ledger.write(json.dumps([pathlib.Path(sys.argv[0]).name, *words]) + "\\n")
"""
DOCTL = (
    _START
    + """
if (state / "token").read_text() != os.environ.get("DIGITALOCEAN_ACCESS_TOKEN", ""):
    sys.exit("Error: Unable to authenticate you (status 401)")
if (state / "talks").exists():  # as with --trace, which shows requests and their headers
    import base64, time, urllib.parse
    token = os.environ["DIGITALOCEAN_ACCESS_TOKEN"]
    lists = [path.read_bytes() for path in pathlib.Path("/proc").glob("[0-9]*/cmdline")]
    (state / "arguments").write_bytes(b"".join(lists))
    for spelling in (token, base64.b64encode(token.encode()).decode(), urllib.parse.quote(token, safe="")):
        for out in (sys.stdout, sys.stderr):
            print("> Authorization: " + spelling[:7], end="", file=out, flush=True)
            time.sleep(0.05)
            print(spelling[7:], file=out, flush=True)
    sys.exit("Error: the token " + token + " was refused")
assert words[:2] == ["compute", "droplet"], words
verb, words = words[2], words[3:]
columns = ["--format", "ID,Name,Region,Status,PublicIPv4", "--no-header"]
assert words[-3:] == columns, words
words = words[:-3]
known = json.loads((state / "droplets").read_text())
shown = []
if verb == "list":
    assert words == [], words
    shown = known
elif verb == "create":
    name, *options = words
    assert not name.startswith("-") and options[-1] == "--wait", words
    given = dict(zip(options[:-1:2], options[1:-1:2]))
    assert set(given) == {{"--region", "--size", "--image", "--ssh-keys"}} and all(given.values()), given
    shown = [[str(100 + len(known)), name, given["--region"], "new", ""]]
    (state / "droplets").write_text(json.dumps(known + shown))
    if (state / "dies").exists():
        sys.exit("Error: connection reset by peer")
elif verb == "get":
    for droplet in known:
        if [droplet[0]] == words:
            droplet[3:] = ["active", {droplet!r}]
            shown = [droplet]
    (state / "droplets").write_text(json.dumps(known))
else:
    sys.exit(f"Error: unknown command {{verb}}")
for droplet in shown:
    print("    ".join(droplet).rstrip())
"""
)
GETENT = (
    _START
    + """
if words[0] == "ahostsv4":
    print((state / "address").read_text(), "STREAM", words[1])
else:
    print("::ffff:" + (state / "address").read_text(), "STREAM", words[1])
"""
)
CURL = (
    _START
    + """
health, login = "https://shop.example/web/health?db_server_status=1", "https://shop.example/web/login?db=odoo_prod"
assert words[-1] in (health, login), words
left = int((state / "unhealthy").read_text())
(state / "unhealthy").write_text(str(left - 1))
print("502" if left > 0 else "200", words[-1], end="")
"""
)


@dataclass
class DigitalOcean:
    """What the stand-ins know, and what they were asked."""

    state: Path

    def calls(self, program: str) -> list[list[str]]:
        """The words of each call of a program."""
        ledger = self.state / "ledger"
        lines = [json.loads(line) for line in ledger.read_text().splitlines()] if ledger.exists() else []
        return [line[1:] for line in lines if line[0] == program]

    def know(self, **facts: Any) -> None:
        """Set what the stand-ins know."""
        for name, fact in facts.items():
            (self.state / name).write_text(fact if isinstance(fact, str) else json.dumps(fact))


def digitalocean(folder: Path) -> DigitalOcean:
    """Write the programs into `folder`."""
    state = folder / "state"
    state.mkdir()
    for name, text in (("doctl", DOCTL), ("getent", GETENT), ("curl", CURL)):
        program = folder / name
        program.write_text(text.format(python=sys.executable, state=str(state), droplet=DROPLET))
        program.chmod(0o755)
    made = DigitalOcean(state)
    made.know(droplets=[], unhealthy=0, token="", address=DROPLET)
    return made
