"""What a person or the sync asks of Prefect arrives, and the answer is lost: it is done, and it is done once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient

from cli.account import account
from tests.acceptance.faults.conftest import Start
from tests.acceptance.faults.lab import Lab
from tests.acceptance.faults.request_proxy import RequestProxy
from tests.acceptance.faults.runs import AFTER, BEFORE, done, failing, in_prefect, lane_closed, ops, wait_asking
from tests.support.tiers import in_soak


@contextmanager
def answer_lost(lab: Lab, mark: bytes) -> Iterator[dict[str, str]]:
    """What leads a program to Prefect so that the answer to its first request with this mark is lost."""
    with RequestProxy(lab.settings.prefect_port, mark=mark, fate="answer lost") as proxy:
        yield {"OPS_PREFECT_PORT": str(proxy.port)}
        assert proxy.reached.is_set(), "no such request was made"


def test_approval_whose_answer_was_lost_holds_and_the_next_one_says_so(
    lab: Lab, start: Start, client: SyncPrefectClient
) -> None:
    run = start("asking", odoo_db="unheard")
    wait_asking(lab, run)
    with lane_closed(client):
        with answer_lost(lab, b"with `ops approve`") as extra:
            assert "does not answer" in ops(lab, "approve", str(run), code=3, extra=extra)
        said = ops(lab, "approve", str(run), code=2)
        assert f"is not waiting for approval: Resuming in Prefect, approved by {account()} with `ops approve`" in said
    assert lab.wait_status(run, "succeeded")["attempt"] == 2
    said = ops(lab, "approve", str(run), code=2)
    assert f"is not waiting for approval: Completed in Prefect, approved by {account()} with `ops approve`" in said
    assert in_prefect(client, run).count("Resuming") == 1
    assert done(lab, run) == AFTER


@pytest.mark.parametrize("options", [["--from-failed"], *in_soak([[]])])
def test_retry_whose_answer_was_lost_is_one_attempt(
    lab: Lab, start: Start, client: SyncPrefectClient, tmp_path: Path, options: list[str]
) -> None:
    broken = failing(tmp_path / "stop", "deploy")
    run = start("asking", odoo_db=f"unheard{len(options)}", seconds=0, fail_at=str(tmp_path / "stop"))
    lab.wait_status(run, "failed")
    hang = failing(tmp_path / "stop", "hang.deploy")
    broken.unlink()
    with answer_lost(lab, b"with `ops retry`") as extra:
        assert "does not answer" in ops(lab, "retry", str(run), *options, code=3, extra=extra)
    lab.wait_effect(run, "deploy", attempt=2)
    assert "not over" in ops(lab, "retry", str(run), *options, code=2)
    hang.unlink()
    assert lab.wait_status(run, "succeeded")["attempt"] == 2
    wanted = "Resuming" if options else "AwaitingRetry"
    assert in_prefect(client, run).count(wanted) == 1
    assert "succeeded" in ops(lab, "retry", str(run), *options, code=2)
    again = ["deploy/2", "tell/2"] if options else ["prepare/2", "build/2", "deploy/2", "tell/2"]
    assert done(lab, run) == [*BEFORE, "deploy/1", *again]


def test_run_that_died_is_begun_anew_once_when_the_sync_hears_no_answer(lab: Lab, start: Start) -> None:
    lab.kill("sync")
    with answer_lost(lab, b"its processes are gone") as extra:
        lab.start("sync", extra=extra)
        run = start("repeatable", seconds=2)
        lab.wait_effect(run, "begin")
        os.kill(lab.run_process(run), signal.SIGKILL)
        lab.wait_effect(run, "begin", attempt=2)
        assert lab.wait_status(run, "succeeded", seconds=60)["attempt"] == 2
    assert {effect.attempt for effect in lab.effects(run)} == {1, 2}
    lab.kill("sync")
