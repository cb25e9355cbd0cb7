"""Each in a Python of its own: what is tried is what happens to its descriptors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BEGIN = """
import os, sys
from pathlib import Path
from opsdb.standard_streams import lost_output, make_unfailing, reader_left
make_unfailing()
"""
SPEAK = "print('x' * 100_000, flush=True); print('y' * 100_000, file=sys.stderr, flush=True); "
DONE = "Path(sys.argv[1]).write_text(f'{lost_output()} {reader_left()}')"


def speak(tmp_path: Path, how: str, *, then: str = "") -> str:
    """What a program knows of its output that wrote a lot of it, with redirections of the shell's."""
    done = tmp_path / "done"
    script = BEGIN + SPEAK + then + "\n" + DONE
    command = ["/bin/bash", "-c", f'"$@" {how}', "bash", sys.executable, "-c", script, str(done)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return done.read_text()


@pytest.mark.parametrize(
    ("how", "known"),
    [
        ("", "None False"),
        ("> >(exec true) 2>&1", "None True"),
        (">/dev/full", "No space left on device True"),
        ("2>/dev/full", "None False"),
        (">&-", "None False"),
        ("<&- >&- 2>&-", "None False"),
    ],
)
def test_program_ends_its_work_whatever_becomes_of_its_output(tmp_path: Path, how: str, known: str) -> None:
    assert speak(tmp_path, how) == known


def test_closed_output_is_not_the_next_file_that_is_opened(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    speak(tmp_path, "<&- >&- 2>&-", then=f"file = open({str(precious)!r}, 'w'); os.write(1, b'noise'); file.close()")
    assert precious.read_bytes() == b""


def test_child_of_a_program_whose_reader_left_writes_to_nobody(tmp_path: Path) -> None:
    then = "import subprocess; subprocess.run(['sh', '-c', 'echo one && echo two'], check=True)"
    assert speak(tmp_path, "> >(exec true)", then=then) == "None True"


def test_reader_that_left_is_noticed_without_writing() -> None:
    reading, writing = os.pipe()
    code = BEGIN + "print(reader_left(), file=sys.stderr); sys.stdin.read(); print(reader_left(), file=sys.stderr)"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=writing, stderr=subprocess.PIPE, text=True
    ) as process:
        os.close(writing)
        assert process.stderr is not None
        assert process.stderr.readline() == "False\n"
        os.close(reading)
        assert process.communicate("", timeout=60)[1] == "True\n"


def test_disk_that_has_room_again_gets_what_is_written_then(tmp_path: Path) -> None:
    log = tmp_path / "log"
    then = f"os.dup2(os.open({str(log)!r}, os.O_WRONLY | os.O_CREAT), 1); print('later', flush=True)"
    assert speak(tmp_path, ">/dev/full", then=then).startswith("No space left")
    assert log.read_text() == "later\n"


@pytest.mark.parametrize(("how", "env"), [("file", {}), ("pipe", {"PYTHONUNBUFFERED": "1"})])
def test_line_is_there_at_once_in_a_log_and_where_the_environment_asks_for_it(
    tmp_path: Path, how: str, env: dict[str, str]
) -> None:
    program = [sys.executable, "-c", BEGIN + "print('started!'); os._exit(0)"]
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"} | env
    log = tmp_path / "log"
    if how == "file":
        with log.open("wb") as out:
            subprocess.run(program, check=True, stdout=out, env=plain, timeout=60)
    else:
        log.write_bytes(subprocess.run(program, check=True, capture_output=True, env=plain, timeout=60).stdout)
    assert log.read_text() == "started!\n"
