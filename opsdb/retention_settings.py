"""The settings of `ops db prune`: how long, and how much of, what is over stays."""

from __future__ import annotations

from pydantic import BaseModel, Field


class RetentionSettings(BaseModel):
    """How much of the past a room keeps. The figures of metrics and of nights look back 31 days."""

    prune: bool | None = Field(
        None,
        description="Let the room delete once a day what is old, as `ops db prune` does. Default: yes in a room that "
        "was made with this version or a later one, no in an older one.",
    )
    retention_days: int = Field(
        90,
        ge=32,
        le=36500,
        description="Days that a run stays in the record and in Prefect after its end. `docs/retention.md` says what "
        "stays longer.",
    )
    log_days: int = Field(30, ge=1, le=36500, description="Days that the output of a run's steps stays after it.")
    log_bytes: int = Field(
        20_000_000_000, ge=1_000_000, description="Size of the output of all runs, beyond which the oldest goes first."
    )
    event_bytes: int = Field(
        2_000_000_000, ge=1_000_000, description="Size of the events of all runs, beyond which the oldest go first."
    )
