"""The artifacts of a run: made once, written again, found again by the next attempt."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import httpx
import pytest

from flows.engine.page_artifacts import AGAIN_SECONDS, Artifact, Artifacts
from tests.unit.flows.engine.test_page import Prefect

ONE = Artifact("backup-shop", "markdown", "text", "about")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_artifact_is_made_once_and_written_again_only_when_it_changed() -> None:
    prefect, clock = Prefect(), Clock()
    artifacts = Artifacts(uuid4(), clock=clock)
    artifacts.none_yet()
    artifacts.put(ONE)
    artifacts.send(prefect, at_once=False)
    artifacts.send(prefect, at_once=True)
    artifacts.put(replace(ONE, data="more"))
    artifacts.send(prefect, at_once=False)
    assert prefect.asked == ["POST /artifacts/"]  # it is too soon
    clock.now += AGAIN_SECONDS
    artifacts.send(prefect, at_once=False)
    assert prefect.asked[1:] == ["PATCH /artifacts/1"]
    assert prefect.artifacts["1"]["data"] == "more"
    artifacts.put(replace(ONE, data="end"))
    artifacts.send(prefect, at_once=True)
    assert prefect.artifacts["1"]["data"] == "end"
    assert not artifacts.unsent


def test_next_attempt_writes_the_same_artifacts() -> None:
    prefect, run_id = Prefect(), uuid4()
    for text in ("first attempt", "second attempt"):
        artifacts = Artifacts(run_id)
        artifacts.put(replace(ONE, data=text))
        artifacts.send(prefect, at_once=True)
    assert [one["data"] for one in prefect.artifacts.values()] == ["second attempt"]


def test_artifact_whose_answer_was_lost_is_not_made_twice() -> None:
    prefect = Prefect()

    def loses_the_answer(method: str, path: str, **more: object) -> httpx.Response:
        answer = prefect(method, path, **more)
        if (method, path) == ("POST", "/artifacts/"):
            raise httpx.ReadTimeout("")
        return answer

    artifacts = Artifacts(uuid4())
    artifacts.none_yet()
    artifacts.put(ONE)
    with pytest.raises(httpx.ReadTimeout):
        artifacts.send(loses_the_answer, at_once=True)
    assert artifacts.unsent
    artifacts.send(prefect, at_once=True)
    assert len(prefect.artifacts) == 1


def test_artifact_that_somebody_deleted_is_made_again() -> None:
    prefect = Prefect()
    artifacts = Artifacts(uuid4())
    artifacts.put(ONE)
    artifacts.send(prefect, at_once=True)
    prefect.artifacts.clear()
    artifacts.put(replace(ONE, data="more"))
    prefect.answer = lambda: 404
    with pytest.raises(httpx.HTTPStatusError):
        artifacts.send(prefect, at_once=True)
    prefect.answer = lambda: 200
    artifacts.send(prefect, at_once=True)
    assert [one["data"] for one in prefect.artifacts.values()] == ["more"]


def test_artifact_that_is_removed_goes_and_one_that_never_was_is_not_asked_for() -> None:
    prefect = Prefect()
    artifacts = Artifacts(uuid4())
    artifacts.none_yet()
    artifacts.remove("never-there")
    artifacts.put(ONE)
    artifacts.send(prefect, at_once=True)
    artifacts.remove(ONE.key)
    artifacts.send(prefect, at_once=True)
    assert prefect.artifacts == {}
    assert prefect.asked == ["POST /artifacts/", "DELETE /artifacts/1"]


def test_artifact_of_an_earlier_attempt_is_removed_though_this_one_never_made_it() -> None:
    prefect, run_id = Prefect(), uuid4()
    first = Artifacts(run_id)
    first.put(ONE)
    first.send(prefect, at_once=True)
    second = Artifacts(run_id)
    second.remove(ONE.key)
    assert second.unsent
    second.send(prefect, at_once=True)
    assert prefect.artifacts == {}
    assert not second.unsent


def test_artifact_that_prefect_refuses_keeps_no_other_back() -> None:
    prefect = Prefect()
    answers = iter([422])
    prefect.answer = lambda: next(answers, 200)
    artifacts = Artifacts(uuid4())
    artifacts.none_yet()
    artifacts.put(ONE)
    artifacts.put(replace(ONE, key="other"))
    artifacts.send(prefect, at_once=True)
    assert [one["key"] for one in prefect.artifacts.values()] == ["other"]
