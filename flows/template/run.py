"""A template that was read becomes a runbook, and its run."""

from __future__ import annotations

import inspect
import math
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from prefect import Flow
from prefect.blocks.system import Secret
from prefect.context import FlowRunContext

from flows.engine.active_run import ActiveRun, current_run
from flows.engine.approval import approval
from flows.engine.runbook import runbook
from flows.engine.step import action, step
from flows.shell.masking import SecretPatterns
from flows.template.command import filled_in, references
from flows.template.known_parameters import REQUIRED
from flows.template.model import PlainStep, SecretSource, Step
from flows.template.parameters import as_text, signature_of
from flows.template.reading import ReadTemplate
from flows.template.shell_text import document_marks
from flows.template.words import misjoined, refusal
from opsdb.errors import OpsError, PreflightError, StepFailedError, StepTimeoutError
from opsdb.record.entries import TemplateUsed

MARGIN_SECONDS = 60  # the preflight, and what ends with each step
KILL_SECONDS = 7  # what a step that is stopped may take beyond its timeout: TERM, 5 s, KILL


def runbook_of(read: ReadTemplate) -> Flow[..., Any]:
    """The runbook of a template, with a parameter of the form for each of the template's."""
    template = read.template

    def body(**values: Any) -> dict[str, Any]:
        return _Execution(read, values).run()

    body.__name__ = body.__qualname__ = template.kind
    body.__doc__ = _docstring(read)
    body.__signature__ = signature_of(read.parameters)  # type: ignore[attr-defined]
    body.__annotations__ = {}
    decorated = runbook(
        deadline_seconds=template.steps_seconds
        + template.on_failure_seconds
        + KILL_SECONDS * template.most_tries
        + MARGIN_SECONDS,
        max_attempts=template.requeue,
        exclusive=template.exclusive,
        version=template.definition,
        subject=template.subject,
    )
    return decorated(body)


def _docstring(read: ReadTemplate) -> str:
    template = read.template
    about = inspect.cleandoc(template.description) or f"The template {read.path.name}."
    steps = ", ".join(f"{one.name} (asks before)" if one.approval else one.name for one in template.steps)
    needs = [f"**Programs:** {', '.join(read.programs)}", ""] if read.programs else []
    given = "".join(f" -p {one.name}=..." for one in read.parameters if one.default is REQUIRED)
    example = ["```", f"ops run {template.kind}{given} --wait", "```"]
    lines = [f"    {one.name}: {' '.join(one.description.split()) or one.type}" for one in read.parameters]
    whole = [about, "", f"**Steps:** {steps}", "", *needs, *example]
    return "\n".join([*whole, *(["", "Args:", *lines] if lines else [])])


class _Execution:
    """One run of a template."""

    def __init__(self, read: ReadTemplate, values: Mapping[str, Any]) -> None:
        self._read = read
        self._given = values
        self._values = {name: as_text(value) for name, value in values.items()}
        self._secrets: dict[str, str] = {}
        self._run = current_run()
        self._started = time.monotonic()

    def run(self) -> dict[str, Any]:
        template = self._read.template
        if self._run.plan is None:
            name, document = self._read.path.stem, template.document
            used = TemplateUsed(self._run.id, name=name, template=document, definition=template.definition)
            self._run.record(used)
            _say_when_form_differs(self._run, template.definition)
        about = f"check programs ({', '.join(self._read.programs) or 'none'}), folders"
        action(
            "preflight", self._prepare, about=f"{about} and secrets" if self._read.secrets else about, preflight=True
        )
        for one in template.steps:
            try:
                self._step(one)
            except OpsError:
                if not self._run.fenced.is_set():
                    self._after_failure(one)
                raise
        return {
            "template": self._read.path.name,
            "definition": template.definition,
            "duration_seconds": round(time.monotonic() - self._started, 3),
        }

    def _prepare(self) -> None:
        """Raises PreflightError that names all that is missing."""
        problems = [
            f"{name} is not on the PATH" for name in self._read.programs if not _is_there(name, self._read.path)
        ]
        problems += self._unfit()
        folders = {self._read.folder_of(one): None for _, one in self._read.template.all_steps}
        problems += [f"the folder {folder} does not exist" for folder in folders if not folder.is_dir()]
        problems += self._not_there()
        for name, source in self._read.secrets.items():
            try:
                self._secrets[name] = _fetch(source)
                SecretPatterns({name: self._secrets[name]})
            except OpsError as error:
                problems.append(f"secret {name}: {error}")
        if problems:
            raise PreflightError("; ".join(problems))

    def _not_there(self) -> list[str]:
        """What parameters name as `existing` and is missing; a relative path is below the template's own folder."""
        problems = []
        for name, declared in (self._read.template.params or {}).items():
            if declared.existing is None:
                continue
            is_there = Path.is_dir if declared.existing == "folder" else Path.is_file
            value = self._given[name]
            for text in value if isinstance(value, list) else [value]:
                if text and not is_there(self._read.path.parent / text):
                    problems.append(f"parameter {name}: there is no {declared.existing} {text!r} on this host")
        return problems

    def _unfit(self) -> list[str]:
        """The values that cannot stand in a command: looked at again, where the command is made."""
        named = {name: None for _, one in self._read.template.all_steps for name in references(one.command)}
        declared = self._read.template.params or {}
        problems = []
        for name in named:
            value = self._given[name]
            empty = name in declared and (declared[name].min_length == 0 or "" in (declared[name].enum or []))
            for text in value if isinstance(value, list) else [value]:
                if isinstance(text, str):
                    problems.append(refusal(name, text, carriers=self._read.carriers, may_be_empty=empty))
        if not any(problems):
            for where, one in self._read.template.all_steps:
                reason = misjoined(one.command, self._values, marks=document_marks(one.command))
                problems.append(reason and f"{where}: {reason}")
        return [problem for problem in problems if problem]

    def _step(self, one: Step) -> None:
        if one.approval is not None:
            approval(
                f"approve_{one.name}", filled_in(one.approval.question, self._values), timeout=one.approval.timeout
            )
        tries = 1 + self._read.template.retries_of(one)
        delay = self._read.template.retry_policy.delay_seconds
        for number in range(1, tries + 1):
            timeout = self._time_for(one)
            try:
                self._execute(one, timeout=timeout, must_run_again=one.must_run_again)
            except (StepFailedError, StepTimeoutError) as error:
                if number == tries or self._left <= delay or self._run.fenced.is_set():
                    raise
                self._run.event(
                    f"step {one.name} failed in try {number} of {tries}: the next one in {delay:g} s",
                    level="warning",
                    error=str(error).partition("\n")[0],
                )
                time.sleep(delay)
            else:
                return

    def _time_for(self, one: Step) -> float:
        """The step's timeout, or what is left of the template's. Raises StepTimeoutError when nothing is."""
        left = self._left
        if left <= 0:
            total = self._read.template.timeout_seconds
            raise StepTimeoutError(f"timeout_seconds: the {total:g} s of the template were over before step {one.name}")
        if left < one.timeout:
            self._run.event(f"step {one.name} gets {left:.1f} s: what timeout_seconds leaves of its {one.timeout:g} s")
        return min(left, one.timeout)

    @property
    def _left(self) -> float:
        """The seconds that are left of the template's own timeout, which it may not have."""
        total = self._read.template.timeout_seconds
        if total is None or self._run.plan is not None:
            return math.inf
        return total - (time.monotonic() - self._started)

    def _after_failure(self, failed: Step) -> None:
        """Run the template's commands for a failure. None of it hides that failure."""
        for one in [*failed.on_failure, *self._read.template.on_failure]:
            try:
                self._execute(one, timeout=one.timeout)
            except OpsError as error:
                if self._run.fenced.is_set():
                    return
                reason = str(error).partition("\n")[0]
                self._run.event(f"on_failure step {one.name} failed as well: {reason}", level="warning")

    def _execute(self, one: PlainStep, *, timeout: float, must_run_again: bool = False) -> None:
        env, secrets = environment_of(one, self._values, self._secrets, self._read.variables)
        step(
            one.name,
            filled_in(one.command, self._values),
            timeout=timeout,
            env=env,
            secrets=secrets,
            working_dir=self._read.folder_of(one),
            must_run_again=must_run_again,
        )


def environment_of(
    one: PlainStep, values: Mapping[str, str], secrets: Mapping[str, str], variables: Mapping[str, Iterable[str]]
) -> tuple[dict[str, str], dict[str, str]]:
    """The environment of a step, and that part of it that is secret.

    Every parameter is there as `variables` say, and the step's own variables with the values that they name.
    """
    env = {variable: value for name, value in values.items() for variable in variables[name]}
    hidden = {variable: value for name, value in secrets.items() for variable in variables[name]}
    for key, text in one.env.items():
        env.pop(key, None)
        hidden.pop(key, None)
        secret = not secrets.keys().isdisjoint(references(text))
        (hidden if secret else env)[key] = filled_in(text, {**values, **secrets})
    return env, hidden


def _fetch(source: SecretSource) -> str:
    """The secret itself. Raises PreflightError, which never quotes it."""
    if source.env is not None:
        value = os.environ.get(source.env)
        if not value:
            raise PreflightError(f"the environment variable {source.env} of the worker is not set")
        return value
    try:
        loaded = Secret.load(source.block or "").get()  # type: ignore[union-attr]
    except ValueError:
        raise PreflightError(f"there is no Secret block {source.block!r} in Prefect: make it in the UI") from None
    if not isinstance(loaded, str):
        raise PreflightError(f"the Secret block {source.block!r} holds no text")
    return loaded


def _is_there(program: str, template: Path) -> bool:
    if "/" in program:
        return os.access(template.parent / program, os.X_OK)
    return shutil.which(program) is not None


def _say_when_form_differs(run: ActiveRun, definition: str) -> None:
    context = FlowRunContext.get()
    deployed = context.flow_run.deployment_version if context and context.flow_run else None
    if deployed and not definition.startswith(deployed):
        run.event(
            "the template changed since `ops deploy`: the form shows another version than the one that runs",
            level="warning",
            deployed=deployed,
            definition=definition,
        )
