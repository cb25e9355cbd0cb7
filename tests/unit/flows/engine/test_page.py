"""The page of a run: what is sent of it, in which order, and what becomes of it while Prefect does not answer."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import pytest
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES

from flows.engine import page as page_module
from flows.engine.page import Page, PageLimits
from flows.engine.page_artifacts import Artifact
from tests.support.waiting import wait_for

AT = datetime(2026, 1, 2, tzinfo=UTC)


class Prefect:
    """Takes lines and artifacts as Prefect's server does; `answer` may be another one for a while."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.artifacts: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.answer: Callable[[], int] = lambda: 200
        self._numbers = itertools.count(1)

    def __call__(self, method: str, path: str, **more: Any) -> httpx.Response:
        self.asked.append(f"{method} {path}")
        request = httpx.Request(method, f"http://prefect{path}")
        status = self.answer()
        response = httpx.Response(status, request=request, json=self._done(method, path, more) if status < 400 else {})
        return response.raise_for_status()

    def _done(self, method: str, path: str, more: dict[str, Any]) -> Any:
        if path == "/logs/":
            self.lines += more["json"]
        elif path == "/artifacts/filter":
            return [{"id": key, **one} for key, one in self.artifacts.items()]
        elif method == "POST":
            number = str(next(self._numbers))
            self.artifacts[number] = more["json"]
            return {"id": number}
        elif method == "PATCH":
            self.artifacts[path.rpartition("/")[2]].update(more["json"])
        else:
            del self.artifacts[path.rpartition("/")[2]]
        return {}

    @property
    def messages(self) -> list[str]:
        return [line["message"] for line in self.lines]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "SEND_SECONDS", 0.01)
    monkeypatch.setattr(page_module, "LONGEST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(page_module, "LAST_SECONDS", 0.5)


def test_lines_come_in_order_with_times_that_never_repeat() -> None:
    prefect, run_id = Prefect(), uuid4()
    page = Page(run_id, clock=lambda: AT)
    with page.sent(prefect):
        for number in range(1200):
            page.say(f"line {number}")
    assert prefect.messages == [f"line {number}" for number in range(1200)]
    times = [line["timestamp"] for line in prefect.lines]
    assert times == sorted(set(times))
    assert {line["flow_run_id"] for line in prefect.lines} == {str(run_id)}
    assert prefect.asked.count("POST /logs/") <= 5


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("a\x00b\x1b[31mc\x1b[0m\r", "abc"),
        ("surrogate \ud800", "surrogate ?"),
        ("turned \u202ename", "turned name"),
    ],
)
def test_line_is_harmless(said: str, shown: str) -> None:
    prefect = Prefect()
    page = Page(uuid4())
    with page.sent(prefect):
        page.say(said)
        page.output(said, name="na\x1b[1mme")
    assert prefect.messages == [shown, shown]
    assert prefect.lines[1]["name"] == "name"


def test_huge_line_is_cut() -> None:
    prefect = Prefect()
    page = Page(uuid4())
    with page.sent(prefect):
        page.say("x" * 10_000_000)
    assert len(prefect.messages[0]) < 10_000


@pytest.mark.parametrize("limits", [PageLimits(lines=10), PageLimits(characters=50)])
def test_output_of_a_run_is_bounded_and_lines_about_steps_are_not(limits: PageLimits) -> None:
    prefect = Prefect()
    page = Page(uuid4(), rest="`ops logs 1234`", limits=limits)
    with page.sent(prefect):
        for number in range(100):
            page.output(f"out {number}", name="step")
        page.say("step ends")
    assert prefect.messages[0] == "out 0"
    assert prefect.messages[-2:] == [
        "[no more output of this run is shown here; `ops logs 1234` has more]",
        "step ends",
    ]
    assert len(prefect.messages) <= 11


def test_run_goes_on_while_prefect_is_away_and_its_lines_come_later() -> None:
    prefect = Prefect()
    prefect.answer = lambda: 503
    page = Page(uuid4())
    with page.sent(prefect):
        page.say("one")
        wait_for(lambda: len(prefect.asked) > 2, seconds=10, what="it is tried again")
        page.say("two")
        assert prefect.messages == []
        prefect.answer = lambda: 200
    assert prefect.messages == ["one", "two"]


def test_lines_that_had_no_room_are_counted_and_said() -> None:
    prefect = Prefect()
    prefect.answer = lambda: 503
    page = Page(uuid4(), rest="`ops logs 1234`", limits=PageLimits(waiting=5))
    with page.sent(prefect):
        for number in range(12):
            page.say(f"line {number}")
        prefect.answer = lambda: 200
    wait_for(lambda: len(prefect.messages) == 6, seconds=10, what="all is sent")
    assert prefect.messages[:5] == [f"line {number}" for number in range(5)]
    assert prefect.messages[5] == "[7 lines are missing here: Prefect did not take them; `ops logs 1234` has them]"


def test_what_prefect_refuses_for_good_keeps_nothing_back() -> None:
    prefect = Prefect()
    answers = iter([422])
    prefect.answer = lambda: next(answers, 200)
    page = Page(uuid4())
    page.say("refused")
    with page.sent(prefect):
        page.say("refused as well")
        wait_for(lambda: len(prefect.asked) > 1, seconds=10, what="it was refused")
        page.say("taken")
    assert prefect.messages[-1] == "taken"
    assert any("are missing here" in message for message in prefect.messages)


def test_what_changes_while_a_request_is_under_way_is_sent_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "LAST_SECONDS", 20)
    prefect, page, under_way, go_on = Prefect(), Page(uuid4()), threading.Event(), threading.Event()
    page.artifacts.none_yet()

    def request(method: str, path: str, **more: Any) -> httpx.Response:
        if path == "/logs/":
            under_way.set()
            assert go_on.wait(10)
        return prefect(method, path, **more)

    with page.sent(request):
        page.artifacts.put(Artifact("key", "markdown", "is running"))
        wait_for(lambda: prefect.artifacts, seconds=10, what="it is shown")
        page.say("The run succeeded")
        assert under_way.wait(10)
        page.artifacts.put(Artifact("key", "markdown", "succeeded"))
        threading.Timer(0.1, go_on.set).start()
        began = time.monotonic()
    assert prefect.artifacts["1"]["data"] == "succeeded"
    assert time.monotonic() - began < 5


def test_end_of_a_run_does_not_wait_for_a_prefect_that_hangs() -> None:
    hangs, hung = threading.Event(), threading.Event()

    def request(_method: str, _path: str, **_more: Any) -> httpx.Response:
        hung.set()
        hangs.wait(20)
        raise RuntimeError("the client was closed")

    page = Page(uuid4())
    began = time.monotonic()
    with page.sent(request):
        page.say("one")
        assert hung.wait(10)
    assert time.monotonic() - began < 5
    hangs.set()


def test_saying_never_waits_for_a_prefect_that_hangs() -> None:
    hangs = threading.Event()

    def request(_method: str, _path: str, **_more: Any) -> httpx.Response:
        hangs.wait(20)
        raise RuntimeError("the client was closed")

    page = Page(uuid4())
    with page.sent(request):
        began = time.monotonic()
        for number in range(20_000):
            page.output(f"line {number}", name="step")
        page.artifacts.put(Artifact("key", "markdown", "text"))
        assert time.monotonic() - began < 5
    hangs.set()


def test_closed_client_ends_the_thread() -> None:
    def request(_method: str, _path: str, **_more: Any) -> httpx.Response:
        raise RuntimeError("the client was closed")

    page = Page(uuid4())
    with page.sent(request):
        page.say("one")
    wait_for(lambda: "page" not in [one.name for one in threading.enumerate()], seconds=10, what="its thread ended")


def test_nothing_waits_for_a_thread_that_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "LAST_SECONDS", 20)

    def request(_method: str, _path: str, **_more: Any) -> httpx.Response:
        raise RuntimeError("the client was closed")

    page = Page(uuid4())
    began = time.monotonic()
    with page.sent(request):
        page.say("one")
        wait_for(lambda: "page" not in [one.name for one in threading.enumerate()], seconds=10, what="its thread ended")
        page.settle()
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b"{}", b"7"])
def test_answer_that_is_none_of_prefects_ends_nothing(answer: bytes) -> None:
    prefect = Prefect()
    answers = iter([answer])

    def request(method: str, path: str, **more: Any) -> httpx.Response:
        answered = prefect(method, path, **more)
        if path == "/artifacts/" and (wrong := next(answers, None)) is not None:
            return httpx.Response(200, content=wrong)
        return answered

    page = Page(uuid4())
    page.artifacts.none_yet()
    with page.sent(request):
        page.artifacts.put(Artifact("key", "markdown", "is running"))
        wait_for(lambda: prefect.artifacts, seconds=10, what="it is made")
        page.settle()
        page.artifacts.put(Artifact("key", "markdown", "succeeded"))
    wait_for(lambda: not page.artifacts.unsent, seconds=10, what="it is sent")
    assert [one["data"] for one in prefect.artifacts.values()] == ["succeeded"]


def test_what_is_looked_at_is_shown_while_the_run_goes_on() -> None:
    prefect = Prefect()
    page = Page(uuid4())
    with page.sent(prefect, look=lambda: page.artifacts.put(Artifact("key", "progress", 12.0))):
        wait_for(lambda: prefect.artifacts, seconds=10, what="it is shown")
    assert prefect.artifacts["1"]["data"] == 12.0


def test_prefects_client_does_not_try_again_by_itself() -> None:
    tries: list[int] = []

    def request(_method: str, _path: str, **_more: Any) -> httpx.Response:
        tries.append(PREFECT_CLIENT_MAX_RETRIES.value())
        raise RuntimeError("the client was closed")

    page = Page(uuid4())
    with page.sent(request):
        page.say("one")
    assert tries == [0]
    assert PREFECT_CLIENT_MAX_RETRIES.value() > 0
