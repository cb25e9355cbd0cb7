"""The page of a run in Prefect's UI: lines and artifacts, sent by a thread beside the run.

The run never waits for it, and nothing that goes wrong with it harms one: what Prefect does not take is counted, and
the page says so.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx

from flows.engine.page_artifacts import REFUSED, Artifacts, Requests
from flows.shell.output import printable

if TYPE_CHECKING:
    from prefect.context import SettingsContext

log = logging.getLogger(__name__)

SEND_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 15.0
"""Between two tries while Prefect does not answer."""
LAST_SECONDS = 5.0
"""How long the end of a run waits for what was not sent yet."""
BATCH_LINES = 500
LINE_BYTES = 8192
"""Of one line: those of steps are shorter, and say so where they were cut."""
STEP = "ops.step"
"""The logger that lines about steps and runs name."""


@dataclass(frozen=True, slots=True)
class PageLimits:
    """How much of the output of all steps of an attempt is shown, and how much waits for a Prefect that is away."""

    lines: int = 5000
    characters: int = 2 * 1024 * 1024
    waiting: int = 7000
    """Lines, those about steps among them."""


class Page:
    """What a run shows. Until it is `sent` nothing leaves this process, and that is bounded, too."""

    def __init__(
        self,
        run_id: UUID | None = None,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        rest: str = "`ops logs`",
        limits: PageLimits = PageLimits(),
    ) -> None:
        """`rest` says where the whole output is; `clock` is that of Prefect's server, as far as it is known."""
        self.artifacts = Artifacts(run_id)
        self._run_id = run_id
        self.clock = clock
        self._rest = rest
        self._limits = limits
        self._lines_left = limits.lines
        self._characters_left = limits.characters
        self._waiting: deque[dict[str, Any]] = deque()
        self._lost = 0
        self._latest = datetime.min.replace(tzinfo=UTC)
        self._adding = threading.Lock()
        self._over = threading.Event()
        self._awaited = threading.Event()
        self._settled = threading.Event()
        self._ended = threading.Event()

    def say(self, text: str, *, level: int = logging.INFO) -> None:
        """Show a line about a step or the run, however much was shown before."""
        self._add(text, level=level, name=STEP)

    def output(self, text: str, *, level: int = logging.INFO, name: str, task_run_id: str | None = None) -> None:
        """Show what a step or the runbook's own code wrote, while there is room in this attempt."""
        if self._lines_left <= 0:
            return
        self._lines_left -= 1
        self._characters_left -= len(text)
        if self._lines_left > 0 and self._characters_left > 0:
            self._add(text, level=level, name=name, task_run_id=task_run_id)
            return
        self._lines_left = 0
        self._add(f"[no more output of this run is shown here; {self._rest} has more]", level=level, name=STEP)

    @contextmanager
    def sent(self, request: Requests, *, look: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Send what is shown until the end of the block; what Prefect does not take by then while the process lives.

        `look` is called before, to show what is to be seen of the run at that moment.
        """
        # the settings of this context: how Prefect's client asks
        thread = threading.Thread(
            target=copy_context().run, args=(self._send_and_end, request, look), name="page", daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            self.settle()
            self._awaited.set()  # nothing may be left: it ends at once then

    def settle(self) -> None:
        """Return when all is sent, when Prefect did not take it, or after LAST_SECONDS; at once when nothing sends."""
        if self._unsent:
            self._settled.clear()
            self._awaited.set()
            if not self._ended.is_set():
                self._settled.wait(LAST_SECONDS)

    @property
    def _unsent(self) -> bool:
        return bool(self._waiting) or self.artifacts.unsent

    def _add(self, text: str, *, level: int, name: str, task_run_id: str | None = None) -> None:
        with self._adding:
            if len(self._waiting) >= self._limits.waiting:
                self._lost += 1
                return
            # lines are shown by their times alone
            self._latest = max(self.clock(), self._latest + timedelta(microseconds=1))
            line = {
                "name": printable(name.encode(errors="replace"))[:100] or STEP,
                "level": level,
                "message": printable(text.encode(errors="replace"), line_bytes=LINE_BYTES),
                "timestamp": self._latest.isoformat(),
                "flow_run_id": str(self._run_id),
            }
            self._waiting.append(line | ({"task_run_id": task_run_id} if task_run_id else {}))

    def _send_and_end(self, request: Requests, look: Callable[[], None]) -> None:
        try:
            self._keep_sending(request, look)
        finally:
            self._ended.set()
            self._settled.set()

    def _keep_sending(self, request: Requests, look: Callable[[], None]) -> None:
        pause = SEND_SECONDS
        with _without_retries():  # what is asked here is asked again by itself
            while True:
                if awaited := self._awaited.wait(pause):
                    self._awaited.clear()
                try:
                    if not self._over.is_set():
                        look()
                    sent = self._try_to_send(request, at_once=awaited)
                except RuntimeError:  # the client was closed: Prefect's engine is done with the run
                    return
                finally:
                    if awaited:
                        self._settled.set()
                if sent and self._over.is_set() and not self._unsent:
                    return
                pause = SEND_SECONDS if sent else min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _try_to_send(self, request: Requests, *, at_once: bool) -> bool:
        """Send what waits. Returns whether Prefect took it, or refused it for good."""
        try:
            while self._waiting:
                self._send_lines(request)
            self.artifacts.send(request, at_once=at_once)
        except (
            httpx.HTTPError,
            ValueError,
            KeyError,
            TypeError,
        ) as error:  # the last ones for an answer of another kind
            log.debug("the page of run %s: %s", self._run_id, error)
            return False
        return True

    def _send_lines(self, request: Requests) -> None:
        """Send the first of those that wait. What Prefect refuses for good is lost, and counted."""
        batch = [self._waiting[number] for number in range(min(BATCH_LINES, len(self._waiting)))]
        try:
            request("POST", "/logs/", json=batch)
        except httpx.HTTPStatusError as error:
            if error.response.status_code not in REFUSED:
                raise
            self._lost += len(batch)
        for _ in batch:
            self._waiting.popleft()
        if self._lost and len(self._waiting) < self._limits.waiting:
            lost, self._lost = self._lost, 0
            self._add(
                f"[{lost:,} lines are missing here: Prefect did not take them; {self._rest} has them]",
                level=logging.WARNING,
                name=STEP,
            )


def _without_retries() -> SettingsContext:
    """Prefect's settings but for the retries of its client. `temporary_settings` takes 30 ms: half of a short run."""
    from prefect.context import SettingsContext, get_settings_context  # commands that see no run say first where it is

    now = get_settings_context()
    client = now.settings.client.model_copy(update={"max_retries": 0})
    return SettingsContext(profile=now.profile, settings=now.settings.model_copy(update={"client": client}))
