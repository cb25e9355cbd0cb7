"""How a template's steps are tried again."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows.template import run as template_run
from flows.template.reading import read_template
from opsdb.errors import StepFailedError

STEP = {"name": "one", "command": "true", "timeout": 5}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    run = SimpleNamespace(plan=None, fenced=threading.Event(), event=lambda *_words, **_fields: None)
    monkeypatch.setattr(template_run, "current_run", lambda: run)
    monkeypatch.setattr(template_run, "time", clock)
    return clock


def step_of(folder: Path, **fields: Any) -> Any:
    path = folder / "t.json"
    path.write_text(json.dumps({"kind": "t", "steps": [{**STEP, **fields.pop("step", {})}], **fields}))
    read = read_template(path)
    return lambda: template_run._Execution(read, {})._step(read.template.steps[0])


def test_no_try_is_waited_for_that_the_templates_timeout_leaves_no_time_for(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeouts = []

    def fail(*_words: Any, timeout: float, **_fields: Any) -> None:
        timeouts.append(timeout)
        clock.now += 4
        raise StepFailedError("exit code 1")

    monkeypatch.setattr(template_run, "step", fail)
    policy = {"retries": 9, "delay_seconds": 3}
    with pytest.raises(StepFailedError):
        step_of(tmp_path, retry_policy=policy, timeout_seconds=14)()
    assert timeouts == [5, 5]
    assert clock.slept == [3]


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.usefixtures("clock")
def test_step_says_whether_another_attempt_takes_it_again(
    again: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = []
    monkeypatch.setattr(template_run, "step", lambda *_words, **fields: said.append(fields["must_run_again"]))
    step_of(tmp_path, step={"must_run_again": again})()
    assert said == [again]
