"""What a failed request to Prefect's server is called."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from deployments.server.client import answering
from opsdb.errors import RoomUnreachableError

CLIENT = cast(Any, SimpleNamespace(api_url="http://127.0.0.1:4200/api"))


@pytest.mark.parametrize("error", [httpx.ReadTimeout(""), httpx.ConnectTimeout("")])
def test_server_that_takes_connections_and_does_not_answer_is_said_to_start(error: httpx.TransportError) -> None:
    with pytest.raises(RoomUnreachableError, match=r"is starting, or overloaded.*`ops status`"), answering(CLIENT):
        raise error


def test_server_that_refuses_connections_is_said_not_to_answer() -> None:
    with pytest.raises(RoomUnreachableError, match=r"does not answer \(refused\).*`ops up`"), answering(CLIENT):
        raise httpx.ConnectError("refused")
