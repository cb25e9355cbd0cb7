"""Runs the checks of `ops doctor` side by side: one that hangs or breaks becomes a line, and no secret gets through."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from blocks.check import Check
from cli.text import safe_line
from flows.shell.masking import SHORTEST_SECRET, SecretPatterns
from opsdb.errors import OpsError, RoomUnreachableError

SHOWN = 300
"""Characters of what was seen."""


@dataclass(frozen=True, slots=True)
class Area:
    """What is checked under one name. `checks` may take long, and may raise."""

    name: str
    checks: Callable[[], Iterable[Check]]


@dataclass(frozen=True, slots=True)
class Finding:
    """A check, and the area that it belongs to."""

    area: str
    check: Check


def run_checks(areas: Sequence[Area], *, seconds: float) -> list[Finding]:
    """What was found in all areas, in their order.

    What does not end in time is left behind, in threads that end with us.
    """
    found: list[list[Check]] = [[] for _ in areas]
    threads = []
    for area, checks in zip(areas, found, strict=True):
        # a copy for each: Prefect's settings of this thread stand in its context
        target, name = contextvars.copy_context().run, f"check {area.name}"
        threads.append(threading.Thread(target=target, args=(_collect, area, checks), name=name, daemon=True))
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    findings = []
    for area, checks, thread in zip(areas, found, threads, strict=True):
        thread.join(max(0.0, deadline - time.monotonic()))
        seen = list(checks)
        if thread.is_alive():
            seen.append(Check("time", f"did not end within {seconds:g} s", "see what hangs: host, disk, network"))
        findings += [Finding(area.name, check) for check in seen]
    return findings


def _collect(area: Area, into: list[Check]) -> None:
    try:
        for check in area.checks():
            into.append(check)  # what was seen before it hangs or breaks counts
    except RoomUnreachableError as error:
        into.append(Check("reached", str(error), "start the room with `ops up`, or see what its log says"))
    except OpsError as error:
        into.append(Check("order", str(error), "correct what the line names"))
    except Exception as error:  # whatever it is; its text may hold what nobody should see
        into.append(Check("look", f"failed with {type(error).__name__}", "this is a bug in this version: report it"))


def presentable(findings: Sequence[Finding], *, secrets: Sequence[str]) -> list[Finding]:
    """The findings as they may be shown: on one line each, without control characters, with secrets masked."""
    # what is shown is valid UTF-8, so no line shows a secret that is not valid UTF-8
    written = (secret.encode(errors="ignore").decode() for secret in secrets)
    patterns = SecretPatterns({secret: secret for secret in written if len(secret.strip()) >= SHORTEST_SECRET})

    def clean(text: str) -> str:
        return safe_line(patterns.mask(text.encode(errors="replace").decode()), width=SHOWN)

    return [
        replace(one, check=Check(clean(one.check.subject), clean(one.check.found), clean(one.check.advice)))
        for one in findings
    ]
