"""What a step does at a backup target: `python -m flows.offsite.transfer upload|prune|catch-up|download`.

A process of its own, so that it ends with its step. Its environment says all: TARGET and the keys, ROOM, ROOM_BEFORE,
FOLDER, BACKUP (the dump's name), KEYRING and RETENTION_DAYS. Reports its progress, and prints each file that is over,
and for what it did lines of `word: value`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from blocks.target_folder import FolderStore
from blocks.target_store import Store, TargetAwayError, TargetError, Tell
from flows.backup.folder import Folder
from flows.backup.keyring import Keyring
from flows.backup.manifest import File
from flows.backup.names import BackupName, parse_name
from flows.backup.repository import Repository
from flows.engine.progress import report
from flows.offsite.owner import take_ownership
from opsdb.amounts import seconds, size
from opsdb.errors import OpsError, UsageError
from opsdb.progress import Progress


def store_of(environment: Mapping[str, str]) -> Store:
    """The target that the environment describes, see `Store.public` and `Store.secrets`."""
    if "folder" in json.loads(environment["TARGET"]):
        return FolderStore.from_environment(environment)
    from blocks.target_bucket import BucketStore  # it takes as long to load as all the rest

    return BucketStore.from_environment(environment)


def main(order: str, environment: Mapping[str, str]) -> None:
    """Do what is ordered. Raises OpsError."""
    work = {"upload": _upload, "prune": _prune, "catch-up": _catch_up, "download": _download}[order]
    name = parse_name(environment["BACKUP"])
    if name is None:
        raise UsageError(f"BACKUP: {environment['BACKUP']} is not the name of a backup")
    store = store_of(environment)
    if order != "download":  # before anything is sent or deleted
        take_ownership(store, environment["ROOM"], before=environment.get("ROOM_BEFORE", "").split())
    work(Repository(store, _keyring(environment)), name, environment)


def _keyring(environment: Mapping[str, str]) -> Keyring:
    return Keyring(Path(environment["KEYRING"]))


def _upload(target: Repository, name: BackupName, environment: Mapping[str, str]) -> None:
    folder = Path(environment["FOLDER"])
    progress = _Progress(_bytes(Folder(folder), [name]), environment)
    try:
        for file in target.clear_unfinished(folder, keep=name):
            print(f"removed what a killed upload left: {file}")
    except TargetError as error:
        print(f"what killed uploads left was not removed: {error}")
    print(f"uploaded: {target.receive(name, folder, tell=progress.of)}")
    for refused in target.store.refusals:
        print(f"done without: {refused}")
    print(f"proof: {', '.join(target.store.proofs)}")


def _catch_up(target: Repository, name: BackupName, environment: Mapping[str, str]) -> None:
    """Copy what earlier uploads missed: one that cannot be sent keeps no other from it."""
    folder, days = Path(environment["FOLDER"]), int(environment["RETENTION_DAYS"])
    copied, failed = [], []
    try:
        lacking = target.lacks(Folder(folder, _keyring(environment)), name, retention_days=days)
        progress = _Progress(_bytes(Folder(folder), lacking), environment)
        for one in lacking:
            try:
                target.receive(one, folder, tell=progress.of)
                copied.append(one.dump)
                print(f"caught up: {one.dump}", flush=True)
            except TargetAwayError:
                raise
            except (TargetError, OSError) as error:
                failed.append(one.dump)
                print(f"{one.dump}: {error}", file=sys.stderr, flush=True)
    finally:  # once more: progress may have driven the first ones out of what is kept of the output
        print("".join(f"caught up: {dump}\n" for dump in copied), end="", flush=True)
    if failed:
        raise TargetError(f"not copied: {', '.join(failed)}", advice="the next run tries again")


def _prune(target: Repository, name: BackupName, environment: Mapping[str, str]) -> None:
    days = int(environment["RETENTION_DAYS"])
    for file in target.prune(name, retention_days=days):
        print(f"pruned: {file}")


def _download(target: Repository, name: BackupName, environment: Mapping[str, str]) -> None:
    backup = target.find(name)
    if backup is None or backup.manifest is None:
        raise TargetError(f"{target.url(name.dump)} no longer exists", advice="choose another backup")
    progress = _Progress(sum(one.size_bytes for one in backup.manifest.files), environment)
    target.fetch(backup, Path(environment["FOLDER"]), tell=progress.of)


def _bytes(folder: Folder, names: Iterable[BackupName]) -> int:
    """What the files of these backups take together, without the sizes of those that are gone."""
    return sum(sum(backup.sizes.values()) for name in names if (backup := folder.find(name)))


class _Progress:
    """Reports how far all files are together, and prints each that is over."""

    def __init__(self, total_bytes: int, environment: Mapping[str, str]) -> None:
        self._total = total_bytes
        self._environment = environment
        self._before = 0

    def of(self, file: File) -> Tell:
        """For the next file."""
        before, began = self._before, time.monotonic()
        self._before += file.size_bytes  # an existing one is not sent, and writes nothing

        def tell(done: int) -> None:
            report(Progress(done_bytes=before + done, total_bytes=self._total), self._environment)
            if done >= file.size_bytes:
                took = time.monotonic() - began
                rate = f", {size(done / took)}/s" if took >= 1 else ""
                print(f"{file.file}: {size(done)} in {seconds(took)}{rate}", flush=True)

        return tell


def _ended(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt  # so that what is half sent is taken back


def run() -> int:
    """The program; returns its exit code. Errors are one line on stderr."""
    signal.signal(signal.SIGTERM, _ended)
    try:
        main(sys.argv[1], os.environ)
    except OpsError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{error.filename or 'a file'}: {error.strerror or type(error).__name__}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGTERM
    return 0


if __name__ == "__main__":
    code = run()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads that still send a part of what was given up are not waited for
