"""What a runbook's code says to Prefect's logger of its run: it stands on the run's page, bounded like all output.

Prefect's own handler would send without bound, wait at the end of a process until Prefect answers, and show each error
with a traceback of ours. Its engine says with each step what the page says already. Levels are set here and not by the
environment, so that they hold wherever a run is executed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import prefect

from flows.engine.page import Page

LOGGERS = ("prefect.flow_runs", "prefect.task_runs")
_ENGINE = f"{Path(prefect.__file__).parent}{os.sep}"  # and not prefect_shell, beside it


class _OnPage(logging.Handler):
    def __init__(self, page: Page) -> None:
        super().__init__()
        self._page = page

    def emit(self, record: logging.LogRecord) -> None:
        if record.pathname.startswith(_ENGINE):
            return
        try:
            self._show(record)
        except Exception:  # what is said of a run must not fail it
            self.handleError(record)

    def _show(self, record: logging.LogRecord) -> None:
        name, task = getattr(record, "task_run_name", None) or record.name, getattr(record, "task_run_id", None)
        try:
            text = record.getMessage()
        except Exception:  # arguments that do not fit the message, whatever they raise
            text = str(record.msg)
        self._page.output(text, level=record.levelno, name=str(name), task_run_id=str(task) if task else None)


@contextmanager
def logging_to(page: Page) -> Iterator[None]:
    """Have Prefect's loggers of runs write to this page, and nowhere else, until the end of the block."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(each.handlers, each.level, each.propagate) for each in loggers]
    for each in loggers:
        each.handlers, each.propagate = [_OnPage(page)], False
        each.setLevel(logging.INFO)
    try:
        yield
    finally:
        for each, (handlers, level, propagate) in zip(loggers, before, strict=True):
            each.handlers, each.propagate = handlers, propagate
            each.setLevel(level)
