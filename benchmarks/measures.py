"""What `benchmarks/lanes.py` measures, and all that it found, read beside the programs. Seconds, and bytes."""

from __future__ import annotations

import itertools
import math
import re
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from benchmarks.bench_room import BenchRoom, System
from benchmarks.process_tree import carrying, cpu_seconds, own_cpu_seconds, pss_bytes, tree

Say = Callable[[int, int], None]
"""Told how much is done of how much, several times a second."""

OVER = "('COMPLETED', 'FAILED', 'CRASHED', 'CANCELLED')"
ENDED = f"SELECT count(*) FROM flow_run WHERE id = ANY(%s) AND state_type IN {OVER}"  # noqa: S608
TIMES = """
SELECT r.created, r.end_time, r.state_type, (
    SELECT min(s.timestamp) FROM flow_run_state s WHERE s.flow_run_id = r.id AND s.type = 'RUNNING')
FROM flow_run r WHERE r.id = ANY(%s)
"""
UUID_IN_PATH = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
POLLING = ("/api/work_pools/", "/api/work_queues/", "/api/flow_runs/filter", "/api/deployments/filter")
"""Asked again and again whether there are runs or not; a run's own requests go to other paths."""
_nap_numbers = itertools.count(1)


@dataclass(frozen=True)
class Burst:
    """Runs that were created at once, and what they cost. CPU seconds are per run."""

    runs: int
    completed: int
    create_seconds: float
    seconds: float
    starts: tuple[float, ...]
    cpu: dict[str, float]

    @property
    def per_minute(self) -> float:
        """Runs per minute, from the first creation to the last end."""
        return self.runs / self.seconds * 60

    @property
    def start_median(self) -> float:
        """From the creation of a run to its Running state."""
        return statistics.median(self.starts)

    @property
    def start_p99(self) -> float:
        """The same, of the run that only one in a hundred is slower than."""
        return sorted(self.starts)[math.ceil(len(self.starts) * 0.99) - 1]


def burst(room: BenchRoom, system: System, worker: int, *, runs: int, say: Say, kind: str = "one_step") -> Burst:
    """Create runs at once and wait until the last one is over and its processes are gone. Raises TimeoutError."""
    at_rest = len(tree(worker))
    before = _cpu(room, worker)
    began = time.monotonic()
    ids = room.create_runs(system, kind, [{}] * runs)
    created = time.monotonic()
    limit = 60 + 8 * runs
    _until(lambda: _ended(room, ids, say) == runs, seconds=limit, what=f"the end of {runs} runs ({system.name})")
    _until(lambda: len(tree(worker)) <= at_rest, seconds=30, what="the end of the run processes", must=False)
    after = _cpu(room, worker)
    rows = room.query(TIMES, [ids])
    seconds = (max(row[1] for row in rows) - min(row[0] for row in rows)).total_seconds()
    return Burst(
        runs=runs,
        completed=sum(row[2] == "COMPLETED" for row in rows),
        create_seconds=created - began,
        seconds=seconds,
        starts=tuple((row[3] - row[0]).total_seconds() for row in rows if row[3]),
        cpu={name: (after[name] - before[name]) / runs for name in after},
    )


@dataclass(frozen=True)
class Nap:
    """A run that sleeps. `mark` stands in the command line of its `sleep`."""

    run_id: UUID
    mark: str


def start_naps(room: BenchRoom, system: System, *, runs: int, say: Say) -> list[Nap]:
    """Start runs that sleep for 20 minutes; returns when all of them do."""
    marks = [f"1200.{next(_nap_numbers):06}" for _ in range(runs)]
    ids = room.create_runs(system, "sleeper", [{"seconds": mark} for mark in marks])

    def asleep() -> bool:
        found = len(carrying([f"sleep\0{mark}\0" for mark in marks]))
        say(found, runs)
        return found >= runs

    _until(asleep, seconds=60 + 8 * runs, what=f"the start of {runs} sleeping runs ({system.name})")
    return [Nap(run_id, mark) for run_id, mark in zip(ids, marks, strict=True)]


def memory(room: BenchRoom, worker: int) -> dict[str, float]:
    """PSS of the worker's tree and of `ops sync`, a while after the last start."""
    time.sleep(2)
    return {"worker": pss_bytes(worker), "sync": pss_bytes(room.pids["sync"])}


def cancel(room: BenchRoom, naps: Sequence[Nap], *, seconds: float = 60) -> list[float]:
    """Cancel runs one after another. Returns how long each took until it was Cancelled and without a process.

    One that took longer than `seconds` counts as infinite.
    """
    from prefect.client.orchestration import get_client
    from prefect.states import Cancelling

    took = []
    with get_client(sync_client=True) as client:
        for nap in naps:
            began = time.monotonic()
            client.set_flow_run_state(nap.run_id, Cancelling())
            gone = _until(partial(_gone, room, nap), seconds=seconds, what="cancel", must=False, pause=0.05)
            took.append(time.monotonic() - began if gone else math.inf)
    return took


def cancelled_words(room: BenchRoom, naps: Sequence[Nap]) -> str:
    """What the Cancelled states of runs say, and how many say it: that tells who ended them."""
    sql = (
        "SELECT coalesce(message, '(no words)') FROM flow_run_state WHERE type = 'CANCELLED' AND flow_run_id = ANY(%s)"
    )
    said = Counter(row[0] for row in room.query(sql, [[nap.run_id for nap in naps]]))
    return ", ".join(f"{count} x `{words}`" for words, count in said.most_common()) or "nothing"


def cancel_all(room: BenchRoom, naps: Sequence[Nap], *, say: Say, seconds: float = 60) -> bool:
    """Cancel runs together. Returns whether all were Cancelled and without a process in time."""
    from prefect.client.orchestration import get_client
    from prefect.states import Cancelling

    with get_client(sync_client=True) as client:
        for nap in naps:
            client.set_flow_run_state(nap.run_id, Cancelling())

    def all_gone() -> bool:
        left = [nap for nap in naps if not _gone(room, nap)]
        say(len(naps) - len(left), len(naps))
        return not left

    return _until(all_gone, seconds=seconds, what="cancel", must=False, pause=0.5)


@dataclass(frozen=True)
class Requests:
    """What a worker and its runs ask of Prefect's server."""

    per_run: dict[str, float]
    polling_per_minute: float

    @property
    def total(self) -> float:
        """Requests per run, without its creation and without polling."""
        return sum(self.per_run.values())


@contextmanager
def counted(log: Path, *, runs: int) -> Iterator[list[Requests]]:
    """Count what the proxy writes to `log` meanwhile; the list holds it afterwards."""
    before, began = len(log.read_text().splitlines()), time.monotonic()
    result: list[Requests] = []
    yield result
    lines = log.read_text().splitlines()[before:]
    minutes = (time.monotonic() - began) / 60
    paths = Counter(UUID_IN_PATH.sub("{id}", line.partition("?")[0]) for line in lines)
    polling = {path: count for path, count in paths.items() if path.split(" ")[1].startswith(POLLING)}
    own = {path: count / runs for path, count in paths.most_common() if path not in polling}
    result.append(Requests(per_run=own, polling_per_minute=sum(polling.values()) / minutes))


def bash_per_minute(count: int, *, at_once: int) -> float:
    """How many `bash -euo pipefail -c true` this machine runs per minute."""
    began = time.monotonic()
    loop = f"for ((i = 0; i < {count // at_once}; i++)); do bash -euo pipefail -c true; done"
    script = f"({loop}) & " * at_once + "wait"
    subprocess.run(["bash", "-c", script], check=True)  # noqa: S607
    return count / (time.monotonic() - began) * 60


def _ended(room: BenchRoom, ids: list[UUID], say: Say) -> int:
    ended = int(room.query(ENDED, [ids])[0][0])
    say(ended, len(ids))
    return ended


def _gone(room: BenchRoom, nap: Nap) -> bool:
    state = room.query("SELECT state_type FROM flow_run WHERE id = %s", [nap.run_id])[0][0]
    return state == "CANCELLED" and not carrying([str(nap.run_id), f"sleep\0{nap.mark}\0"])


def _cpu(room: BenchRoom, worker: int) -> dict[str, float]:
    return {
        "worker": cpu_seconds(worker),
        "worker process": own_cpu_seconds(worker),
        "sync": cpu_seconds(room.pids["sync"]),
        "server": cpu_seconds(room.pids["prefect"]),
        "postgres": cpu_seconds(room.pids["postgres"]),
    }


def _until(done: Callable[[], Any], *, seconds: float, what: str, must: bool = True, pause: float = 0.25) -> bool:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            if must:
                raise TimeoutError(f"{what}: not within {seconds:.0f} s")
            return False
        time.sleep(pause)
    return True


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    bursts: tuple[int, ...] = (20, 100)
    rounds: int = 2
    concurrent: tuple[int, ...] = (4, 12, 40)
    cancels: int = 10
    counted: int = 10
    bash: int = 500
    budget_seconds: float = 14 * 60


QUICK = Sizes(bursts=(4, 10), rounds=1, concurrent=(2, 4), cancels=2, counted=4, bash=100)


@dataclass
class Results:
    """All figures, by the name of the system."""

    sizes: Sizes
    bursts: dict[tuple[str, int], list[Burst]] = field(default_factory=dict)
    memory: dict[tuple[str, int], dict[str, float]] = field(default_factory=dict)
    cancels: dict[str, list[float]] = field(default_factory=dict)
    requests: dict[str, Requests] = field(default_factory=dict)
    bash: dict[int, float] = field(default_factory=dict)
    plain: Burst | None = None
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def median(self, system: str, runs: int, of: Callable[[Burst], float]) -> float:
        """The median over the rounds of a figure of a burst."""
        return statistics.median(of(burst) for burst in self.bursts[system, runs])
