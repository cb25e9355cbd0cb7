"""Steps that undo what was done before them, when one of the later ones fails."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from flows.engine.active_run import current_run
from opsdb.errors import StepError


class Undo:
    """What undoes the steps of a `with` block, last first, when the block ends with an error, unless keep() was called.

    A run that is cancelled or killed undoes nothing: who starts again finds what was done.
    """

    def __init__(self, *, left: str) -> None:
        self._left = left
        """What to do when something cannot be undone."""
        self._steps: list[tuple[str, Callable[[], object]]] = []

    def by(self, what: str, work: Callable[[], object]) -> None:
        """Undo what was done by this work, which may raise StepError."""
        self._steps.append((what, work))

    def keep(self) -> None:
        """Undo nothing any more."""
        self._steps.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if error is None or not self._steps:
            return
        if not isinstance(error, Exception):
            begun = ", ".join(what for what, _ in self._steps)
            current_run().event(f"stopped in the middle, after: {begun}. {self._left}", level="error")
            return
        done = []
        for what, work in reversed(self._steps):
            try:
                work()
            except StepError as failed:
                current_run().event(f"not undone: {what}: {failed}. {self._left}", level="error")
                return  # each rests on the one before: Odoo is not started on what does not belong together
            done.append(what)
        current_run().event(f"undone, since a later step failed: {', '.join(done)}", level="warning")
