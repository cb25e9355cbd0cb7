"""The programs that judge rendered files: found, run within a time, and put into a verdict."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deployments.hosting.template import Files, Outcome, Verdict

LONGEST_SECONDS = 60.0


@dataclass(frozen=True)
class Answer:
    """How a program ended, and all that it wrote."""

    code: int
    output: str


def find_program(name: str) -> str | None:
    """Its path: on PATH, where only root's PATH leads, or beside the interpreter of the room."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin", str(Path(sys.executable).parent)])
    return shutil.which(name, path=path)


def run_program(
    command: Sequence[str], *, folder: Path | None = None, env: Mapping[str, str] | None = None, text: str = ""
) -> Answer:
    """Run a program with `text` as its input; both of its outputs are returned as one."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "LC_ALL": "C.UTF-8", "NO_COLOR": "1", **(env or {})},
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=LONGEST_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Answer(124, f"did not end within {LONGEST_SECONDS:g} s")
    except OSError as error:
        return Answer(126, f"cannot be executed: {error.strerror}")
    return Answer(done.returncode, done.stdout.strip())


def absent(program: str, why: str) -> Verdict:
    """The verdict of a program that cannot be asked here."""
    return Verdict(program, Outcome.ABSENT, why)


def judged(program: str, answer: Answer, *, silent: bool = False) -> Verdict:
    """The verdict of an answer: an exit code of 0 passes, where `silent` only without a word."""
    passed = answer.code == 0 and not (silent and answer.output)
    said = answer.output or ("" if passed else f"exit code {answer.code}")
    return Verdict(program, Outcome.PASSED if passed else Outcome.REFUSED, said)


def write_files(files: Files, folder: Path) -> list[Path]:
    """Write the files into the folder. Returns their paths."""
    for name, text in files.items():
        (folder / name).write_text(text)
    return [folder / name for name in files]
