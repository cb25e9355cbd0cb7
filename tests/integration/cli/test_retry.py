"""`ops retry` of a run that only the record has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest

from deployments.server import runs as prefect_server
from deployments.server.runs import UnknownRunError
from opsdb.runs.lookup import short_id
from tests.integration.cli.conftest import Ops
from tests.support.alerts_lab import Lab
from tests.support.runs_made_up import FakePrefect


class Pruned(FakePrefect):
    """What the record has is too old for Prefect."""

    def retry(self, run_id: UUID, **_how: Any) -> None:
        raise UnknownRunError(f"Prefect knows no run {run_id}")


def test_retry_of_a_run_that_prefect_does_not_have_any_more_says_to_start_another(
    ops: Ops, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def connected(_settings: object) -> Iterator[FakePrefect]:
        yield Pruned()

    monkeypatch.setattr(prefect_server, "connect", connected)
    lab.finish(run_id := lab.run())
    code, _, err = ops("retry", str(run_id))
    assert code == 2
    assert f"Prefect does not have run {short_id(run_id)} any more" in err
    assert f"`ops rerun {short_id(run_id)}` starts another" in err
