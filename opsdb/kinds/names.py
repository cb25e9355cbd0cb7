"""What deployments are called: by kind and lane, so that a list of them reads at a glance and sorts by kind.

Until 0.1 a kind's deployment in a lane had the name of the lane's pool alone. For one release those names still work:
they stand for the present names. `docs/decisions/0035-names.md` says how deployments got them.
"""

from __future__ import annotations

POOLS = ("lane-a", "lane-b", "lane-c", "lane-d")
"""The pools of the lanes. Their names were those of deployments until 0.1."""


def deployment_name(kind: str, pool: str) -> str:
    """The name of a kind's deployment in the lane of a pool, such as `odoo_db_backup-lane-a`."""
    return f"{kind}-{pool}"


def current_name(kind: str, name: str) -> str:
    """The present name of a kind's deployment; any but an old one is as it is."""
    return f"{kind}-{name}" if name in POOLS else name


def current_full_name(full_name: str) -> str:
    """The same, for `KIND/NAME` as Prefect's commands take it."""
    kind, slash, name = full_name.partition("/")
    return f"{kind}{slash}{current_name(kind, name)}"


def former_full_name(kind: str, name: str) -> str | None:
    """What a deployment was called until 0.1, as `KIND/NAME`; None for one that had the same name."""
    former = name.removeprefix(f"{kind}-")
    return f"{kind}/{former}" if former != name and former in POOLS else None
