"""The deployments that prefect.yaml, templates and own runbooks ask for, checked before anything is written."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from prefect.flows import Flow, load_flow_from_entrypoint
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import to_jsonable_python

from deployments.server.merge import given
from deployments.server.when import schedule_of
from opsdb.errors import OpsError
from opsdb.kinds import runbook_files as own
from opsdb.kinds.names import current_name, deployment_name
from opsdb.kinds.template_files import PACKAGE
from opsdb.refusals import refusal
from opsdb.runs.prefect_runs import RUNBOOK_TAG
from opsdb.schedules.blackouts import read_blackout
from opsdb.schedules.catch_up import read_catch_up
from opsdb.schedules.cron_words import check_cron
from opsdb.schedules.fires import next_fire
from opsdb.schedules.impossible import ImpossibleScheduleError
from opsdb.schedules.store import Said
from opsdb.schedules.times import Schedule
from opsdb.tables import Lane

TAGS = {PACKAGE: "template", own.PACKAGE: "own"}
"""The tags of deployments of files, which prefect.yaml does not have, by the package of their entrypoint."""
QUEUES = ("urgent", "high", "default", "low")
"""In order of priority: Prefect serves a queue with a lower number first, from 1."""


Parameters = Annotated[dict[str, JsonValue], AfterValidator(given)]
"""Of a deployment or a schedule: what is null there counts as not given."""
TEMPLATE_SCHEDULE = "template"
"""The slug of the schedule that a template asks for: it goes when the template no longer does."""


@dataclass(frozen=True, slots=True)
class FileDeployment:
    """A template, or a runbook elsewhere, as Prefect shows it: its kind in one lane, or in all of them.

    `package` is that of its entrypoint. `schedule` is an entry of `schedules`, and `rules` one of `schedule_rules`,
    as in prefect.yaml, without the slug.
    """

    kind: str
    lane: Lane | None
    version: str | None
    package: str = PACKAGE
    schedule: Mapping[str, Any] | None = None
    rules: Mapping[str, Any] | None = None


class _Part(BaseModel):
    """A part of prefect.yaml. What is empty there counts as absent; dates become text, as Prefect keeps them."""

    @model_validator(mode="before")
    @classmethod
    def _is_plain(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        plain = to_jsonable_python(given)
        if "{{" in str(plain):
            raise ValueError("holds {{: a placeholder is for `prefect deploy`, write the value")
        return {name: value for name, value in plain.items() if value is not None}


class Pool(_Part):
    """The lane, and its queue."""

    model_config = ConfigDict(extra="forbid")
    name: str
    work_queue_name: Literal["urgent", "high", "default", "low"]

    @field_validator("name")
    @classmethod
    def _is_a_lane(cls, name: str) -> str:
        if name not in [lane.pool for lane in Lane]:
            raise ValueError(f"{name!r} is not a lane: expected {', '.join(lane.pool for lane in Lane)}")
        return name


class DeclaredSchedule(_Part):
    """When Prefect plans runs: `cron`, or `interval` in seconds, or `rrule`, with what belongs to it."""

    model_config = ConfigDict(extra="allow")
    slug: str
    active: bool = True
    parameters: Parameters = {}

    @property
    def when(self) -> dict[str, JsonValue]:
        """What says when."""
        return dict(self.model_extra or {})

    @property
    def schedule(self) -> Schedule:
        """As Prefect has it."""
        return schedule_of(self.when)

    @model_validator(mode="after")
    def _is_right(self) -> Self:
        if isinstance(cron := self.when.get("cron"), str):
            check_cron(cron)
        try:
            next_fire(self.schedule, after=datetime.now(UTC))
        except ValidationError as error:
            raise ValueError(_first(error)) from error
        except ImpossibleScheduleError as error:
            if not error.over:  # what was right and has ended must not keep the room from starting
                raise ValueError(f"{self.slug}: {error}") from error
        return self


class DeclaredRules(_Part):
    """What the room adds to a schedule, by its slug: Prefect's own entries admit no other fields."""

    model_config = ConfigDict(extra="forbid")
    catch_up: str | None = None
    blackouts: list[str] | None = None

    @property
    def said(self) -> Said:
        """What it says, understood."""
        blackouts = None if self.blackouts is None else tuple(map(read_blackout, self.blackouts))
        return Said(catch_up=read_catch_up(self.catch_up) if self.catch_up else None, blackouts=blackouts)

    @model_validator(mode="after")
    def _is_right(self) -> Self:
        _ = self.said
        return self


class DeclaredDeployment(_Part):
    """An entry of `deployments` in prefect.yaml, with the fields that a lane admits."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(pattern=r"^[^/%&><]+$")
    entrypoint: str
    work_pool: Pool
    version: str | None = None
    description: str | None = None
    tags: list[str]
    parameters: Parameters = {}
    enforce_parameter_schema: bool = True
    concurrency_limit: int | None = Field(None, ge=1)
    schedules: list[DeclaredSchedule] = []
    schedule_rules: dict[str, DeclaredRules] = {}

    @field_validator("tags")
    @classmethod
    def _is_tagged(cls, tags: list[str]) -> list[str]:
        if RUNBOOK_TAG not in tags:
            raise ValueError(f"{RUNBOOK_TAG!r} is missing: the room knows its deployments by it")
        return tags

    @field_validator("schedules")
    @classmethod
    def _are_told_apart(cls, schedules: list[DeclaredSchedule]) -> list[DeclaredSchedule]:
        if twice := _twice(schedule.slug for schedule in schedules):
            raise ValueError(f"the slug {twice} appears twice")
        return schedules

    @model_validator(mode="after")
    def _have_schedules(self) -> Self:
        slugs = [schedule.slug for schedule in self.schedules]
        if unknown := sorted(set(self.schedule_rules) - set(slugs)):
            there = ", ".join(slugs) or "there are no schedules"
            raise ValueError(f"schedule_rules: {unknown[0]} is the slug of no schedule here: {there}")
        return self

    @model_validator(mode="after")
    def _has_a_name_of_now(self) -> Self:
        self.name = current_name(self.kind, self.name)
        return self

    @property
    def kind(self) -> str:
        """The name of its flow: that of the function."""
        return self.entrypoint.rpartition(".")[2]

    @property
    def full_name(self) -> str:
        """As Prefect names it."""
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True)
class Loaded:
    """An entry and its runbook."""

    declared: DeclaredDeployment
    flow: Flow[..., Any]


def load_deployments(
    file: Path, files: Iterable[FileDeployment], *, without: Collection[str] = ()
) -> tuple[list[Loaded], list[str]]:
    """What prefect.yaml and other files ask for, and a line for each runbook that cannot be loaded.

    The entrypoints in `without` are left out. Raises OpsError, which names the entry and its field.
    """
    declared = [one for one in declared_deployments(file, files) if one.entrypoint not in without]
    flows: dict[str, Flow[..., Any]] = {}
    broken = []
    with _importable(file.parent):
        for entrypoint in sorted({one.entrypoint for one in declared}):
            try:
                flows[entrypoint] = load_flow_from_entrypoint(entrypoint)
            except (Exception, SystemExit) as error:  # whatever its module raises
                reason = " ".join(str(error).split())[:500]
                broken.append(f"the runbook {entrypoint} cannot be loaded: {type(error).__name__}: {reason}")
    return [Loaded(one, flows[one.entrypoint]) for one in declared if one.entrypoint in flows], broken


def declared_deployments(file: Path, files: Iterable[FileDeployment]) -> list[DeclaredDeployment]:
    """The same, without the runbooks themselves."""
    try:
        content = yaml.safe_load(file.read_text())
        entries = list(content["deployments"])
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise OpsError(f"{file} could not be applied: {error}") from error
    if actions := [name for name in ("build", "push", "pull") if content.get(name)]:
        raise OpsError(f"{file} could not be applied: {actions[0]}: a lane runs what is installed, leave it empty")
    declared = [_entry(entry, f"{file} could not be applied: deployments[{n}]") for n, entry in enumerate(entries)]
    for one in files:
        declared += [_entry(entry, f"{TAGS[one.package]} runbook {one.kind}") for entry in deployments_of(one)]
    if twice := _twice(one.full_name for one in declared):
        raise OpsError(f"{file} could not be applied: {twice} appears twice")
    return declared


def deployments_of(file: FileDeployment) -> Iterator[dict[str, object]]:
    """As prefect.yaml would name them."""
    for lane in [file.lane] if file.lane else Lane:
        yield {
            "name": deployment_name(file.kind, lane.pool),
            "version": file.version,
            "tags": [TAGS[file.package], lane.pool, RUNBOOK_TAG],
            "enforce_parameter_schema": True,
            "work_pool": {"name": lane.pool, "work_queue_name": "default"},
            "entrypoint": f"{file.package}.{file.kind}",
            "schedules": [{"slug": TEMPLATE_SCHEDULE, **file.schedule}] if file.schedule else [],
            "schedule_rules": {TEMPLATE_SCHEDULE: file.rules} if file.schedule and file.rules else {},
        }


def _entry(entry: object, where: str) -> DeclaredDeployment:
    try:
        return DeclaredDeployment.model_validate(entry)
    except ValidationError as error:
        raise OpsError(f"{where}, {_first(error)}") from error


def _first(error: ValidationError) -> str:
    """The first thing that is wrong, with its place."""
    wrong = error.errors()[0]
    return ": ".join([*filter(None, [".".join(map(str, wrong["loc"]))]), refusal(wrong)])


def _twice(names: Iterable[str]) -> str | None:
    return next((name for name, times in Counter(names).items() if times > 1), None)


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Runbooks may lie beside the file that names them, and shadow nothing: a worker looks there last as well."""
    if str(folder) in sys.path:
        yield
        return
    sys.path.append(str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
