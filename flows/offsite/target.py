"""A backup target as runbooks use it: found by its block's name, and worked on by steps of their own."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx
from prefect.variables import Variable
from pydantic import ValidationError

from blocks.backup_target import BackupTarget
from blocks.target_folder import FolderStore
from blocks.target_store import SameFolderError, Store, TargetAwayError, TargetError
from flows.backup.folder import Folder
from flows.backup.keyring import Keyring, room_keyring
from flows.backup.names import BackupName
from flows.backup.repository import Backup, Repository
from flows.engine.active_run import current_run
from flows.engine.progress import reported
from flows.engine.step import action, step
from flows.offsite.owner import check_owner
from flows.shell.run import ShellFailedError, ShellTimeoutError
from opsdb.errors import PreflightError, RoomUnreachableError, StepFailedError, StepTimeoutError
from opsdb.places import refuse_target
from opsdb.refusals import refusal
from opsdb.room_identity import VARIABLE, room_id

LOOK_SECONDS = 45
UPLOAD_SECONDS = 3600
PRUNE_SECONDS = 300

# How this host reaches others. The address of a proxy may hold a password.
_NETWORK = ("AWS_CA_BUNDLE", "NO_PROXY", "no_proxy")
_PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy")


@dataclass(frozen=True, slots=True)
class Target:
    """A block's name, and the place that it describes. What is sent or deleted there are steps of the current run."""

    name: str
    room: str
    """The id of the room: that of the block type in its Prefect, which stays when a block is deleted and made again."""
    store: Store = field(repr=False)
    keyring: Keyring
    """Whose copies are believed."""
    before: tuple[str, ...] = ()
    """The ids that the room had before it moved: their places are its own."""

    @property
    def repository(self) -> Repository:
        """The copies that are there."""
        return Repository(self.store, self.keyring)

    def check_owner(self) -> bool:
        """Whether the place is this room's; False where it would become so. Raises NotOursError."""
        return check_owner(self.store, self.room, before=self.before)

    def upload(self, backup: Backup, folder: Folder) -> dict[str, Any]:
        """Copy the backup there, each file compared; returns what the run's result says of it."""
        started = time.monotonic()
        printed = self.transfer("upload", "upload", backup.name, folder.path, timeout=UPLOAD_SECONDS)
        url = self.store.url(backup.name.dump)
        files = backup.manifest.files if backup.manifest else []
        current_run().artifact(
            kind="link", name=backup.name.dump, content_url=url, size_bytes=files[0].size_bytes, sha256=files[0].sha256
        )
        seconds = round(time.monotonic() - started, 3)
        proof = ", ".join(re.findall(r"^proof: (.+)$", printed, re.MULTILINE))
        return {"block": self.name, "url": url, "files": len(files) + 1, "proof": proof, "duration_seconds": seconds}

    def prune(self, newest: BackupName, folder: Folder, *, retention_days: int) -> list[str]:
        """Delete the copies of that database that are too old as seen from the new one."""
        printed = self.transfer(
            "prune target", "prune", newest, folder.path, timeout=PRUNE_SECONDS, retention_days=retention_days
        )
        return re.findall(r"^pruned: (\S+)$", printed, re.MULTILINE)

    def catch_up(self, newest: BackupName, folder: Folder, *, retention_days: int) -> list[str]:
        """Copy the earlier backups that are missing there; returns where they are now.

        What cannot be copied is reported, and the run continues: its own backup is there.
        """
        try:
            printed = self.transfer(
                "catch up", "catch-up", newest, folder.path, timeout=UPLOAD_SECONDS, retention_days=retention_days
            )
        except (StepFailedError, StepTimeoutError) as error:
            told = f"the new backup is there, but not all earlier ones: {error}"
            current_run().event(f"backup target {self.name}: {told}", level="warning")
            printed = error.result.stdout if isinstance(error, ShellFailedError | ShellTimeoutError) else ""
        copied = dict.fromkeys(re.findall(r"^caught up: (\S+)$", printed, re.MULTILINE))
        return [self.store.url(file) for file in copied]

    def transfer(
        self,
        step_name: str,
        order: str,
        backup: BackupName,
        folder: Path,
        *,
        timeout: float,
        retention_days: int | None = None,
        must_run_again: bool = False,
    ) -> str:
        """Run flows/offsite/transfer.py as a step; returns what it printed."""
        env = {"FOLDER": str(folder), "BACKUP": backup.dump, "KEYRING": str(self.keyring.folder)}
        if retention_days is not None:
            env["RETENTION_DAYS"] = str(retention_days)
        if self.before:
            env["ROOM_BEFORE"] = " ".join(self.before)
        network = {one: os.environ[one] for one in _NETWORK if os.environ.get(one)}
        proxies = {one: os.environ[one] for one in _PROXIES if os.environ.get(one)}
        done = step(
            step_name,
            f'"$PYTHON" -P -m flows.offsite.transfer {order}',
            timeout=timeout,
            env={"PYTHON": sys.executable, "ROOM": self.room, **self.store.public, **env, **network},
            secrets={**self.store.secrets, **proxies},
            must_run_again=must_run_again,
            progress=reported(),
        )
        return done.stdout or ""


def load_target(name: str, keyring: Keyring) -> Target:
    """The target of a block.

    Raises PreflightError, which quotes nothing of what is in the block, and RoomUnreachableError without Prefect.
    """
    try:
        block = cast("BackupTarget", BackupTarget.load(name))  # a coroutine in async code only
        room = room_id(cast("Any", Variable.get(VARIABLE)), otherwise=str(block._block_type_id))
        return Target(name, room=room.id, before=room.before, store=block.store(), keyring=keyring)
    except ValidationError as error:
        told = error.errors(include_url=False, include_input=False)
        wrong = "; ".join(": ".join([*map(str, one["loc"]), refusal(one)]) for one in told)
        raise PreflightError(f"the block backup-target/{name} is invalid: {wrong}") from None
    except ValueError:
        raise PreflightError(
            f"there is no Backup Target block {name!r}: make one in the Prefect UI under Blocks, or name another"
        ) from None
    except httpx.HTTPError as error:
        raise RoomUnreachableError(
            f"the block backup-target/{name} cannot be read ({type(error).__name__}): `ops status` shows what runs"
        ) from None


def find_target(name: str, folder: Folder) -> Target:
    """The target of a block for the backups in the folder, as a preflight of the current runbook.

    Raises PreflightError for an invalid block, and where the target is the folder itself. Whatever else is
    wrong with the place is reported, and an error in a dry run only: a dump on this host's disk is better than none.
    """
    about = f"load the block backup-target/{name}, and see whether the place lets us in"
    return action("look at target", lambda: _find_target(name, folder), about=about, preflight=True)


def _find_target(name: str, folder: Folder) -> Target:
    run = current_run()
    target = load_target(name, room_keyring(run.settings))
    if isinstance(target.store, FolderStore) and (refusal := refuse_target(target.store.folder, run.settings)):
        raise PreflightError(f"backup target {name}: {refusal}")
    try:
        if _reach(target, folder.path):
            told = f"{target.store.place} is on the disk of {folder.path}: what breaks one breaks both"
            run.event(f"backup target {name}: {told}", level="warning")
    except TargetError as error:
        if run.plan is not None or isinstance(error, SameFolderError):
            raise PreflightError(f"backup target {name}: {error}") from None
        run.event(f"backup target {name}: {error}", level="warning")
    return target


def _reach(target: Target, folder: Path) -> bool:
    """Whether the place is on the folder's disk. Raises TargetError, also when it does not answer in time.

    In a thread that is left behind then: a mount whose host is gone lets nobody go.
    """
    answer: Future[bool] = Future()

    def reach() -> None:
        try:
            beside = target.store.is_beside(folder)
            target.store.look()
            target.check_owner()
            answer.set_result(beside)
        except BaseException as error:  # whatever it is, it is raised below
            answer.set_exception(error)

    threading.Thread(target=reach, name="look at target", daemon=True).start()
    try:
        return answer.result(LOOK_SECONDS)
    except TimeoutError:
        found = f"{target.store.place} did not answer within {LOOK_SECONDS} s"
        raise TargetAwayError(found, advice="see whether its host is up, and what the mount waits for") from None
