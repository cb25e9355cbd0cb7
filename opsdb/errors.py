"""Every error that the room raises on purpose. The class docstring is the default message."""

from __future__ import annotations

import inspect

from opsdb.shown import shown_lines


class OpsError(Exception):
    """The room could not do what was asked."""

    def __init__(self, message: str | None = None) -> None:
        """The message may quote anything: it cannot forge a line, or move the cursor, where it is printed."""
        super().__init__(shown_lines(message or inspect.getdoc(type(self)) or ""))


class UsageError(OpsError):
    """The request is wrong as it stands: the message names the input and what would be right."""


class RoomUnreachableError(OpsError):
    """The room is not running here. Start it with `ops up`."""


class DatabaseUnavailableError(RoomUnreachableError):
    """The ops database does not answer."""


class StepError(OpsError):
    """A step did not do its work."""

    def __init__(self, message: str | None = None, *, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class StepFailedError(StepError):
    """The step's command ended with an exit code other than 0."""


class StepTimeoutError(StepError):
    """The step ran longer than its timeout and was stopped."""


class PreflightError(StepError):
    """Something that the runbook needs is missing. Nothing was started."""


class UnknownDatabaseError(PreflightError):
    """The server has no database of that name. A run's record has this as `UnknownDatabase`, which alerts look for."""
