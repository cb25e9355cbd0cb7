"""The output of the steps of a run, in the files that the run processes write on their host."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from opsdb.errors import UsageError
from opsdb.runs.lookup import RunDetails
from opsdb.settings import Settings
from opsdb.tables import RunStep, StepStatus

CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class StepLog:
    """One step, and where its output is. `path` is None for a step that runs no shell command."""

    step: RunStep
    path: Path | None

    @property
    def trouble(self) -> str | None:
        """Why the output can not be read, or None."""
        if self.path is None:
            return "no output: this step runs no shell command"
        if not self.path.exists():
            if self.step.status == StepStatus.SKIPPED:
                return "not done again: `--attempt` with an earlier number shows what it wrote"
            if self.step.finished_at is None:
                return "no output yet on this host"
            return f"the file is not on this host, or was deleted as old (OPS_LOG_DAYS): {self.path}"
        return None


def log_path(settings: Settings, run_id: UUID, *, attempt: int, index: int, name: str) -> Path:
    """Where the run process on this host writes the output of a step."""
    return settings.logs / str(run_id) / f"attempt-{attempt}" / f"{index:02d}-{name}.log"


def step_logs(settings: Settings, details: RunDetails, *, attempt: int) -> list[StepLog]:
    """The steps of one attempt with their files: those registered as artifacts, else where this host writes them."""
    found = []
    for step in details.steps_of(attempt):
        here = log_path(settings, details.view.run.id, attempt=attempt, index=step.index, name=step.name)
        registered = [
            Path(artifact.storage_path)
            for artifact in details.artifacts
            if artifact.kind == "file"
            and artifact.storage_path
            and Path(artifact.storage_path).parts[-2:] == (here.parent.name, here.name)
        ]
        path = registered[-1] if registered else here
        # a shell that succeeded has an exit code; an approval has a timeout, and none
        no_shell = step.status in (StepStatus.SUCCEEDED, StepStatus.SUSPENDED) and step.exit_code is None
        no_command = (step.timeout_seconds == 0 or no_shell) and not path.exists()
        found.append(StepLog(step=step, path=None if no_command else path))
    return found


class Tail:
    """What was already printed of one file."""

    def __init__(self, log: StepLog, *, offset: int = 0) -> None:
        self._path = log.path
        self._offset = offset
        self.told = False

    def new(self) -> Iterator[bytes]:
        """What was written since the last call."""
        if self._path is None:
            return
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                for chunk in chunks(file):
                    self._offset += len(chunk)
                    yield chunk
        except OSError:
            return


def chunks(file: BinaryIO) -> Iterator[bytes]:
    """The rest of a file."""
    while chunk := file.read(CHUNK_BYTES):
        yield chunk


def open_log(log: StepLog) -> BinaryIO:
    """The file of a step. Raises UsageError."""
    try:
        return (log.path or Path()).open("rb")
    except OSError as error:
        raise UsageError(f"{log.path} cannot be read: {error.strerror}") from error
