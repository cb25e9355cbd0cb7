"""What a template may say of its schedule: when the room runs it by itself."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Self

from prefect.client.schemas.schedules import CronSchedule
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
    model_validator,
)

from flows.template.words import check_parameter_name
from opsdb.schedules.blackouts import read_blackout
from opsdb.schedules.catch_up import read_catch_up
from opsdb.schedules.cron_words import FIVE_FIELDS, check_cron, cron_of, days_field, minute_and_hour
from opsdb.schedules.zones import read_zone


def _as_written(read: Callable[[str], object]) -> AfterValidator:
    """A check of a text that is kept as it was written. `read` raises ValueError."""

    def check(text: str) -> str:
        read(text)
        return text

    return AfterValidator(check)


def _read_cron(text: str) -> CronSchedule:
    check_cron(text)
    try:
        return CronSchedule(cron=text)
    except ValidationError:
        raise ValueError(f"{text[:60]!r} is not a cron: {FIVE_FIELDS}") from None


class TemplateSchedule(BaseModel):
    """When the room runs the template by itself: `at` a time on some `days`, or by a `cron`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: Annotated[StrictStr, _as_written(minute_and_hour)] | None = Field(
        None, description="Time of the day, as in `03:30`."
    )
    days: Annotated[StrictStr, _as_written(days_field)] | None = Field(
        None, description="`daily`, which is the default, `weekdays`, `weekends`, or days as in `sun,wed`."
    )
    cron: Annotated[StrictStr, _as_written(_read_cron)] | None = Field(
        None, description="Instead of `at`: five fields, as in `0 */6 * * *`."
    )
    timezone: Annotated[StrictStr, _as_written(read_zone)] = Field(
        "UTC", description="Whose clocks it follows, as in `Europe/Rome`."
    )
    parameters: dict[
        Annotated[str, AfterValidator(check_parameter_name)],
        StrictBool | StrictInt | StrictFloat | StrictStr | list[StrictStr],
    ] = Field(default_factory=dict, description="What its runs are started with: all that has no default, at least.")
    catch_up: Annotated[StrictStr, _as_written(read_catch_up)] | None = Field(
        None,
        description="What becomes of a run that cannot begin within 5 minutes: `skip`, `once within 2h`, which is the "
        "default, or `all`.",
    )
    blackouts: list[Annotated[StrictStr, _as_written(read_blackout)]] | None = Field(
        None,
        max_length=50,
        description="When nothing starts, by the clocks of `timezone`: `2026-12-24 18:00 to 2026-12-27 06:00`, "
        "`Fri 18:00 to Mon 06:00`, `daily 08:00 to 18:00`.",
    )
    active: StrictBool | None = Field(
        None, description="False deploys it paused. A pause that somebody sets stays, whatever the file says."
    )

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.at is None) == (self.cron is None):
            raise ValueError("expected either `at` or `cron`")
        if self.days is not None and self.at is None:
            raise ValueError("`days` belongs to `at`: a cron names its days itself")
        return self

    @property
    def entry(self) -> dict[str, Any]:
        """As an entry of `schedules` in prefect.yaml, without its slug."""
        cron = self.cron or cron_of(self.at or "", self.days or "daily")
        return {"cron": cron, "timezone": self.timezone, "parameters": self.parameters, "active": self.active}

    @property
    def rules(self) -> dict[str, Any]:
        """As an entry of `schedule_rules` in prefect.yaml."""
        return {"catch_up": self.catch_up, "blackouts": self.blackouts}

    def check_that_it_fires(self) -> None:
        """Raises ImpossibleScheduleError for a cron that names days that do not exist."""
        from opsdb.schedules.fires import next_fire  # Prefect's server, which no run needs

        next_fire(CronSchedule(cron=self.entry["cron"], timezone=self.timezone), after=datetime.now(UTC))
