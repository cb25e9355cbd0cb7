"""The templates in the folders: which can run, and what is wrong with the others."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from flows.template.reading import ReadTemplate, read_template
from flows.template.run import runbook_of
from flows.template.schedule import TemplateSchedule
from opsdb.kinds.kinds import registered_kinds
from opsdb.kinds.template_files import TemplateError, TemplateFile, template_files
from opsdb.schedules.impossible import ImpossibleScheduleError
from opsdb.settings import Settings


@dataclass(frozen=True, slots=True)
class CataloguedTemplate:
    """A file in the folders. `read` is None for one that cannot run: `error` says why, a line for each reason."""

    path: Path
    kind: str | None
    read: ReadTemplate | None
    error: str | None


def catalogue(settings: Settings) -> list[CataloguedTemplate]:
    """Every template file in the folders. Raises as `registered_kinds` for a prefect.yaml that cannot be read."""
    files = template_files(settings)
    taken = registered_kinds(settings.prefect_yaml)
    return [_catalogued(file, files, taken=taken) for file in files]


def find(kind: str, settings: Settings) -> ReadTemplate | None:
    """The template of a kind, or None. Raises TemplateError for one that cannot run."""
    files = template_files(settings)
    for file in files:
        if file.kind == kind:
            check_kind(kind, file.path, files, taken=registered_kinds(settings.prefect_yaml))
            return read_template(file.path)
    unreadable = [file.error for file in files if file.error]
    if unreadable:
        raise TemplateError(f"no template has the kind {kind}, and one may not be readable:\n" + "\n".join(unreadable))
    return None


def read_whole(path: Path) -> ReadTemplate:
    """Read a file, and make its runbook once. Raises TemplateError for whatever is wrong with it.

    `prefect deploy` makes the runbooks of all deployments: one that cannot be made would keep the others from it.
    """
    try:
        read = read_template(path)
        runbook_of(read)
        if read.template.schedule is not None:
            _check_that_it_fires(read.template.schedule, path)
    except TemplateError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise TemplateError(f"{path}: no runbook can be made of it: {type(error).__name__}: {reason}") from error
    return read


def check_kind(kind: str, path: Path, files: Collection[TemplateFile], *, taken: Collection[str]) -> None:
    """Raises TemplateError for a kind that something else has."""
    if kind in taken:
        raise TemplateError(f"{path}: kind: {kind} is a runbook of prefect.yaml already: take another name")
    others = [file.path for file in files if file.kind == kind and file.path != path]
    if others:
        raise TemplateError(f"{path}: kind: {kind} is the kind of {others[0]} too: one of them needs another name")


def _check_that_it_fires(schedule: TemplateSchedule, path: Path) -> None:
    try:
        schedule.check_that_it_fires()
    except ImpossibleScheduleError as error:
        raise TemplateError(f"{path}: schedule: cron: {error}") from None


def _catalogued(file: TemplateFile, files: list[TemplateFile], *, taken: Collection[str]) -> CataloguedTemplate:
    if file.kind is None:
        return CataloguedTemplate(file.path, None, None, file.error)
    try:
        check_kind(file.kind, file.path, files, taken=taken)
        return CataloguedTemplate(file.path, file.kind, read_whole(file.path), None)
    except TemplateError as error:
        return CataloguedTemplate(file.path, file.kind, None, str(error))
