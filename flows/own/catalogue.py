"""The team's own runbooks: which can run, and what is wrong with the others."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import Flow

from flows.own.loading import forget_failures, load
from opsdb.kinds.kinds import registered_kinds
from opsdb.kinds.runbook_files import RunbookFile, RunbookFileError, runbook_files
from opsdb.kinds.template_files import template_files
from opsdb.settings import Settings


@dataclass(frozen=True, slots=True)
class OwnRunbook:
    """A runbook of a file, or a file without one. `flow` is None for what cannot run: `error` says why."""

    path: Path
    kind: str | None
    flow: Flow[..., Any] | None
    error: str | None


def catalogue(settings: Settings) -> list[OwnRunbook]:
    """Every runbook of every file. Raises as `registered_kinds` for a prefect.yaml that cannot be read."""
    forget_failures()
    files = runbook_files(settings)
    return [one for file in files for one in examine(file, files, settings)]


def examine(file: RunbookFile, files: Collection[RunbookFile], settings: Settings) -> list[OwnRunbook]:
    """The runbooks of a file beside `files`. Raises as `catalogue`."""
    try:
        flows = load(file, settings)
    except RunbookFileError as error:
        return [OwnRunbook(file.path, kind, None, str(error)) for kind in file.kinds or (None,)]
    found = []
    for kind, flow in flows.items():
        taken = taken_by(kind, settings, files=[one for one in files if one.path != file.path])
        wrong = f"{file.path}: {kind}: {taken}. Hint: rename the function" if taken else None
        found.append(OwnRunbook(file.path, kind, None if wrong else flow, wrong))
    return found


def find(kind: str, settings: Settings) -> Flow[..., Any] | None:
    """The runbook of a kind, or None. Raises RunbookFileError for one that cannot run."""
    files = runbook_files(settings)
    for file in files:
        if kind in file.kinds:
            (one,) = [one for one in examine(file, files, settings) if one.kind == kind]
            if one.error:
                raise RunbookFileError(one.error)
            return one.flow
    if unreadable := [file.error for file in files if file.error]:
        raise RunbookFileError(
            f"no file has the runbook {kind}, and one may not be readable:\n" + "\n".join(unreadable)
        )
    return None


def taken_by(kind: str, settings: Settings, *, files: Collection[RunbookFile]) -> str | None:
    """What has the name already: prefect.yaml, a template, or one of the files. Raises as `catalogue`."""
    if kind in registered_kinds(settings.prefect_yaml):
        return f"{settings.prefect_yaml} has a runbook of that name"
    for template in template_files(settings):
        if template.kind == kind:
            return f"the template {template.path} has that name"
    return next((f"{file.path} has a runbook of that name" for file in files if kind in file.kinds), None)
