"""A port of the room that is taken: the error names it, who has it, and the setting that moves it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deployments.room.ports import check_ports, prefect_sockets
from opsdb.errors import UsageError
from opsdb.settings import Settings


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that this process listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_all_taken_ports_are_named_at_once(tmp_path: Path, taken: int) -> None:
    ports = {"health_port": taken, "exporter_port": taken, "prefect_port": 0}
    with pytest.raises(UsageError) as refused:
        check_ports(Settings.model_construct(home=tmp_path, **ports))  # type: ignore[arg-type]
    assert str(refused.value).count(f"port {taken} on 127.0.0.1 is in use") == 2
    assert str(refused.value).endswith("or set OPS_HEALTH_PORT and OPS_EXPORTER_PORT")


@pytest.mark.parametrize("setting", ["prefect_port", "health_port", "exporter_port", "database_listen"])
def test_taken_port_is_named_with_who_has_it_and_its_setting(tmp_path: Path, taken: int, setting: str) -> None:
    free = {"health_port": 0, "exporter_port": 0, "prefect_port": 0}
    settings = Settings.model_construct(home=tmp_path, **free | {setting: taken})  # type: ignore[arg-type]
    if setting == "database_listen":
        settings.database_listen = f"127.0.0.1:{taken}"
    with pytest.raises(UsageError) as refused:
        check_ports(settings)
    own = psutil.Process().name()
    assert str(refused.value) == (
        f"port {taken} on 127.0.0.1 is in use by {own} (pid {os.getpid()}). "
        f"Hint: stop what listens there, or set OPS_{setting.upper()}"
    )


def test_taken_port_of_prefect_is_named_and_a_process_that_cannot_be_seen_is_said(
    tmp_path: Path, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "net_connections", lambda _kind: [])
    with (
        pytest.raises(
            UsageError, match=r"is in use by a process of another user, which root can see\. Hint: .* OPS_PREF"
        ),
        prefect_sockets(Settings(home=tmp_path, prefect_port=taken)),
    ):
        pass
