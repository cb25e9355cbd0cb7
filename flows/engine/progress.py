"""How far a step is: looked at from outside while it runs, in a thread of its own, and kept for the next heartbeat."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from opsdb.processes.find import find_descendants
from opsdb.progress import Pace, Progress

LOOK_SECONDS = 2.0
STALE_SECONDS = 10.0
"""After so long without an answer, of a disk that hangs for instance, nothing is known any more."""

PROGRESS = "PROGRESS"
"""The variable with the file into which a program writes how far it is, see report()."""
_REPORT_BYTES = 256


@dataclass(frozen=True, slots=True)
class Measure:
    """How to see how far a step is. It costs nothing in a dry run, and nothing that goes wrong with it harms a step."""

    look: Callable[[], Progress | None]
    """None where it cannot be seen now. May raise OSError, ValueError and TypeError."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What the step's programs must know for it."""


def written(path: str | Path, *, last_bytes: int | None = None) -> Measure:
    """By the size of a file that the step writes. `last_bytes` is what it took the last time, where that is known."""
    return Measure(
        lambda: Progress(
            done_bytes=os.stat(path).st_size,  # noqa: PTH116 - often a path in /proc
            total_bytes=last_bytes,
            estimated=last_bytes is not None,
        )
    )


def read(*paths: str | Path) -> Measure:
    """By how far the step's programs, or this process, are in files that they read one after another.

    A file that is read twice stands twice.
    """
    return Measure(_Reading([str(path) for path in paths]).look)


def reported() -> Measure:
    """By what the step's program says itself, with report()."""
    file = os.fdopen(os.memfd_create("progress"), "rb", buffering=0)

    def look() -> Progress | None:
        said = os.pread(file.fileno(), _REPORT_BYTES, 0)
        return Progress.of(json.loads(said)) if said else None

    return Measure(look, {PROGRESS: f"/proc/{os.getpid()}/fd/{file.fileno()}"})


def report(progress: Progress, environment: Mapping[str, str]) -> None:
    """Say how far this program is, which runs in a step that is measured so; of others nothing is asked."""
    if path := environment.get(PROGRESS):
        with suppress(OSError), Path(path).open("r+b", buffering=0) as file:
            file.write(json.dumps(progress.columns).encode().ljust(_REPORT_BYTES))


class Meter:
    """How far the running steps of this process are."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._steps: dict[int, tuple[float, Progress]] = {}

    def latest(self) -> dict[int, Progress | None]:
        """Of each running step, by its index, what was seen last; None where that is too long ago. Never waits."""
        now = self._clock()
        return {
            index: progress if now - at < STALE_SECONDS else None
            for index, (at, progress) in self._steps.copy().items()
        }

    @contextmanager
    def measuring(self, index: int, measure: Measure | None) -> Iterator[None]:
        """Look again and again how far the step of this index is, until the end of the block."""
        if measure is None:
            yield
            return
        over = threading.Event()
        # not waited for at the end: it may hang with the disk
        threading.Thread(target=self._look, args=(index, measure, over), name="progress", daemon=True).start()
        try:
            yield
        finally:
            over.set()
            self._steps.pop(index, None)

    def _look(self, index: int, measure: Measure, over: threading.Event) -> None:
        pace = Pace()
        while not over.wait(LOOK_SECONDS):
            with suppress(OSError, ValueError, TypeError):
                if (seen := measure.look()) is not None and not over.is_set():
                    now = self._clock()
                    self._steps[index] = now, pace.paced(seen, at=now)
        self._steps.pop(index, None)


class _Reading:
    """Files that are read one after another, and the place in the one that is being read."""

    def __init__(self, paths: list[str]) -> None:
        self._paths = paths
        self._current = 0
        self._furthest = 0

    def look(self) -> Progress:
        files = [os.stat(path) for path in self._paths]  # noqa: PTH116 - often a path in /proc
        keys = [(file.st_dev, file.st_ino) for file in files]
        places = _places(set(keys))
        self._go_on(keys, places)
        self._furthest = max(self._furthest, places.get(keys[self._current], 0))
        sizes = [file.st_size for file in files]
        before, size = sum(sizes[: self._current]), sizes[self._current]
        return Progress(done_bytes=before + min(self._furthest, size), total_bytes=sum(sizes))

    def _go_on(self, keys: list[tuple[int, int]], places: Mapping[tuple[int, int], int]) -> None:
        """To the last file that is being read; to the same file once more where that begins again."""
        now = keys[self._current]
        begun = [number for number, key in enumerate(keys) if number > self._current and key != now and places.get(key)]
        again = self._current + 1 < len(keys) and keys[self._current + 1] == now
        if begun or (again and 0 < places.get(now, 0) < self._furthest):
            self._current = begun[-1] if begun else self._current + 1
            self._furthest = 0


def _places(wanted: set[tuple[int, int]]) -> dict[tuple[int, int], int]:
    """How far this process or one that descends from it is in each of these files, by device and inode."""
    found: dict[tuple[int, int], int] = {}
    for pid in (os.getpid(), *(process.pid for process in find_descendants())):
        with suppress(OSError):  # it ended
            for handle in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208 - a Path per handle is slow
                with suppress(OSError):  # closed
                    opened = os.stat(f"/proc/{pid}/fd/{handle}")  # noqa: PTH116 - as above
                    if (key := (opened.st_dev, opened.st_ino)) in wanted:
                        place = Path(f"/proc/{pid}/fdinfo/{handle}").read_text().split(maxsplit=2)[1]
                        found[key] = max(found.get(key, 0), int(place))
    return found
