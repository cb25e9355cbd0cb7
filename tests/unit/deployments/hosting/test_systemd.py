"""The units of systemd: judged by systemd-analyze, and agreeing with the room that they start."""

from __future__ import annotations

import configparser
import re
from typing import Any

import pytest

from cli.main import FILES
from deployments.hosting.systemd import SYSTEMD, SystemdValues, check_units
from deployments.hosting.template import Outcome, render
from opsdb.settings import Settings
from tests.support.documents import check_ops
from tests.support.hosting import GOOD
from tests.support.programs import program
from tests.support.tiers import in_gate


def units(**values: Any) -> dict[str, str]:
    return render(SYSTEMD, SystemdValues.model_validate({"home": "/opt/ops/.ops", **values}))


def parsed(text: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(delimiters="=", strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys keep their capitals
    parser.read_string(text)
    return parser


@pytest.mark.parametrize("values", GOOD["systemd"], ids=str)
def test_systemd_passes_the_units_without_a_word(values: dict[str, Any]) -> None:
    program("systemd-analyze", package="systemd")
    verdict = check_units(units(**values))
    assert (verdict.outcome, verdict.said) == (Outcome.PASSED, "")


@pytest.mark.parametrize(
    ("line", "broken", "said"),
    [
        ("KillMode=mixed", "KillMod=mixed", "Unknown key"),  # systemd only warns, and ends with 0
        *in_gate(
            [
                ("Restart=on-failure", "Restart=sometimes", "Failed to parse"),
                ("WorkingDirectory=/opt/ops", "WorkingDirectory=opt/ops", "not absolute"),
            ]
        ),
    ],
)
def test_systemd_refuses_a_broken_unit(line: str, broken: str, said: str) -> None:
    program("systemd-analyze", package="systemd")
    verdict = check_units({name: text.replace(line, broken) for name, text in units().items()})
    assert verdict.outcome is Outcome.REFUSED
    assert said in verdict.said


def test_each_part_that_the_command_line_has_has_a_unit_with_a_command_that_exists() -> None:
    files = units()
    assert {f"ops-{part}.service" for part in FILES["cli.parts"]} == files.keys() - {"ops-control-room.service"}
    for text in files.values():
        (command,) = re.findall(r"^ExecStart=\S+ (.*)$", text, re.MULTILINE)
        check_ops(command.split(), complete=True)
        assert parsed(text)["Install"]["WantedBy"] == "multi-user.target"


def test_a_part_and_the_room_exclude_each_other_on_a_host() -> None:
    for name, text in units().items():
        room = name == "ops-control-room.service"
        assert parsed(text)["Unit"].get("Conflicts") == (None if room else "ops-control-room.service")


@pytest.mark.parametrize("drain", [0, 30, 300])
def test_systemd_waits_for_as_long_as_a_stop_of_the_room_may_take(drain: float) -> None:
    """With less, systemd would kill the room while its runs end in good order."""
    service = parsed(units(drain_seconds=drain)["ops-control-room.service"])["Service"]
    assert float(service["TimeoutStopSec"]) >= Settings(drain_seconds=drain).timings.room_stop
    assert service["KillMode"] == "mixed"  # the signal goes to the supervisor alone, which stops its parts in order
