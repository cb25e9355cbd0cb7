"""A dry run: what the steps of a runbook would do, found out by its own function. Only its preflights are executed."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from prefect import Flow
from prefect.exceptions import ParameterTypeError

from flows.engine.active_run import ActiveRun, PlannedStep, activated
from opsdb.errors import OpsError, UsageError
from opsdb.record.entries import Entry, Event
from opsdb.settings import Settings


@dataclass(frozen=True, slots=True)
class DryRun:
    """The steps up to the first preflight that ends a run, or all of them."""

    steps: list[PlannedStep]
    warnings: list[str]
    """What the preflights would have written as events."""
    error: str | None
    """Why a run would fail, as far as it can be seen now; before it changes anything if all steps are preflights."""


def load_runbook(entrypoint: str) -> Flow[..., Any]:
    """The runbook of an entrypoint, `package.module.function`. Raises UsageError when it cannot be loaded."""
    module, _, name = entrypoint.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"{entrypoint} cannot be loaded here: {error}") from error
    if not isinstance(found, Flow):
        raise UsageError(f"{entrypoint} is not a runbook")
    return found


def checked_parameters(runbook: Flow[..., Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters as the runbook gets them. Raises UsageError for those that do not fit."""
    try:
        return runbook.validate_parameters(dict(parameters))
    except (ParameterTypeError, ValueError, TypeError) as error:
        raise UsageError(f"the parameters do not fit {runbook.name}: {error}") from error


def dry_run(runbook: Flow[..., Any], parameters: Mapping[str, Any], *, settings: Settings) -> DryRun:
    """Note what each step would do with these parameters. Raises UsageError for parameters that do not fit."""
    checked = checked_parameters(runbook, parameters)
    entries: list[Entry] = []
    steps: list[PlannedStep] = []
    run = ActiveRun(id=uuid4(), attempt=1, settings=settings, record=entries.append, in_lane=False, plan=steps)
    error_text = None
    with activated(run):
        try:
            # within the flow is what records a run, and within that the function as it was written
            runbook.fn.__wrapped__(**checked)  # type: ignore[attr-defined]
        except OpsError as error:
            error_text = str(error)
    warnings = [entry.message for entry in entries if isinstance(entry, Event) and entry.level != "info"]
    return DryRun(steps=steps, warnings=warnings, error=error_text)
