from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from cli.run import deaths as run_deaths
from cli.run import logs as run_logs
from cli.run.logs import choose, show_logs
from cli.run.step_logs import log_path, step_logs
from opsdb.errors import UsageError
from opsdb.runs.lookup import RunDetails
from opsdb.settings import Settings
from opsdb.tables import Artifact, StepStatus
from tests.support.runs_made_up import details


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


@pytest.fixture
def known(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> RunDetails:
    """A run with the log of its second step on this host."""
    found = details(text="pg_dump")
    path = log_path(settings, found.view.run.id, attempt=1, index=2, name="pg_dump")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\x1b[31mred\x1b[0m \xff\nno newline")
    monkeypatch.setattr(run_logs, "_find", lambda *_args, **_options: found)
    return found


def show(settings: Settings, *, step: str | None = None, follow: bool = False, as_json: bool = False) -> None:
    show_logs(settings, run="x", step=step, attempt=None, follow=follow, as_json=as_json)


@pytest.mark.parametrize("follow", [False, True])
def test_all_logs_have_a_header_each_and_are_safe(
    settings: Settings, known: RunDetails, capsys: pytest.CaptureFixture[str], *, follow: bool
) -> None:
    show(settings, follow=follow)
    out = capsys.readouterr().out
    assert "== 1 preflight: succeeded, exit code 0 ==\n(the file is not on this host, or was deleted" in out
    assert "== 2 pg_dump: failed, exit code 1 ==\nred \N{REPLACEMENT CHARACTER}\nno newline\n" in out


@pytest.mark.parametrize("name", ["pg_dump", "2", "02", "02-pg_dump"])
@pytest.mark.parametrize("follow", [False, True])
def test_one_step_goes_into_a_pipe_as_it_is(
    name: str, follow: bool, settings: Settings, known: RunDetails, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    show(settings, step=name, follow=follow)
    assert capsysbinary.readouterr().out == b"\x1b[31mred\x1b[0m \xff\nno newline"


def test_unknown_step_lists_the_steps(settings: Settings, known: RunDetails) -> None:
    for follow in (False, True):
        with pytest.raises(UsageError, match=r"no step 'nix'. There are: 1 preflight, 2 pg_dump"):
            show(settings, step="nix", follow=follow)


def test_name_of_two_steps_needs_the_number(settings: Settings, known: RunDetails) -> None:
    known.steps[0].name = "pg_dump"
    with pytest.raises(UsageError, match="names 2 steps, give the number"):
        choose(step_logs(settings, known, attempt=1), "pg_dump")


def test_registered_file_of_the_same_attempt_is_taken(settings: Settings, known: RunDetails, tmp_path: Path) -> None:
    for attempt in (1, 2):
        path = tmp_path / "elsewhere" / f"attempt-{attempt}" / "01-preflight.log"
        run_id = known.view.run.id
        known.artifacts.append(Artifact(run_id=run_id, kind="file", name=path.name, storage_path=str(path)))
    assert step_logs(settings, known, attempt=1)[0].path == tmp_path / "elsewhere/attempt-1/01-preflight.log"


def test_step_without_a_command_has_no_output(settings: Settings, known: RunDetails) -> None:
    known.steps[0].timeout_seconds = 0
    assert "runs no shell command" in str(step_logs(settings, known, attempt=1)[0].trouble)


def test_step_that_was_not_done_again_and_an_approval_are_no_files_that_are_missing(
    settings: Settings, known: RunDetails
) -> None:
    known.steps[0].status = StepStatus.SKIPPED
    assert "not done again" in str(step_logs(settings, known, attempt=1)[0].trouble)
    for status in (StepStatus.SUSPENDED, StepStatus.SUCCEEDED):
        known.steps[0].status, known.steps[0].exit_code = status, None
        assert "runs no shell command" in str(step_logs(settings, known, attempt=1)[0].trouble)


def test_attempt_that_there_is_not_is_refused(settings: Settings, known: RunDetails) -> None:
    with pytest.raises(UsageError, match="has no attempt 4, its latest is 1"):
        show_logs(settings, run="x", step=None, attempt=4, follow=False, as_json=True)


def test_attempt_without_steps_leads_to_the_one_before(
    settings: Settings, known: RunDetails, capsys: pytest.CaptureFixture[str]
) -> None:
    known.view.run.attempt = 3
    show(settings)
    err = capsys.readouterr().err
    assert "attempt 3 of run" in err
    assert err.endswith("has no steps; that before it has: --attempt 1\n")


def test_follow_and_json_exclude_each_other(settings: Settings, known: RunDetails) -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        show(settings, follow=True, as_json=True)


def test_run_that_died_and_is_tried_again_is_followed_into_its_next_attempt(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = details(attempt=1), details(attempt=2)
    for found in (first, second):
        found.states[0].id = found.view.run.state_id
    first.states[0].type = "CRASHED"
    told = iter([first, second])
    monkeypatch.setattr(run_logs, "_find", lambda *_args, **_options: first)
    monkeypatch.setattr(run_logs, "reading", lambda _settings: nullcontext())
    monkeypatch.setattr(run_logs, "read_run", lambda *_args: next(told))
    monkeypatch.setattr(run_deaths.Deaths, "_expected", lambda *_args: True)
    monkeypatch.setattr(run_logs, "POLL_SECONDS", 0)
    show(settings, follow=True)
    assert next(told, None) is None
    assert capsys.readouterr().out.count("== 1 preflight") == 2
