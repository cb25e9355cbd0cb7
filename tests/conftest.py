"""Fixtures that more than one kind of test needs."""

from __future__ import annotations

import itertools
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import hypothesis
import pytest
from pydantic import SecretStr
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from deployments.room.postgres import EmbeddedPostgres
from opsdb.settings import Settings
from tests.support.cluster import copy_cluster
from tests.support.postgres import new_database, running, short_folder

_numbers = itertools.count()


def pytest_configure() -> None:
    """Heed SIGINT, as do the programs that tests start and interrupt, and hurry no example of Hypothesis's.

    What a shell without job control starts in the background ignores SIGINT, and hands that down.
    """
    os.environ.pop("COLUMNS", None)  # what xdist says of the terminal: a test's own output is no terminal
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # an example takes as long as the machine is busy: what hangs ends by the timeout of its test
    hypothesis.settings.register_profile("ours", deadline=None)
    hypothesis.settings.load_profile("ours")


class _Parts(LoadScopeScheduling):  # type: ignore[misc]  # xdist ships no types
    """Gives one process all fault cases, all that is tried in one room, or else a file.

    The limits in the fault cases are of seconds: beside a second lab they would not hold on two cores.
    """

    def _split_scope(self, nodeid: str) -> str:
        return part_of(nodeid)


def part_of(nodeid: str) -> str:
    """What of the tests one process does."""
    path = PurePosixPath(nodeid.partition("::")[0])
    return str(path.parent if path.is_relative_to("tests/acceptance") else path)


_ORDER = ("tests/acceptance/", "tests/unit/flows/", "tests/integration/", "")
"""The longest parts first; beside them what needs no server, while the first process makes the databases."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is tried on an assembled room waits for `make gate`, unless it is the real proof of a promise."""
    items.sort(key=lambda item: next(place for place, path in enumerate(_ORDER) if item.nodeid.startswith(path)))
    for item in items:
        real = item.nodeid.startswith("tests/acceptance/")
        if real and not item.get_closest_marker("promise") and not item.get_closest_marker("soak"):
            item.add_marker("gate")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """How several processes share the tests."""
    return _Parts(config, log)


def _shared() -> dict[str, object]:
    """What all tests of one process share: environment, folder, signal handlers, levels of loggers."""
    levels = {f"logger {name}": logging.getLogger(name).level for name in (*logging.Logger.manager.loggerDict, "root")}
    handlers = {str(number): signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)}
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    return {"environment": environment, "working folder": Path.cwd(), **handlers, **levels}


@pytest.fixture(autouse=True)
def _leaves_the_process_as_it_was() -> Iterator[None]:
    """A test that changes what the others stand on fails itself, not one of them an hour later."""
    before = _shared()
    yield
    after = _shared()
    changed = [name for name, value in before.items() if after.get(name) != value]
    assert not changed, f"the test left these changed: {changed}"


@pytest.fixture(scope="session", name="short_folder")
def _short_folder() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this run of tests have."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def postgres(short_folder: Path, shared_folder: Path) -> Iterator[str]:
    """A running server for this process: a URL with `{database}` in it. Its `ops` and `prefect` are to copy from."""
    copy_cluster(shared_folder, EmbeddedPostgres(short_folder / "postgres"))
    with running(short_folder) as url:
        yield url


@pytest.fixture
def empty_database(postgres: str) -> Iterator[str]:
    """The URL of a new, empty database."""
    with new_database(postgres, f"empty_{next(_numbers)}") as url:
        yield url


@pytest.fixture
def settings(postgres: str, tmp_path: Path) -> Iterator[Settings]:
    """Settings of a room with a new ops database of its own."""
    with new_database(postgres, f"room_{next(_numbers)}", template="ops") as url:
        yield Settings(home=tmp_path / "home", database_url=SecretStr(url))
