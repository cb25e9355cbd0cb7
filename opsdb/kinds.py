"""The kinds of runbooks that the room executes: those of prefect.yaml, and those of template files."""

from __future__ import annotations

from pathlib import Path

import yaml

from opsdb.settings import Settings
from opsdb.template_files import PACKAGE, template_files


def registered_entrypoints(prefect_yaml: Path) -> frozenset[str]:
    """The entrypoints that the file registers. Raises OSError, yaml.YAMLError, or KeyError for a file without them."""
    return frozenset(deployment["entrypoint"] for deployment in yaml.safe_load(prefect_yaml.read_text())["deployments"])


def registered_kinds(prefect_yaml: Path) -> list[str]:
    """The kinds: each is the function that its dotted entrypoint ends with."""
    return sorted(entrypoint.rpartition(".")[2] for entrypoint in registered_entrypoints(prefect_yaml))


def template_kinds(settings: Settings) -> list[str]:
    """The kinds that template files have now, without those that prefect.yaml registers. Raises as the above."""
    return sorted(
        {file.kind for file in template_files(settings) if file.kind} - {*registered_kinds(settings.prefect_yaml)}
    )


def template_entrypoints(settings: Settings) -> frozenset[str]:
    """How those are loaded. Raises as the above."""
    return frozenset(f"{PACKAGE}.{kind}" for kind in template_kinds(settings))
