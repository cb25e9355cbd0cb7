"""A backup target as runbooks use it: found by its block's name, and asked by steps of their own."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx
from pydantic import ValidationError

from blocks.backup_target import BackupTarget
from blocks.target_store import SameFolderError, Store, TargetAwayError, TargetError
from flows.backup.manifest import Manifest
from flows.engine.active_run import current_run
from flows.engine.step import action, step
from flows.offsite.owner import check_claim
from flows.shell.run import ShellFailedError, ShellTimeoutError
from opsdb.errors import PreflightError, RoomUnreachableError, StepFailedError, StepTimeoutError

LOOK_SECONDS = 45
UPLOAD_SECONDS = 3600
PRUNE_SECONDS = 300

# How this host reaches others. The address of a proxy may hold a password.
_NETWORK = ("AWS_CA_BUNDLE", "NO_PROXY", "no_proxy")
_PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy")


@dataclass(frozen=True, slots=True)
class Target:
    """A block's name, and the place that it describes."""

    name: str
    room: str
    """The id of the room: that of the block type in its Prefect, which outlives blocks that are filled in anew."""
    store: Store = field(repr=False)


def load_target(name: str) -> Target:
    """The target of a block.

    Raises PreflightError, which quotes nothing of what is in the block, and RoomUnreachableError without Prefect.
    """
    try:
        block = cast("BackupTarget", BackupTarget.load(name))  # a coroutine in async code only
        return Target(name, room=str(block._block_type_id), store=block.store())
    except ValidationError as error:
        told = error.errors(include_url=False, include_input=False, include_context=False)
        wrong = "; ".join(": ".join([*map(str, one["loc"]), one["msg"].removeprefix("Value error, ")]) for one in told)
        raise PreflightError(f"the block backup-target/{name} is not filled in right: {wrong}") from None
    except ValueError:
        raise PreflightError(
            f"there is no Backup Target block {name!r}: make one in the Prefect UI under Blocks, or name another"
        ) from None
    except httpx.HTTPError as error:
        raise RoomUnreachableError(
            f"the block backup-target/{name} cannot be read ({type(error).__name__}): `ops status` tells what runs"
        ) from None


def look(name: str, folder: Path) -> Target:
    """The target of a block for the backups in the folder, as a preflight of the current runbook.

    Raises PreflightError for a block that is not right, and where the target is the folder itself. Whatever else is
    wrong with the place is told, and an error in a dry run only: a dump on this host's disk is better than none.
    """
    about = f"load the block backup-target/{name}, and see whether the place lets us in"
    return action("look at target", lambda: _look(name, folder), about=about, preflight=True)


def _look(name: str, folder: Path) -> Target:
    run, target = current_run(), load_target(name)
    try:
        if _ask(target, folder):
            told = f"{target.store.place} is on the disk of {folder}: what breaks one breaks both"
            run.event(f"backup target {name}: {told}", level="warning")
    except TargetError as error:
        if run.plan is not None or isinstance(error, SameFolderError):
            raise PreflightError(f"backup target {name}: {error}") from None
        run.event(f"backup target {name}: {error}", level="warning")
    return target


def _ask(target: Target, folder: Path) -> bool:
    """Whether the place is on the folder's disk. Raises TargetError, also when it does not answer in time.

    In a thread that is left behind then: a mount whose host is gone lets nobody go.
    """
    answer: Future[bool] = Future()

    def ask() -> None:
        try:
            beside = target.store.is_beside(folder)
            target.store.look()
            check_claim(target.store, target.room)
            answer.set_result(beside)
        except BaseException as error:  # whatever it is, it is raised below
            answer.set_exception(error)

    threading.Thread(target=ask, name="look at target", daemon=True).start()
    try:
        return answer.result(LOOK_SECONDS)
    except TimeoutError:
        found = f"{target.store.place} did not answer within {LOOK_SECONDS} s"
        raise TargetAwayError(found, advice="see whether its host is up, and what the mount waits for") from None


def upload(target: Target, folder: Path, manifest: Manifest) -> dict[str, Any]:
    """Copy the backup to the target, each file compared there; returns what the run's result says of it."""
    started = time.monotonic()
    env = {"FOLDER": str(folder), "BACKUP": manifest.file}
    transfer("upload", "upload", target, env, timeout=UPLOAD_SECONDS)
    url = target.store.url(manifest.file)
    current_run().artifact(
        kind="link", name=manifest.file, content_url=url, size_bytes=manifest.size_bytes, sha256=manifest.sha256
    )
    return {
        "block": target.name,
        "url": url,
        "files": len(manifest.companions) + 2,
        "duration_seconds": round(time.monotonic() - started, 3),
    }


def prune_copies(target: Target, manifest: Manifest, retention_days: int) -> list[str]:
    """Delete the copies of that database that are too old as seen from the new one."""
    env = {"BACKUP": manifest.file, "RETENTION_DAYS": str(retention_days)}
    printed = transfer("prune target", "prune", target, env, timeout=PRUNE_SECONDS)
    return re.findall(r"^pruned: (\S+)$", printed, re.MULTILINE)


def catch_up(target: Target, folder: Path, manifest: Manifest, retention_days: int) -> list[str]:
    """Copy the earlier backups that the target lacks; returns where they are now.

    What cannot be copied is told, and the run goes on: its own backup is there.
    """
    env = {"FOLDER": str(folder), "BACKUP": manifest.file, "RETENTION_DAYS": str(retention_days)}
    try:
        printed = transfer("catch up", "catch-up", target, env, timeout=UPLOAD_SECONDS)
    except (StepFailedError, StepTimeoutError) as error:
        told = f"the new backup is there, but not all earlier ones: {error}"
        current_run().event(f"backup target {target.name}: {told}", level="warning")
        printed = error.result.stdout if isinstance(error, ShellFailedError | ShellTimeoutError) else ""
    copied = dict.fromkeys(re.findall(r"^caught up: (\S+)$", printed, re.MULTILINE))
    return [target.store.url(file) for file in copied]


def transfer(
    name: str,
    order: str,
    target: Target,
    env: Mapping[str, str],
    *,
    timeout: float,
    must_run_again: bool = False,
) -> str:
    """Run flows/offsite/transfer.py as a step; returns what it printed."""
    network = {one: os.environ[one] for one in _NETWORK if os.environ.get(one)}
    proxies = {one: os.environ[one] for one in _PROXIES if os.environ.get(one)}
    done = step(
        name,
        f'"$PYTHON" -P -m flows.offsite.transfer {order}',
        timeout=timeout,
        env={"PYTHON": sys.executable, "ROOM": target.room, **target.store.public, **env, **network},
        secrets={**target.store.secrets, **proxies},
        must_run_again=must_run_again,
    )
    return done.stdout
