"""What a room says of the settings that it has, and who has others."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from cli import deploy
from cli.doctor.room import check_room
from deployments.room.report import RoomReport, deciding_settings, differing_runbooks, read_report, write_report
from opsdb.processes.identity import boot_id, identify
from opsdb.settings import Settings


def report_of(settings: Settings) -> RoomReport:
    """That of a room with these settings, whose supervisor is this process."""
    own = identify(os.getpid())
    assert own is not None
    found = RoomReport(own.pid, own.start_ticks, boot_id(), "ready", "x", "http://ui", alive_at=2**40)
    return replace(found, decided_by=deciding_settings(settings))


def test_deploy_and_doctor_say_where_the_room_has_other_templates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs, ours = (Settings(home=tmp_path, templates=tmp_path / name) for name in ("theirs", "ours"))
    write_report(tmp_path, report_of(theirs))
    said = f"the room runs with OPS_TEMPLATES={tmp_path}/theirs, and here it is {tmp_path}/ours"
    assert differing_runbooks(ours) == said
    deploy._warn_of_other_settings(ours)
    assert f"warning: {said}: what is deployed here is not what its workers execute" in capsys.readouterr().err
    assert [one.found for one in check_room(ours) if not one.ok] == [said]
    deploy._warn_of_other_settings(theirs)
    assert capsys.readouterr().err == ""
    assert all(one.ok for one in check_room(theirs))


def test_setting_that_one_of_both_has_is_named(tmp_path: Path) -> None:
    write_report(tmp_path, report_of(Settings(home=tmp_path)))
    ours = Settings(home=tmp_path, stored_commands=True)
    assert differing_runbooks(ours) == "the room runs with OPS_STORED_COMMANDS=(not set), and here it is True"


def test_room_that_does_not_run_or_is_of_an_earlier_version_says_nothing(tmp_path: Path) -> None:
    ours = Settings(home=tmp_path, templates=tmp_path)
    assert differing_runbooks(ours) is None
    report = report_of(Settings(home=tmp_path))
    write_report(tmp_path, replace(report, pid=2**30))
    assert differing_runbooks(ours) is None
    write_report(tmp_path, report)
    path = tmp_path / "room.json"
    before = json.loads(path.read_text())
    del before["decided_by"]
    path.write_text(json.dumps(before))
    assert read_report(tmp_path) is not None
    assert differing_runbooks(ours) is None
