"""What a shell is offered: quick, and silent where no room is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli import completion, options
from cli.main import FILES
from opsdb.tables import Lane

BASH = {"_OPS_COMPLETE": "complete_bash"}


def offered(line: str, word: int, home: Path, **more: str) -> list[str]:
    """What bash is offered for a word of a line."""
    env = {
        "PATH": os.environ["PATH"],
        "OPS_HOME": str(home),
        "COMP_WORDS": line,
        "COMP_CWORD": str(word),
        **BASH,
        **more,
    }
    done = subprocess.run([sys.executable, "-m", "cli"], env=env, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout.split()


def test_lanes_are_those_of_the_room() -> None:
    assert [word for word, _ in completion.complete_lanes("")] == list(Lane)
    assert completion.complete_lanes("b") == [("B", "")]
    assert options.LANES.split("|") == list(Lane)


def test_words_statuses_and_last_are_offered_without_a_room(tmp_path: Path) -> None:
    assert set(offered("ops run", 1, tmp_path)) == {"run", "runs", "runbook", "runbooks"}
    assert set(offered("ops ", 1, tmp_path)) == {word for words in FILES.values() for word in words}
    assert offered("ops runs --status f", 3, tmp_path) == ["failed"]
    assert offered("ops show la", 2, tmp_path) == ["last"]
    assert offered("ops runs --kind od", 3, tmp_path) == []
    assert offered("ops runs --since", 2, tmp_path) == ["--since"]


def test_old_name_of_a_setting_is_not_said_at_each_press_of_a_key(tmp_path: Path) -> None:
    assert offered("ops runs --kind od", 3, tmp_path, OPS_PREFECT_UI_URL="https://ops.example.org") == []


def test_text_from_outside_is_offered_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion, "_rows", lambda _query: [("odoo\x1b[31m\n", "about\n"), ("other", "")])
    assert completion.complete_databases("od") == [("odoo\\x1b[31m\\n", "about\\n")]
