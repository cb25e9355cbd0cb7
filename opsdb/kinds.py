"""The kinds of runbooks that the room executes, as prefect.yaml registers them."""

from __future__ import annotations

from pathlib import Path

import yaml

from opsdb.errors import UsageError


def registered_entrypoints(prefect_yaml: Path) -> frozenset[str]:
    """The entrypoints that the file registers. Raises OSError, yaml.YAMLError, or KeyError for a file without them."""
    return frozenset(deployment["entrypoint"] for deployment in yaml.safe_load(prefect_yaml.read_text())["deployments"])


def registered_kinds(prefect_yaml: Path) -> list[str]:
    """The kinds: each is the function that its dotted entrypoint ends with."""
    return sorted(entrypoint.rpartition(".")[2] for entrypoint in registered_entrypoints(prefect_yaml))


def registered_entrypoint(prefect_yaml: Path, *, kind: str) -> str:
    """The entrypoint of a kind. Raises UsageError for one that the file does not register."""
    for entrypoint in sorted(registered_entrypoints(prefect_yaml)):
        if entrypoint.rpartition(".")[2] == kind:
            return entrypoint
    raise UsageError(f"KIND: {kind!r} is not registered in {prefect_yaml}: `ops deploy` applies what is")
