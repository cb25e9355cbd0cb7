"""The firewall as `ops doctor --checklist` judges it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.doctor import firewall
from cli.doctor.firewall import judge_configuration, judge_status

PORTS = (3000, 4200, 5432, 9464)
STATUS = """\
Status: active
Logging: on (low)
Default: deny (incoming), allow (outgoing), disabled (routed)
New profiles: skip

To                         Action      From
--                         ------      ----
22/tcp                     LIMIT IN    Anywhere
80,443/tcp                 ALLOW IN    Anywhere
5432/tcp                   ALLOW IN    203.0.113.7                # PostgreSQL
{more}
22/tcp (v6)                ALLOW IN    Anywhere (v6)
"""


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ("", "no port of the room"),
        ("5432/tcp                   ALLOW IN    Anywhere                   # PostgreSQL", "everybody: 5432"),
        ("5432 on eth0               ALLOW IN    Anywhere", "everybody: 5432"),
        ("10.0.0.4 5432/tcp          ALLOW IN    Anywhere", "everybody: 5432"),
        ("5432                       ALLOW IN    0.0.0.0/1", "everybody: 5432"),
        ("5432                       ALLOW IN    10.0.0.0/8 on eth1", "no port of the room"),
        ("4200 (v6)                  ALLOW IN    Anywhere (v6)", "everybody: 4200"),
        ("5432/tcp                   DENY IN     Anywhere", "no port of the room"),
        ("5000:6000/tcp              ALLOW IN    Anywhere", "everybody: 5432"),
        ("443,9464/tcp               ALLOW IN    Anywhere", "everybody: 9464"),
        ("Anywhere                   ALLOW IN    Anywhere", "everybody: 3000, 4200, 5432, 9464"),
        ("Anywhere on eth0           ALLOW IN    Anywhere", "everybody: 3000, 4200, 5432, 9464"),
    ],
)
def test_firewall_is_judged_by_what_everybody_reaches(more: str, found: str) -> None:
    seen = judge_status(STATUS.format(more=more), PORTS)
    assert found in seen.found
    assert seen.ok is found.startswith("no port")


@pytest.mark.parametrize(
    ("status", "found"),
    [
        ("Status: inactive\n", "not active"),
        ("", "not active"),
        (STATUS.replace("deny (incoming)", "allow (incoming)"), "ports without a rule are open"),
    ],
)
def test_firewall_that_closes_nothing_is_open(status: str, found: str) -> None:
    seen = judge_status(status, PORTS)
    assert (seen.ok, found in seen.found) == (False, True)


@pytest.mark.parametrize(
    ("enabled", "policy", "found"),
    [
        ("yes", "DROP", "root alone sees"),
        ("no", "DROP", "not enabled"),
        ("yes", "ACCEPT", "ports without a rule are open"),
        (None, "DROP", "cannot be read"),
    ],
)
def test_who_is_not_root_sees_whether_it_is_on_and_closed_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, enabled: str | None, policy: str, found: str
) -> None:
    for name in ("ufw", "default"):
        (tmp_path / name).mkdir()
    if enabled is not None:
        (tmp_path / "ufw" / "ufw.conf").write_text(f"# on or off\nENABLED={enabled}\nLOGLEVEL=low\n")
    (tmp_path / "default" / "ufw").write_text(f'DEFAULT_INPUT_POLICY="{policy}"\n')
    assert found in judge_configuration(tmp_path).found
    program = tmp_path / "bin" / "ufw"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'ERROR: You need to be root' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setattr(firewall, "CONFIGURATION", tmp_path)
    seen = firewall.check_firewall(PORTS)
    assert (found in seen.found, seen.ok) == (True, found == "root alone sees")
