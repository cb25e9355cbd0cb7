"""A check of readiness is not convinced by what another user serves."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from deployments.room.readiness import exporter_is_ready
from deployments.server.api import PrefectApi
from tests.support.children import free_port
from tests.support.foreign_listener import foreign_listener
from tests.support.programs import needs_root


@needs_root
def test_metrics_of_another_user_are_not_the_rooms(tmp_path: Path) -> None:
    port = free_port()
    with foreign_listener(port, tmp_path / "heard") as foreign:
        foreign.wait_until("listening")
        url = f"http://127.0.0.1:{port}"
        assert httpx.get(f"{url}/-/ready", trust_env=False).status_code == 200
        assert not exporter_is_ready(url)


@needs_root
def test_supervisor_gives_its_password_to_no_other_user(tmp_path: Path) -> None:
    port = free_port()
    with foreign_listener(port, tmp_path / "heard") as foreign:
        foreign.wait_until("listening")
        assert not PrefectApi(f"http://127.0.0.1:{port}", "ops:password-of-the-room").answers()
        assert foreign.heard == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://[::1]:1", "https://127.0.0.1:1"])
def test_metrics_that_nobody_serves_are_not_ready(url: str) -> None:
    assert not exporter_is_ready(url)
