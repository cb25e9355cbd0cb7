"""What a runbook's code logs stands on the page; what Prefect's engine says, and tracebacks, do not."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from prefect import flow_engine
from prefect.logging.loggers import get_logger

from flows.engine.page import Page
from flows.engine.run_logger import LOGGERS, logging_to
from tests.unit.flows.engine.test_page import Prefect


@contextmanager
def inherited(level: int) -> Iterator[None]:
    """Prefect's loggers at this level, as the worker has them."""
    logger = logging.getLogger("prefect")
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)


def test_logger_of_a_run_writes_to_the_page_at_info_whatever_prefect_inherits() -> None:
    prefect = Prefect()
    page = Page(uuid4())
    before = [(one.handlers, one.level, one.propagate) for one in map(logging.getLogger, LOGGERS)]
    with inherited(logging.WARNING), page.sent(prefect), logging_to(page):
        get_logger("prefect.flow_runs").info("of the %s", "runbook")
        get_logger("prefect.task_runs").info("of a step", extra={"task_run_name": "pg_dump", "task_run_id": "7"})
        get_logger("prefect.flow_runs").debug("too much")
        get_logger("prefect.flow_runs").info("%d does not fit", "this")
        get_logger("prefect.flow_runs").error("it failed", exc_info=ValueError("wrong"))
    assert prefect.messages == ["of the runbook", "of a step", "%d does not fit", "it failed"]
    assert [(line["name"], line.get("task_run_id")) for line in prefect.lines[:2]] == [
        ("prefect.flow_runs", None),
        ("pg_dump", "7"),
    ]
    assert [(one.handlers, one.level, one.propagate) for one in map(logging.getLogger, LOGGERS)] == before


class Unprintable:
    def __str__(self) -> str:
        raise LookupError("no text")


def test_what_cannot_be_said_fails_no_run() -> None:
    prefect = Prefect()
    page = Page(uuid4())
    with page.sent(prefect), logging_to(page):
        get_logger("prefect.flow_runs").info("%(missing)s", {"given": 1})
        get_logger("prefect.flow_runs").info("it is %s", Unprintable())
        get_logger("prefect.flow_runs").info(Unprintable())
    assert prefect.messages == ["%(missing)s", "it is %s"]


def test_library_beside_prefect_is_heard() -> None:
    prefect = Prefect()
    page = Page(uuid4())
    with page.sent(prefect), logging_to(page):
        beside = flow_engine.__file__.replace("/prefect/", "/prefect_shell/")
        fields: dict[str, Any] = {"msg": "PID 7 triggered", "levelno": logging.INFO, "name": LOGGERS[0]}
        logging.getLogger(LOGGERS[0]).handle(logging.makeLogRecord({**fields, "pathname": beside}))
    assert prefect.messages == ["PID 7 triggered"]


def test_engine_of_prefect_is_not_heard() -> None:
    prefect = Prefect()
    page = Page(uuid4())
    with page.sent(prefect), logging_to(page):
        fields: dict[str, Any] = {"msg": "Finished in state Failed()", "levelno": logging.ERROR}
        record = logging.makeLogRecord({**fields, "name": LOGGERS[0], "pathname": flow_engine.__file__})
        logging.getLogger(LOGGERS[0]).handle(record)
    assert prefect.messages == []
