"""`ops doctor`: checks that hang or break are lines, secrets get through nowhere, and the exit code tells."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr
from rich.console import Console

from blocks.check import Check
from cli import main
from cli.doctor import doctor, host
from cli.doctor.checks import Area, Finding, presentable, run_checks
from cli.doctor.doctor import Examination
from cli.doctor.host import (
    check_backup_keys,
    check_folders,
    check_own_runbooks,
    check_programs,
    check_settings,
    check_templates,
    judge_disk,
    known_secrets,
)
from deployments.server import access
from flows.backup.keyring import Key, room_keyring
from opsdb.errors import RoomUnreachableError, UsageError
from opsdb.settings import Settings
from tests.support.backups import KEY, NOW, make_backup, manifest_at, unsigned_text, with_sum

SECRET = "correct-horse-battery"


def checks(findings: list[Finding]) -> list[Check]:
    return [one.check for one in findings]


def test_check_that_hangs_is_left_behind_with_what_it_saw() -> None:
    held = threading.Event()

    def slow() -> Iterator[Check]:
        yield Check("first", "fine")
        held.wait(30)

    began = time.monotonic()
    found = run_checks([Area("slow", slow), Area("quick", lambda: [Check("one", "fine")])], seconds=0.2)
    assert time.monotonic() - began < 5
    held.set()
    assert [(one.area, one.check.subject, one.check.ok) for one in found] == [
        ("slow", "first", True),
        ("slow", "time", False),
        ("quick", "one", True),
    ]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (UsageError("OPS_X: expected a number"), "OPS_X: expected a number"),
        (RoomUnreachableError("no room"), "no room"),
        (ValueError(f"invalid port: {SECRET}"), "failed with ValueError"),
        (psycopg.OperationalError(f"could not translate host name {SECRET}"), "failed with OperationalError"),
    ],
)
def test_check_that_breaks_is_a_line_without_what_a_stranger_said(error: Exception, words: str) -> None:
    def broken() -> list[Check]:
        raise error

    [found] = run_checks([Area("it", broken)], seconds=5)
    assert not found.check.ok
    assert words in found.check.found
    assert SECRET not in repr(found)


def test_secrets_and_control_characters_are_not_shown() -> None:
    shown = f"a {SECRET} b\x1b[2J\n\u202e" + "x" * 1000 + "\ud800"
    [found] = presentable([Finding("it", Check(shown, shown, shown))], secrets=[SECRET, "ab", "not utf-8 \udcff"])
    for text in (found.check.subject, found.check.found, found.check.advice):
        assert text.startswith("a *** b")
        assert len(text) <= 300
        assert text.isprintable()


def test_secret_that_is_cut_off_at_the_end_of_a_line_is_not_shown_in_part() -> None:
    [found] = presentable([Finding("it", Check("s", "x" * 290 + SECRET))], secrets=[SECRET])
    assert SECRET[:6] not in found.check.found


def test_every_secret_of_the_settings_is_known(tmp_path: Path) -> None:
    names = [name for name, field in Settings.model_fields.items() if "Secret" in str(field)]
    values: dict[str, Any] = {name: f"https://room:{SECRET}@{name}.example/" for name in names}
    settings = Settings(home=tmp_path, **values)
    settings.alert_urls = SecretStr("mmosts://chat.example/one-token/ warning=mmosts://chat.example/two-token/")
    ours = access.make_secrets(settings)
    key = room_keyring(settings).make_own()
    known = set(known_secrets(settings))
    assert known >= {key.text.strip(), key.secret.hex()}
    assert known >= {SECRET, "mmosts://chat.example/one-token/"}
    assert known >= {value for name, value in values.items() if name != "alert_urls"}
    assert known >= {ours.prefect_auth_string, ours.prefect_encryption_key}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("OPS_LANE_LIMTI", "3", "did you mean OPS_LANE_LIMIT?"),
        ("OPS_WHATEVER_THIS_IS", "3", "unset it"),
        ("OPS_ALERT_URLS", "mmosts://ops@chat.example.org/TOKEN/", "real value"),
        ("OPS_DATABASE_URL", "postgresql://room:changeme@db/ops", "real value"),
    ],
)
def test_settings_that_do_nothing_or_were_copied_are_named(name: str, value: str, words: str) -> None:
    [check] = check_settings(Settings(), {name: value, "OPS_RUN_ID": "x", "HOME": "/"})
    assert (check.subject, check.ok) == (name, False)
    assert words in check.advice
    assert value not in repr(check)


def test_settings_in_order_are_one_line_without_values() -> None:
    [check] = check_settings(Settings(), {"OPS_DATABASE_URL": f"postgresql://room:{SECRET}@db/ops"})
    assert check.ok
    assert "OPS_DATABASE_URL" in check.found
    assert SECRET not in repr(check)


def test_programs_are_wanted_for_what_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "bash").symlink_to("/bin/bash")  # which reads the templates
    for name in ("docker", "git", "curl"):
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = {check.subject: check for check in check_programs(Settings(), lambda: {"odoo_db_backup"})}
    assert not found["odoo_db_backup"].ok
    assert "sha256sum" in found["odoo_db_backup"].advice
    assert found["odoo_fresh_deploy"].ok
    assert "doctl" in found["odoo_fresh_deploy"].found
    assert "odoo_module_upgrade" in found["runbooks"].found


def test_programs_and_errors_of_templates_are_told(tmp_path: Path) -> None:
    step = {"name": "pull", "command": "no-such-program --now", "timeout": 9}
    (tmp_path / "pull.json").write_text(json.dumps({"kind": "pull_it", "steps": [step]}))
    (tmp_path / "broken.yaml").write_text("kind: broken\n")
    settings = Settings(templates=tmp_path)
    found = {check.subject: check for check in check_programs(settings, lambda: {"pull_it"})}
    assert "no-such-program" in found["pull_it"].advice
    assert "disk_space" in found["runbooks"].found
    broken, others = check_templates(settings)
    assert (broken.subject, broken.ok, others.ok) == ("broken.yaml", False, True)
    assert "steps" in broken.found


def test_own_runbooks_that_cannot_run_are_named_once(tmp_path: Path) -> None:
    head = "from flows.engine.runbook import runbook\n"
    two = "".join(f"@runbook(deadline_seconds=9)\ndef {name}(): ...\n" for name in ("first_one", "second_one"))
    (tmp_path / "broken_two.py").write_text(f"{head}1 / 0\n{two}")
    (tmp_path / "fine_two.py").write_text(head + two.replace("_one", "_fine"))
    broken, others = check_own_runbooks(Settings(runbooks=tmp_path))
    assert (broken.subject, broken.ok, others.ok) == ("broken_two.py", False, True)
    assert broken.found == f"{tmp_path}/broken_two.py:2: ZeroDivisionError: division by zero"
    assert others.found == "2 can run"


def test_file_of_own_runbooks_that_others_may_write_is_named(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mine.py").write_text("")
    settings = Settings(home=tmp_path / "home", runbooks=tmp_path / "own", backup_dir=tmp_path / "backups")
    assert all(check.ok for check in check_folders(settings))
    (tmp_path / "own" / "mine.py").chmod(0o666)
    (check,) = check_folders(settings)
    assert (check.subject, check.ok) == ("OPS_RUNBOOKS", False)
    assert check.found == f"everybody may write to {tmp_path}/own/mine.py: whoever does runs commands as this user"
    (tmp_path / "own").chmod(0o777)
    (check,) = check_folders(settings)  # of the folder, and not once more for each file
    assert f"everybody may write to {tmp_path}/own:" in check.found


@pytest.mark.parametrize(
    ("free", "largest", "writable", "ok"),
    [(50, 1, True, True), (0.9, 0, True, False), (20, 30, True, False), (4, 0, True, False), (50, 0, False, False)],
)
def test_disk_has_room_for_another_backup(free: float, largest: float, writable: bool, ok: bool) -> None:
    check = judge_disk(
        "backups", Path("/b"), free=int(free * 1e9), total=100 * 10**9, writable=writable, largest=int(largest * 1e9)
    )
    assert check.ok is ok


def test_folders_where_others_write_are_named(tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "backups").mkdir()
    settings = Settings(home=tmp_path / "home", templates=tmp_path / "templates", backup_dir=tmp_path / "backups")
    assert all(check.ok for check in check_folders(settings))
    (tmp_path / "templates").chmod(0o777)
    (tmp_path / "backups").chmod(0o777)
    backups, templates = check_folders(settings)
    assert not backups.ok
    assert "runs refuse it" in backups.found
    assert not templates.ok
    assert "whoever does runs commands as this user" in templates.found


def test_backups_that_a_restore_would_refuse_are_counted_with_what_to_do(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    settings.backups.mkdir(parents=True)
    assert [(one.ok, one.found) for one in check_backup_keys(settings)] == [
        (True, "none yet: the first backup makes it")
    ]
    keyring = room_keyring(settings)
    own = keyring.make_own()
    keyring.accept(KEY)
    for days in range(4):
        make_backup(settings.backups, "odoo", NOW - timedelta(days=days))
    [check] = check_backup_keys(settings)
    assert (check.ok, check.found) == (True, f"{own.id}, and 1 of other rooms")
    newest, old, other, cut = sorted(settings.backups.glob("*.json"), reverse=True)
    manifests = {path: manifest_at(path) for path in (newest, old, other, cut)}
    for path in (old, cut):
        manifest = manifests[path]
        assert manifest is not None
        path.write_text(unsigned_text(manifest))
    cut.with_suffix("").write_bytes(b"du")
    theirs = manifests[other]
    assert theirs is not None
    other.write_text(theirs.text(Key(b"o" * 32)))
    newest.write_text(with_sum(newest.read_text().replace('"tables": 1', '"tables": 2')))
    found = list(check_backup_keys(settings))
    assert not any(one.ok for one in found)
    assert ["1 is forged" in found[0].found, "a key that is not here" in found[1].found] == [True, True]
    assert ("1 is unsigned" in found[2].found, "`ops backups sign`" in found[2].advice) == (True, True)


def test_code_of_the_room_where_others_write_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(home=tmp_path / "home")
    for name in host.PACKAGES:
        (tmp_path / name).mkdir()
    monkeypatch.setattr(host, "__file__", str(tmp_path / "cli" / "doctor" / "host.py"))
    assert all(check.ok for check in check_folders(settings))
    (tmp_path / "flows" / "nightly_backup.py").touch()
    (tmp_path / "flows" / "nightly_backup.py").chmod(0o666)
    (check,) = check_folders(settings)
    assert "whoever does runs commands as this user" in check.found


def test_problems_stand_with_what_to_do_and_what_passed_is_counted() -> None:
    fine, bad = Finding("a", Check("s", "[bold]fine[/]")), Finding("b", Check("s", "bad " * 20, "do this"))
    console = Console(width=40, record=True, file=sys.stderr)
    console.print(doctor.problems([fine, bad]), crop=False)
    assert console.export_text().split("\n") == [f"b, s: {'bad ' * 20}", "  do: do this", ""]
    console.print(doctor.passed([fine, bad]))
    text = console.export_text()
    assert "[bold]fine[/]" in text
    assert "bad" not in text
    assert str(doctor.summary(Examination([fine, bad]), listed=True)) == "1 problem, 1 check passed"
    assert str(doctor.summary(Examination([fine]), listed=False)) == "0 problems, 1 check passed: a 1; --all lists them"


def test_checks_that_are_skipped_are_counted_with_the_reason() -> None:
    examined = Examination([Finding("a", Check("s", "f"))], skipped=["sync", "prefect", "sync"])
    said = str(doctor.summary(examined, listed=True)).splitlines()
    assert said == [
        "0 problems, 1 check passed",
        "3 checks skipped, because the room does not run: sync 2, prefect 1",
    ]


def test_room_that_does_not_run_skips_what_is_about_its_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPS_HOME", str(tmp_path))
    settings = Settings(home=tmp_path)
    examined = doctor.examine()
    assert list(examined.skipped) == [one.name for one in doctor.areas_of_room(settings)]
    assert {one.area for one in examined.findings} <= {one.name for one in doctor.areas_of_host(settings)}


@pytest.mark.parametrize(("advice", "code"), [("", 0), ("do this", 1)])
def test_exit_code_says_whether_something_needs_doing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], advice: str, code: int
) -> None:
    monkeypatch.setattr(
        doctor, "examine", lambda _block, *, days: Examination([Finding("it", Check("s", "f", advice))])
    )
    monkeypatch.setattr(sys, "argv", ["ops", "doctor", "--json"])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == code
    said = json.loads(capsys.readouterr().out)
    line = {"area": "it", "subject": "s", "found": "f", "advice": advice, "ok": not advice}
    assert said == {"ok": not advice, "checks": [line], "skipped": []}


def test_settings_that_cannot_be_read_are_the_one_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPS_LANE_LIMIT", "many")
    monkeypatch.setenv("OPS_DATABASE_URL", f"postgresql://room:a@{SECRET}/x@db/ops")
    [found] = doctor.examine().findings
    assert not found.check.ok
    assert "OPS_LANE_LIMIT" in found.check.found
    monkeypatch.delenv("OPS_LANE_LIMIT")
    [found] = doctor.examine().findings
    assert "OPS_DATABASE_URL" in found.check.found
    assert SECRET not in repr(found)


def test_secrets_that_others_may_read_are_a_finding_and_end_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access.make_secrets(Settings(home=tmp_path))
    access.secrets_path(Settings(home=tmp_path)).chmod(0o644)
    monkeypatch.setenv("OPS_HOME", str(tmp_path))
    wrong = [one for one in doctor.examine().findings if not one.check.ok]
    assert [one.area for one in wrong] == ["secrets", "room"]
    assert "readable by its owner alone" in wrong[0].check.found
