"""What a step does at a backup target: `python -m flows.offsite.transfer upload|prune|catch-up|download`.

A process of its own, so that it ends with its step. Its environment says all: TARGET and the keys, ROOM, FOLDER,
BACKUP (the dump's name) and RETENTION_DAYS. Prints its progress, and for what it did lines of `word: value`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from blocks.target_folder import FolderStore
from blocks.target_store import Store, TargetAwayError, TargetError, Tell
from flows.backup.names import BackupName, parse_name
from flows.offsite.copies import clear_unfinished, files_of, find_copy, missed, prune, upload
from flows.offsite.owner import claim
from opsdb.errors import OpsError, UsageError

_TELL_SECONDS = 5.0


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
        raise UsageError(f"BACKUP: {environment['BACKUP']} is no name of a backup")
    store = store_of(environment)
    if order != "download":  # before anything is sent or deleted
        claim(store, environment["ROOM"])
    work(store, name, environment)


def _upload(store: Store, name: BackupName, environment: Mapping[str, str]) -> None:
    folder = Path(environment["FOLDER"])
    try:
        for file in clear_unfinished(store, folder, name.database, keep=name):
            print(f"removed what a killed upload left: {file}")
    except TargetError as error:
        print(f"what killed uploads left was not removed: {error}")
    print(f"uploaded: {_send(store, folder, name)}")


def _catch_up(store: Store, name: BackupName, environment: Mapping[str, str]) -> None:
    """Copy what earlier uploads missed: one that cannot be sent keeps no other from it."""
    folder, days = Path(environment["FOLDER"]), int(environment["RETENTION_DAYS"])
    copied, failed = [], []
    try:
        for one in missed(store, folder, name, retention_days=days):
            try:
                _send(store, folder, one)
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


def _send(store: Store, folder: Path, name: BackupName) -> int:
    sizes = {one.name: one.stat().st_size for one in folder.glob(f"{name.dump}*")}
    return upload(store, folder, name, tell=lambda file: _progress(file, sizes.get(file, 0)))


def _prune(store: Store, name: BackupName, environment: Mapping[str, str]) -> None:
    days = int(environment["RETENTION_DAYS"])
    for file in prune(store, name.database, now=name.created_at, retention_days=days):
        print(f"pruned: {file}")


def _download(store: Store, name: BackupName, environment: Mapping[str, str]) -> None:
    copy = find_copy(store, name)
    if copy is None or copy.manifest is None:
        raise TargetError(f"{store.url(name.dump)} is not there any more", advice="choose another backup")
    for file, size, _ in files_of(copy.manifest):
        try:
            store.get(file, Path(environment["FOLDER"]) / file, tell=_progress(file, size))
        except TargetError:
            if file in store.sizes(file):
                raise
            found = f"{store.url(file)} was deleted while the backup was fetched"
            raise TargetError(found, advice="choose another backup") from None


def _progress(file: str, size: int) -> Tell:
    """Prints how far a file is, every few seconds and at its end."""
    last = time.monotonic()

    def tell(done: int) -> None:
        nonlocal last
        if size and (done >= size or time.monotonic() - last > _TELL_SECONDS):
            last = time.monotonic()
            print(f"{file}: {100 * done // size} % of {_shown(size)}", flush=True)

    return tell


def _shown(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} GiB"


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
