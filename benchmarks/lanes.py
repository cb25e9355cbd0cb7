"""`make benchmark`: our lane worker beside Prefect's stock process worker, in one run, on one server and database.

Writes lanes.md and lanes.svg beside this file. `--quick` measures next to nothing and writes to a temporary folder:
it is for work on the benchmark itself.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import measures
from benchmarks.bench_room import STOCK, SYSTEMS, BenchRoom, System, bench_room, counting_proxy
from benchmarks.measures import QUICK, Results, Sizes
from benchmarks.picture import picture
from benchmarks.report import report


class Benchmark:
    """One run of everything."""

    def __init__(self, room: BenchRoom, sizes: Sizes, progress: Progress, *, began: float) -> None:
        self.room = room
        self.sizes = sizes
        self.results = Results(sizes)
        self._progress = progress
        self._began = began

    def run(self) -> Results:
        """Measure all of it, the two systems in turn."""
        for at_once in (1, 2):
            self.results.bash[at_once] = measures.bash_per_minute(self.sizes.bash, at_once=at_once)
        for number in range(1, self.sizes.rounds + 1):
            for system in SYSTEMS:
                with self.room.worker(system) as worker:
                    measures.burst(self.room, system, worker, runs=2, say=self._say(f"{system.name}: warm-up"))
                    self._bursts(system, worker, number)
                    if number == 1:
                        self._naps(system, worker)
        for system in SYSTEMS:
            self._requests(system)
        if self._seconds_left() > 0:
            self._plain()
        self.results.seconds = time.monotonic() - self._began
        return self.results

    def _plain(self) -> None:
        """The stock worker with a flow that has nothing of the room's."""
        runs = self.sizes.bursts[0]
        with self.room.worker(STOCK) as worker:
            measures.burst(self.room, STOCK, worker, runs=2, say=self._say("stock: warm-up"))
            say = self._say(f"stock: {runs} runs of a plain flow")
            self.results.plain = measures.burst(self.room, STOCK, worker, runs=runs, kind="plain", say=say)

    def _seconds_left(self) -> float:
        return self.sizes.budget_seconds - (time.monotonic() - self._began)

    def _bursts(self, system: System, worker: int, number: int) -> None:
        for runs in self.sizes.bursts:
            done = self.results.bursts.setdefault((system.name, runs), [])
            if done and done[0].seconds * 1.1 + 90 > self._seconds_left():
                self.results.notes.append(
                    f"{system.name}: the burst of {runs} was measured {len(done)} instead of {self.sizes.rounds} "
                    "times, to stay within the benchmark's time"
                )
                continue
            say = self._say(f"{system.name}: burst of {runs}, round {number}")
            done.append(measures.burst(self.room, system, worker, runs=runs, say=say))

    def _naps(self, system: System, worker: int) -> None:
        """Memory at rest and at each size; at the last size but one, runs are cancelled one after another."""
        self.results.memory[system.name, 0] = measures.memory(self.room, worker)
        naps: list[measures.Nap] = []
        for position, size in enumerate(self.sizes.concurrent):
            say = self._say(f"{system.name}: {size} sleeping runs")
            naps += measures.start_naps(self.room, system, runs=size - len(naps), say=say)
            self.results.memory[system.name, size] = measures.memory(self.room, worker)
            if position == len(self.sizes.concurrent) - 2:
                self._say(f"{system.name}: {self.sizes.cancels} cancels")
                chosen, naps = naps[: self.sizes.cancels], naps[self.sizes.cancels :]
                self.results.cancels[system.name] = measures.cancel(self.room, chosen)
                words = measures.cancelled_words(self.room, chosen)
                self.results.notes.append(f"{system.name}: the states of the runs cancelled one by one say {words}")
        say = self._say(f"{system.name}: cancelling {len(naps)} at once")
        began = time.monotonic()
        if measures.cancel_all(self.room, naps, say=say):
            took = f"were Cancelled and without a process after {time.monotonic() - began:.1f} s"
        else:
            took = "were not all Cancelled and without a process after 60 s; the rest was killed with the worker"
        self.results.notes.append(f"{system.name}: {len(naps)} sleeping runs that were cancelled together {took}")

    def _requests(self, system: System) -> None:
        log = self.room.settings.home / f"requests-{system.name}"
        with counting_proxy(self.room, log) as port, self.room.worker(system, api_port=port) as worker:
            measures.burst(self.room, system, worker, runs=1, say=self._say(f"{system.name}: warm-up"))
            say = self._say(f"{system.name}: counting requests")
            with measures.counted(log, runs=self.sizes.counted) as counted:
                measures.burst(self.room, system, worker, runs=self.sizes.counted, say=say)
            self.results.requests[system.name] = counted[0]

    def _say(self, what: str) -> measures.Say:
        task = self._progress.add_task(what, total=None)
        if not self._progress.console.is_terminal:
            self._progress.console.print(f"{time.monotonic() - self._began:4.0f} s  {what}")

        def say(done: int, total: int) -> None:
            self._progress.update(task, completed=done, total=total)
            self._progress.refresh()

        self._progress.refresh()
        return say


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, for work on the benchmark itself")
    parser.add_argument("--out", type=Path, help="folder for lanes.md and lanes.svg (default: beside this file)")
    parser.add_argument("--keep", action="store_true", help="keep the room's folder with its logs")
    arguments = parser.parse_args()
    out = arguments.out or (Path(tempfile.mkdtemp(prefix="lanes-")) if arguments.quick else Path(__file__).parent)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is stopped on the way out
    console = Console(stderr=True)
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
    # no thread of its own: the programs are forked from this process
    progress = Progress(*columns, console=console, auto_refresh=False)
    home = Path(tempfile.mkdtemp(prefix="bench-"))
    began = time.monotonic()
    try:
        console.print(f"the room starts in {home}")
        with bench_room(home) as room, progress:
            results = Benchmark(room, QUICK if arguments.quick else Sizes(), progress, began=began).run()
    finally:
        if not arguments.keep:
            shutil.rmtree(home, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / "lanes.md").write_text(report(results))
    (out / "lanes.svg").write_text(picture(results))
    console.print(f"written: {out / 'lanes.md'}, {out / 'lanes.svg'} ({results.seconds / 60:.1f} min)")


if __name__ == "__main__":
    main()
