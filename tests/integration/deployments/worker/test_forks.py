"""Run processes of a real fork server, and of the one that takes its place."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
from multiprocessing import forkserver
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock
from uuid import uuid4

import psutil
import pytest

from deployments.worker import forks
from deployments.worker.forks import Forks

HERE = Path(__file__).parent


def told_to(_task: object, beginning: Any) -> None:
    """In place of a run: say whose child it is, wait for a line, and end with its number."""
    folder = Path(os.environ["TEST_FOLDER"])
    own = folder / str(os.getpid())
    own.with_suffix(".parent").write_text(str(os.getppid()))
    os.mkfifo(own)
    beginning.close()
    with own.open() as orders:
        os._exit(int(orders.readline()))


class Task:
    """What is pickled to it."""

    flow_run = MagicMock(id=uuid4())

    def __reduce__(self) -> Any:
        return (object, ())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TEST_FOLDER", str(tmp_path))
    monkeypatch.setattr(forks, "PRELOAD", "json")
    monkeypatch.setattr(forks, "execute", told_to)
    monkeypatch.setattr(sys, "path", [str(HERE.parents[3]), *sys.path])
    return tmp_path


def test_run_keeps_its_fork_server_until_it_is_over_and_later_ones_have_another(folder: Path) -> None:
    async def order(handle: Any, code: int) -> int:
        await asyncio.to_thread((folder / str(handle.pid)).write_text, f"{code}\n")
        return int(await handle.wait())

    async def parent_of(handle: Any) -> int:
        await handle.started(60)
        return int((folder / f"{handle.pid}.parent").read_text())

    async def whole() -> None:
        made = Forks()
        made.renew()  # whatever another test has left
        first = made.start(Task())  # type: ignore[arg-type]
        old = await parent_of(first)
        made.renew()
        assert made.retiring
        second = made.start(Task())  # type: ignore[arg-type]
        assert await order(first, 41) == 41  # the server of before said so
        assert psutil.pid_exists(old)
        new = await parent_of(second)
        assert new != old
        made.end_retired()
        await asyncio.to_thread(psutil.Process(old).wait, 10) if psutil.pid_exists(old) else None
        made.end_retired()
        assert not made.retiring
        assert multiprocessing.active_children() == []  # none whose status another start could take away
        assert await order(second, 42) == 42

    asyncio.run(whole())


def test_fork_server_stays_where_no_other_can_be_started(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Forks()
    made.renew()
    before = forkserver._forkserver._forkserver_pid, len(made._retired)  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        patch.setattr(forkserver, "ensure_running", MagicMock(side_effect=OSError("too many open files")))
        with pytest.raises(OSError, match="too many"):
            made.renew()
    assert (forkserver._forkserver._forkserver_pid, len(made._retired)) == before  # type: ignore[attr-defined]
