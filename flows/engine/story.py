"""What a run says of itself on its page: a line for each thing that happens, a table of steps, and how it ended."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from flows.engine.artifact_keys import PROGRESS, STEPS, artifact_key, subject_of
from flows.engine.facts import Explain, Facts, result_facts
from flows.engine.markdown import block, code, table, text
from flows.engine.page import Page
from flows.engine.page_artifacts import Artifact
from opsdb.amounts import seconds
from opsdb.kinds.subjects import REFERENCE, Subject
from opsdb.progress import Progress
from opsdb.runs.lookup import short_id
from opsdb.shown import QUOTE, shown

log = logging.getLogger(__name__)

MOST_STEPS = 200
"""Rows of the table: the last ones."""
_COMMAND_CHARACTERS = 300
_REASON_CHARACTERS = 500


@dataclass(slots=True)
class _Row:
    """A step in the table."""

    step: int
    name: str
    status: str
    seconds: float | None
    exit_code: int | None
    what: str
    began: float = field(default=0.0, repr=False)


class Story:
    """Describes one attempt on its page. Escapes all text that it is given; never waits, and raises for none of it."""

    def __init__(
        self,
        page: Page,
        *,
        run_id: UUID,
        kind: str,
        attempt: int = 1,
        parameters: Mapping[str, Any] | None = None,
        exclusive: str | None = None,
        called: Subject | None = None,
        explain: Explain = result_facts,
        progress: Callable[[], Mapping[int, Progress | None]] = dict,
    ) -> None:
        self._page = page
        self._run = short_id(run_id)
        self._attempt = attempt
        self._parameters = parameters or {}
        called = called or Subject(kind=kind, pattern=kind)
        named = REFERENCE.findall(called.pattern)
        self._key = artifact_key(kind, subject_of(kind, self._parameters, exclusive=exclusive, named=named))
        self._title = text(called.name(self._parameters))
        self._explain = explain
        self._progress = progress
        self._rows: dict[int, _Row] = {}
        self._failed: _Row | None = None
        self._measured: set[int] = set()
        self._began = time.monotonic()

    def begins(self) -> None:
        """The attempt begins."""
        self._page.say(f"Attempt {self._attempt} begins" if self._attempt > 1 else "The run begins")
        unless = "Where the run is over and this still stands here, its process was killed: its state says why."
        self._put("is running", [unless], [f"ops logs {self._run} --follow"])

    def step_begins(self, index: int, name: str, command: str) -> None:
        """A step begins; of its command no secret is part."""
        what = _one_line(command, _COMMAND_CHARACTERS)
        row = _Row(index, shown(name), "running", None, None, what, time.monotonic())
        self._rows[index] = row
        self._page.say(f"Step {index} {row.name} begins: {what}")
        self._put_steps()

    def step_kept(self, index: int, name: str, command: str) -> None:
        """A step is not done again, since it succeeded in an earlier attempt; of its command no secret is part."""
        what = _one_line(command, _COMMAND_CHARACTERS)
        self._rows[index] = row = _Row(index, shown(name), "kept", None, None, what)
        self._page.say(f"Step {index} {row.name} is not done again: it succeeded in an earlier attempt")
        self._put_steps()

    def step_ended(
        self, index: int, status: str, *, exit_code: int | None = None, error: str = "", note: str = ""
    ) -> None:
        """A step ended; `error` says why, if it did not succeed, and `note` what else is to be known."""
        row = self._rows[index]
        row.seconds, row.status, row.exit_code = round(time.monotonic() - row.began, 2), status, exit_code
        end = f"Step {index} {row.name} {status} after {seconds(row.seconds)}"
        end += "" if exit_code is None else f", exit code {exit_code}"
        reason = _reason(error, known=exit_code is not None) if error else _one_line(note, _REASON_CHARACTERS)
        self._page.say(f"{end}: {reason}" if reason else end, level=logging.ERROR if error else logging.INFO)
        self._failed = row if error else self._failed
        if index in self._measured and not error:
            self._put_progress(index, 100, "done")
        self._put_steps()

    def asks(self, index: int, question: str, *, until_at: datetime) -> None:
        """The run waits for an approval of what comes next, and ends its process."""
        self._rows[index].status = "needs approval"
        self._put_steps()
        until = f"{until_at:%Y-%m-%d %H:%M:%S} UTC"
        question = _one_line(question, 2000)
        self._page.say(
            f"Waits for approval until {until}: {question} Approve: `ops approve {self._run}`, or Resume in the UI. "
            f"Refuse: `ops cancel {self._run}`",
            level=logging.WARNING,
        )
        self._put(
            "needs approval",
            [f"**{text(question)}**", f"It waits until {until}, and fails when nobody has answered by then. Whoever "
             "may log in here, or run `ops` on the room's host, can answer: *Resume* on this page, or"],
            [f"ops approve {self._run}", f"ops cancel {self._run}"],
        )  # fmt: skip

    def waits(self, message: str) -> None:
        """The run gave up its slot until a time of its own choice."""
        self._page.say(f"The run ends its process and {_one_line(message, _REASON_CHARACTERS)}")
        self._put(text(_one_line(message, _REASON_CHARACTERS)), [], [])

    def succeeded(self, result: Any) -> None:
        """The runbook returned."""
        took = seconds(time.monotonic() - self._began)
        self._page.say(f"The run succeeded after {took}")
        values = result if isinstance(result, Mapping) else {}
        try:
            facts = self._explain(self._parameters, values)
        except Exception:  # what is said of a run must not fail it
            log.exception("the page of run %s says no more than its result", self._run)
            facts = result_facts(self._parameters, values)
        self._put(f"succeeded after {took}", [table(facts.rows)] if facts.rows else [], [], facts=facts)
        self._end()

    def failed(self, error: Mapping[str, Any], *, interrupted: bool) -> None:
        """The runbook raised; `error` is as `ops.runs.error` has it."""
        reason = _reason(str(error.get("message") or error.get("type") or ""), known=False)
        where = f" in step {self._failed.step} {self._failed.name}" if self._failed else ""
        word = "was stopped" if interrupted else "failed"
        logs = f"ops logs {self._run}" + (f" --step {self._failed.step}" if self._failed else "")
        hint = f"Next: `{logs}`, `ops show {self._run}`; `ops retry {self._run}` tries again"
        self._page.say(f"The run {word}{where}: {reason}", level=logging.ERROR)
        self._page.say(hint)
        said = [line.removeprefix(QUOTE) for line in str(error.get("message") or "").splitlines()]
        parts = [f"It {word}{text(where)}:", block(said or [str(error.get("type"))])]
        again = [f"ops retry {self._run}", f"ops retry {self._run} --from-failed"]
        self._put(word, parts, [logs, *again])
        self._end()

    def show_progress(self) -> None:
        """Show how far the running step is, as it was seen last."""
        for index, progress in self._progress().items():
            if progress is not None and index in self._rows:
                self._measured.add(index)
                self._put_progress(index, progress.percent or 0, str(progress))

    def _put_progress(self, index: int, percent: int, said: str) -> None:
        about = f"Step {index} {text(self._rows[index].name)}: {text(said)}"
        self._page.artifacts.put(Artifact(f"{self._key}{PROGRESS}", "progress", float(percent), about))

    def _put(self, status: str, parts: list[str], commands: list[str], *, facts: Facts | None = None) -> None:
        attempt = f", attempt {self._attempt}" if self._attempt > 1 else ""
        at = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
        run = f"Run {code(self._run)}{attempt}, {at}. `ops show {self._run}` has all of it."
        said = [f"## {self._title} {status}", *parts]
        if facts and facts.commands:
            said += [facts.commands_are_for, block(facts.commands, "sh")]
        if commands:
            said.append(block(commands, "sh"))
        self._page.artifacts.put(Artifact(self._key, "markdown", "\n\n".join([*said, run]), self._title))

    def _put_steps(self) -> None:
        rows = [asdict(row) for row in list(self._rows.values())[-MOST_STEPS:]]
        for row in rows:
            del row["began"]
        about = f"The steps of attempt {self._attempt} of run {code(self._run)}"
        self._page.artifacts.put(Artifact(f"{self._key}{STEPS}", "table", json.dumps(rows), about))

    def _end(self) -> None:
        self._page.artifacts.remove(f"{self._key}{PROGRESS}")


def _one_line(value: str, most: int) -> str:
    said = " \u23ce ".join(" ".join(line.split()) for line in value.splitlines() if line.strip())  # the sign for return
    return shown(said if len(said) <= most else f"{said[: most - 3]}...")


def _reason(message: str, *, known: bool) -> str:
    """What happened, unless that is known already, and the first line of what was said of it, on one line."""
    lines = [line.removeprefix(QUOTE) for line in message.splitlines() if line.strip()]
    return _one_line(": ".join(lines[1:2] if known else lines[:2]), _REASON_CHARACTERS)
