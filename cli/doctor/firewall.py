"""Whether ufw lets everybody reach a port that is not for everybody, as far as this user can see it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Collection, Sequence
from ipaddress import ip_network
from pathlib import Path

from blocks.check import Check

EVERYBODY = "Anywhere"
OPENS = ("ALLOW", "LIMIT")
CLOSED = re.compile(r"^Default: (deny|reject) \(incoming\)", re.MULTILINE)
RULES = "`ops render ufw` prints the rules"
LARGEST = 8
"""A network with a shorter prefix is everybody: 0.0.0.0/1 is half of the world."""
CONFIGURATION = Path("/etc")


def check_firewall(ports: Collection[int]) -> Check:
    """Whether it is on, closed by default, and has none of the ports open to everybody. Root alone sees its rules."""
    ufw = shutil.which("ufw") or shutil.which("ufw", path="/usr/sbin:/sbin")
    if ufw is None:
        return Check("", "ufw is not installed", f"apt-get install ufw; {RULES}")
    answer = subprocess.run([ufw, "status", "verbose"], capture_output=True, text=True, timeout=10, check=False)
    if answer.returncode:
        return judge_configuration(CONFIGURATION)
    return judge_status(answer.stdout, ports)


def judge_status(status: str, ports: Collection[int]) -> Check:
    """Judge what `ufw status verbose` prints."""
    if not status.startswith("Status: active\n"):
        return Check(
            "",
            "ufw is not active: every port is open",
            f"{RULES} as a script, which enables it: docs/howto/production.md",
        )
    if CLOSED.search(status) is None:
        return Check("", "ports without a rule are open", "ufw default deny incoming")
    if wide := sorted(port for port in ports if is_open(status, port)):
        found = f"open to everybody: {', '.join(map(str, wide))}"
        return Check("", found, f"delete that rule (`ufw status numbered`); {RULES}")
    return Check("", "active, and no port of the room or of PostgreSQL is open to everybody")


def judge_configuration(folder: Path) -> Check:
    """Judge the files of ufw that everybody may read: whether it is on, and closed by default."""
    try:
        enabled = re.search(r"^ENABLED=yes\b", (folder / "ufw" / "ufw.conf").read_text(), re.MULTILINE | re.IGNORECASE)
        policy = re.search(
            r'^DEFAULT_INPUT_POLICY="?(DROP|REJECT)', (folder / "default" / "ufw").read_text(), re.MULTILINE
        )
    except OSError as error:
        return Check("", f"{error.filename} cannot be read: {error.strerror}", "as root: ufw status verbose")
    if enabled is None:
        return Check(
            "",
            "ufw is not enabled: every port is open",
            f"{RULES} as a script, which enables it: docs/howto/production.md",
        )
    if policy is None:
        return Check("", "ports without a rule are open", "ufw default deny incoming")
    return Check("", "enabled, and closed by default; which ports are open, root alone sees: `ufw status verbose`")


def is_open(status: str, port: int) -> bool:
    """Whether a line of `ufw status` lets everybody reach the port."""
    rules = [re.split(r"\s{2,}", line.strip()) for line in status.splitlines()]
    to = [rule[0] for rule in rules if len(rule) >= 3 and rule[1].startswith(OPENS) and _is_everybody(rule[2:])]
    return any(_covers(place, port) for place in to)


def _is_everybody(source: Sequence[str]) -> bool:
    place = source[0].partition(" on ")[0].removesuffix(" (v6)").split()[0]
    try:
        return ip_network(place, strict=False).prefixlen < LARGEST
    except ValueError:
        return place == EVERYBODY


def _covers(place: str, port: int) -> bool:
    """Whether a port is among those of a rule: `443`, `80,443/tcp on eth0`, `10.0.0.4 6000:6007`, or all of them."""
    ports = place.removesuffix(" (v6)").partition(" on ")[0].split()[-1].partition("/")[0]
    spans = [span.split(":") for span in ports.split(",")]
    numbers = [span for span in spans if all(part.isdecimal() for part in span)]
    return not numbers or any(int(span[0]) <= port <= int(span[-1]) for span in numbers)
