"""A runbook whose module can be loaded when it is deployed, and no longer where `UNLOADABLE` is set: in the worker."""

from __future__ import annotations

import os

from flows.engine.runbook import runbook

if "UNLOADABLE" in os.environ:
    raise RuntimeError("this module is broken")


@runbook(deadline_seconds=60)
def unloadable(ledger: str) -> None:
    """Nothing: it never gets so far."""
