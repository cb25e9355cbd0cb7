"""What the tests of commands on a real PostgreSQL share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import pytest

from cli import main
from opsdb.database import connect
from opsdb.settings import Settings
from tests.support.alerts_lab import Lab

Ops = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ops(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ops:
    """Run a command to its end in this process: its exit code, what it said, and its errors."""
    monkeypatch.setenv("OPS_HOME", str(settings.home))
    monkeypatch.setenv("OPS_DATABASE_URL", settings.ops_url)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ops", *arguments])
        with pytest.raises(SystemExit) as ended:
            main.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


@pytest.fixture
def lab(settings: Settings) -> Iterator[Lab]:
    """Runs to be put into the ops database of that room."""
    engine = connect(settings, application="test")
    yield Lab(engine)
    engine.dispose()
