"""The rules of a rendered script, by a real ufw between two network namespaces, and what its checks refuse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deployments.hosting.template import Outcome, render
from deployments.hosting.ufw import UFW, UfwValues, check_shell, check_ufw
from tests.support.hosting import GOOD
from tests.support.namespaces import Hosts, two_hosts
from tests.support.programs import needs_root, program
from tests.support.tiers import in_gate

PORTS = {22, 80, 443, 2222, 3000, 4200, 5432, 8069, 8072, 9464}
NAMED, OTHER = "203.0.113.7", "198.51.100.9"


def script(**values: Any) -> str:
    (text,) = render(UFW, UfwValues.model_validate(values)).values()
    return text


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    """A server on which everything listens, and a client with two addresses, one of each family more."""
    for name in ("ufw", "iptables"):
        program(name, package=name)
    server = ["203.0.113.1/24", "198.51.100.1/24", "2001:db8::1/64"]
    client = [f"{NAMED}/24", f"{OTHER}/24", "2001:db8::7/64"]
    with two_hosts(tmp_path, server=server, client=client, ports=PORTS) as found:
        assert found.reached(PORTS, source=NAMED, there="203.0.113.1", wanted=PORTS) == PORTS  # before the rules
        yield found


def apply(hosts: Hosts, folder: Path, text: str) -> None:
    path = folder / "ufw.sh"
    path.write_text(text)
    done = hosts.on_server(["bash", str(path)])
    assert done.returncode == 0, done.stdout + done.stderr


@needs_root
def test_everybody_reaches_ssh_and_the_web_alone(hosts: Hosts, tmp_path: Path) -> None:
    apply(hosts, tmp_path, script())
    for source, there in ((OTHER, "198.51.100.1"), ("2001:db8::7", "2001:db8::1")):
        assert hosts.reached(PORTS, source=source, there=there, wanted={22, 80, 443}) == {22, 80, 443}


@needs_root
@pytest.mark.gate
def test_networks_that_are_named_reach_what_they_are_named_for(hosts: Hosts, tmp_path: Path) -> None:
    """A PostgreSQL that is opened to one address is open to that one alone."""
    apply(
        hosts,
        tmp_path,
        script(ssh_port=2222, ssh_from=f"{NAMED}/32", postgres_from=f"{NAMED},2001:db8::/32", health_from=NAMED),
    )
    named = {80, 443, 2222, 3000, 5432}
    assert hosts.reached(PORTS, source=NAMED, there="203.0.113.1", wanted=named) == named
    assert hosts.reached(PORTS, source=OTHER, there="198.51.100.1", wanted={80, 443}) == {80, 443}
    over6 = {80, 443, 5432}
    assert hosts.reached(PORTS, source="2001:db8::7", there="2001:db8::1", wanted=over6) == over6


@needs_root
@pytest.mark.parametrize("values", [GOOD["ufw"][1], *in_gate(GOOD["ufw"][::2])], ids=["all", "usual", "no web"])
def test_checks_pass_what_is_rendered(values: dict[str, Any]) -> None:
    program("ufw", package="ufw")
    files = {"ufw.sh": script(**values)}
    assert [(one.outcome, one.said) for one in (check_ufw(files), check_shell(files))] == [(Outcome.PASSED, "")] * 2


@needs_root
def test_ufw_refuses_the_line_of_the_document() -> None:
    """`ufw allow 5432/tcp from ADDRESS`, as it was handed out, is not a rule."""
    program("ufw", package="ufw")
    verdict = check_ufw({"ufw.sh": script() + "ufw allow 5432/tcp from 203.0.113.7\n"})
    assert verdict.outcome is Outcome.REFUSED
    assert "ufw allow 5432/tcp from 203.0.113.7: ERROR" in verdict.said


def test_shellcheck_refuses_a_broken_script() -> None:
    assert check_shell({"ufw.sh": script() + "if true\n"}).outcome is Outcome.REFUSED
