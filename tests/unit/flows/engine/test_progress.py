"""How a step is looked at while it runs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flows.engine import progress as engine_progress
from flows.engine.progress import STALE_SECONDS, Measure, Meter, read, report, reported, written
from opsdb.progress import Progress
from tests.support.waiting import wait_for

READER = """
import sys
opened = {}
for order in sys.stdin:
    name, count = order.split()
    if count == "0":
        opened.pop(name).close()
    else:
        opened.setdefault(name, open(name, "rb", buffering=0)).read(int(count))
    print("done", flush=True)
"""


class Reader:
    """A grandchild that reads so many bytes of a file, and closes it at 0."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def __call__(self, path: str | Path, count: int) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{path} {count}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n"


@pytest.fixture
def reader() -> Iterator[Reader]:
    with reading() as reader:
        yield reader


@contextmanager
def reading() -> Iterator[Reader]:
    command = ["bash", "-c", '"$0" -c "$1"; true', sys.executable, READER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Reader(process)


def looked(measure: Measure) -> tuple[int, int | None]:
    seen = measure.look()
    assert seen is not None
    return seen.done_bytes, seen.total_bytes


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    paths = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    for path, size in zip(paths, (1000, 10, 500), strict=True):
        path.write_bytes(b"x" * size)
    return paths


def test_file_that_is_written_is_as_far_as_it_is_long(tmp_path: Path) -> None:
    path = tmp_path / "dump"
    with pytest.raises(FileNotFoundError):
        written(path).look()
    path.write_bytes(b"x" * 30)
    assert written(path).look() == Progress(done_bytes=30)
    assert written(path, last_bytes=100).look() == Progress(done_bytes=30, total_bytes=100, estimated=True)


def test_files_that_a_grandchild_reads_one_after_another(files: tuple[Path, Path, Path], reader: Reader) -> None:
    first, second, third = files
    measure = read(*files)
    assert looked(measure) == (0, 1510)
    reader(first, 400)
    assert looked(measure) == (400, 1510)
    reader(first, 600)
    reader(first, 0)
    assert looked(measure) == (400, 1510)  # closed between two looks
    reader(second, 10)
    reader(second, 0)
    reader(third, 7)
    assert looked(measure) == (1017, 1510)
    reader(third, 0)
    assert looked(measure) == (1017, 1510)


def test_file_that_is_read_twice_goes_on_and_never_back(files: tuple[Path, Path, Path], reader: Reader) -> None:
    path = str(files[0])
    opened = os.open(path, os.O_RDONLY)
    try:
        ours = f"/proc/{os.getpid()}/fd/{opened}"  # as drafts and restores name their files
        measure = read(ours, ours)
        found = []
        for count in (300, 700, 0, 50, 0, 900, 0):
            reader(path, count)
            found.append(looked(measure)[0])
    finally:
        os.close(opened)
    assert found == [300, 1000, 1000, 1050, 1050, 1900, 1900]


def test_what_a_program_reports_is_seen_whole(tmp_path: Path) -> None:
    measure = reported()
    assert measure.look() is None
    script = "import os; from flows.engine.progress import *; [report(Progress(done_bytes=n), os.environ) for n in %r]"
    for numbers in ([1, 123456789012], [5]):
        subprocess.run([sys.executable, "-c", script % numbers], env={**os.environ, **measure.environment}, check=True)
        assert measure.look() == Progress(done_bytes=numbers[-1])
    report(Progress(done_bytes=1), {})
    report(Progress(done_bytes=1), {"PROGRESS": str(tmp_path / "gone")})


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_progress, "LOOK_SECONDS", 0.02)


@pytest.mark.usefixtures("quick")
def test_meter_knows_the_running_step_and_forgets_it_at_its_end(tmp_path: Path) -> None:
    path, meter = tmp_path / "dump", Meter()
    assert meter.latest() == {}
    with meter.measuring(3, written(path)):
        time.sleep(0.1)
        assert meter.latest() == {}  # no file yet: nothing is known, and nothing breaks
        path.write_bytes(b"x" * 30)
        # a look may fall between the file's opening and its first byte
        wait_for(lambda: (seen := meter.latest().get(3)) and seen.done_bytes == 30, seconds=20, what="all of it seen")
        path.unlink()
    assert meter.latest() == {}
    with meter.measuring(4, None):
        assert meter.latest() == {}


@pytest.mark.usefixtures("quick")
def test_look_that_hangs_holds_up_nobody_and_is_nothing_after_a_while() -> None:
    now, hanging, over = 0.0, threading.Event(), threading.Event()
    looks = 0

    def look() -> Progress:
        nonlocal looks
        looks += 1
        if looks > 1:
            hanging.set()
            over.wait(30)
        return Progress(done_bytes=looks)

    meter = Meter(clock=lambda: now)
    with meter.measuring(1, Measure(look)):
        assert hanging.wait(30)
        assert meter.latest() == {1: Progress(done_bytes=1)}
        now = STALE_SECONDS
        assert meter.latest() == {1: None}
    over.set()
    wait_for(lambda: all(thread.name != "progress" for thread in threading.enumerate()), seconds=20, what="its end")
    assert meter.latest() == {}


def test_short_step_is_never_looked_at() -> None:
    looks: list[int] = []
    meter = Meter()
    with meter.measuring(1, Measure(lambda: looks.append(1))):
        pass
    time.sleep(engine_progress.LOOK_SECONDS + 0.2)
    assert looks == []
