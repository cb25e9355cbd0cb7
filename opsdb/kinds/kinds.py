"""The kinds of runbooks that the room executes: those of prefect.yaml, and those of files that lie elsewhere."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from opsdb.errors import UsageError
from opsdb.kinds import runbook_files as own
from opsdb.kinds.names import current_name
from opsdb.kinds.template_files import KIND, PACKAGE, template_files
from opsdb.settings import Settings

SWITCHES = {"flows.stored_command.stored_command": "stored_commands"}
"""The entrypoints that are not deployed unless a setting, the field of this name, is on."""


def switched_off(settings: Settings) -> frozenset[str]:
    """The entrypoints that are registered and that a setting keeps from being deployed."""
    return frozenset(entrypoint for entrypoint, field in SWITCHES.items() if not getattr(settings, field))


def switch_of(kind: str) -> str | None:
    """The environment variable that switches a kind on; None for one that always is."""
    fields = [field for entrypoint, field in SWITCHES.items() if _kind(entrypoint) == kind]
    return f"OPS_{fields[0].upper()}" if fields else None


def registered_entrypoints(prefect_yaml: Path) -> frozenset[str]:
    """The entrypoints that the file registers. Raises OSError, yaml.YAMLError, or KeyError for a file without them."""
    return frozenset(deployment["entrypoint"] for deployment in yaml.safe_load(prefect_yaml.read_text())["deployments"])


@dataclass(frozen=True, slots=True)
class Deployed:
    """Where a deployment runs what."""

    entrypoint: str
    pool: str
    queue: str


def registered_deployments(prefect_yaml: Path) -> dict[str, Deployed]:
    """The deployments by the name that Prefect gives them, `kind/name`. Raises as `registered_entrypoints` does."""
    return named(yaml.safe_load(prefect_yaml.read_text())["deployments"])


def named(entries: Iterable[Mapping[str, Any]]) -> dict[str, Deployed]:
    """Entries of prefect.yaml, or such as it might have, by `kind/name`. Raises KeyError for anything else."""
    found = {}
    for one in entries:
        pool = one["work_pool"]
        kind = _kind(one["entrypoint"])
        full_name = f"{kind}/{current_name(kind, one['name'])}"
        found[full_name] = Deployed(one["entrypoint"], pool["name"], pool["work_queue_name"])
    return found


def registered_kinds(prefect_yaml: Path) -> list[str]:
    """The kinds: each is the function that its dotted entrypoint ends with."""
    return sorted(_kind(entrypoint) for entrypoint in registered_entrypoints(prefect_yaml))


def is_of_file(entrypoint: str) -> bool:
    """Whether it is, by its form, that of a template or an own runbook. Loading it says whether there is one."""
    package, _, kind = entrypoint.rpartition(".")
    return package in (PACKAGE, own.PACKAGE) and re.fullmatch(KIND, kind) is not None


def with_files(registered: Collection[str], settings: Settings) -> frozenset[str]:
    """With those of the files that are there now. A kind is registered, or else a template, or else an own runbook."""
    found = {_kind(entrypoint): entrypoint for entrypoint in registered}
    for file in template_files(settings):
        if file.kind:
            found.setdefault(file.kind, f"{PACKAGE}.{file.kind}")
    for kind in (kind for one in own.runbook_files(settings) for kind in one.kinds):
        found.setdefault(kind, f"{own.PACKAGE}.{kind}")
    return frozenset([*registered, *found.values()])


def known_kinds(settings: Settings) -> list[str]:
    """The kinds of prefect.yaml and of the files elsewhere. Raises as `registered_entrypoints`."""
    entrypoints = with_files(registered_entrypoints(settings.prefect_yaml), settings)
    return sorted(_kind(entrypoint) for entrypoint in entrypoints)


def entrypoint_of(kind: str, settings: Settings) -> str:
    """The entrypoint of a kind. Raises UsageError for an unknown one."""
    for entrypoint in sorted(with_files(registered_entrypoints(settings.prefect_yaml), settings)):
        if _kind(entrypoint) == kind:
            return entrypoint
    raise UsageError(
        f"KIND: {kind!r} is neither registered in {settings.prefect_yaml} nor in a file here. Hint: `ops runbooks` "
        "lists what is deployed, `ops template list` the templates, `ops runbook check` the team's own runbooks"
    )


def source_of(entrypoint: str, settings: Settings) -> Path | None:
    """The file that a kind comes from: prefect.yaml, or its own. None where no file here has it any more."""
    package, _, kind = entrypoint.rpartition(".")
    if package == PACKAGE:
        return next((file.path for file in template_files(settings) if file.kind == kind), None)
    if package == own.PACKAGE:
        return next((file.path for file in own.runbook_files(settings) if kind in file.kinds), None)
    return settings.prefect_yaml


def _kind(entrypoint: str) -> str:
    return entrypoint.rpartition(".")[2]
