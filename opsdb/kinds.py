"""The kinds of runbooks that the room executes, as prefect.yaml registers them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml


def registered_entrypoints(prefect_yaml: Path) -> frozenset[str]:
    """The entrypoints that the file registers. Raises OSError, yaml.YAMLError, or KeyError for a file without them."""
    return frozenset(deployment["entrypoint"] for deployment in yaml.safe_load(prefect_yaml.read_text())["deployments"])


@dataclass(frozen=True, slots=True)
class Deployed:
    """Where a deployment of prefect.yaml runs what."""

    entrypoint: str
    pool: str
    queue: str


def registered_deployments(prefect_yaml: Path) -> dict[str, Deployed]:
    """The deployments by the name that Prefect gives them, `kind/name`. Raises as `registered_entrypoints` does."""
    found = {}
    for one in yaml.safe_load(prefect_yaml.read_text())["deployments"]:
        pool = one["work_pool"]
        name = f"{one['entrypoint'].rpartition('.')[2]}/{one['name']}"
        found[name] = Deployed(one["entrypoint"], pool["name"], pool["work_queue_name"])
    return found


def registered_kinds(prefect_yaml: Path) -> list[str]:
    """The kinds: each is the function that its dotted entrypoint ends with."""
    return sorted(entrypoint.rpartition(".")[2] for entrypoint in registered_entrypoints(prefect_yaml))
