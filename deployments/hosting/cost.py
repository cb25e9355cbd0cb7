"""What the hosting costs a month: items of the hosting file, added up, and any sum that stands there checked."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from deployments.hosting.values import Values

GUIDE = Path(__file__).parent / "cost.toml"
"""The table of the deployment guide, for a room without one of its own."""

Money = Annotated[Decimal, Field(ge=0, le=1_000_000, decimal_places=2)]
Words = Annotated[str, Field(min_length=1, max_length=80)]


class CostItem(Values):
    """A line of the table. A `monthly` that is stated must be `count` times `each`."""

    component: Words = Field(description="What is paid for.")
    service: Words = Field(description="Whose service it is.")
    size: str = Field("", max_length=80, description="Which size of it.")
    count: int = Field(1, ge=0, le=10_000, description="How many of them.")
    each: Money = Field(description="Price of one for a month.")
    monthly: Money | None = Field(None, description="Price of all for a month, where it is stated.")

    @property
    def sum(self) -> Decimal:
        """The price of all for a month."""
        return self.count * self.each

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if self.monthly is not None and self.monthly != self.sum:
            raise ValueError(
                f"{self.component}: monthly is {self.monthly}, but {self.count} x {self.each} = {self.sum}"
            )
        return self


class CostValues(Values):
    """The table. A `total` that is stated must be the sum."""

    currency: str = Field("USD", pattern=r"^[A-Z]{3}$", description="Currency of all prices.")
    items: tuple[CostItem, ...] = Field(min_length=1, description="What is paid for.")
    total: Money | None = Field(None, description="Sum for a month, where it is stated.")
    compared_with: str = Field("", max_length=80, description="What would be paid for otherwise.")
    compared_monthly: Money | None = Field(None, gt=0, description="Its price for a month.")

    @property
    def sum(self) -> Decimal:
        """The price of everything for a month."""
        return sum((item.sum for item in self.items), Decimal(0))

    @property
    def saved(self) -> Decimal | None:
        """What is saved each month beside what it is compared with; below 0 it costs more."""
        return None if self.compared_monthly is None else self.compared_monthly - self.sum

    @property
    def saved_percent(self) -> int | None:
        """The same in percent of that price, rounded."""
        if self.saved is None or self.compared_monthly is None:
            return None
        return int((100 * self.saved / self.compared_monthly).quantize(Decimal(1), ROUND_HALF_UP))

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if self.total is not None and self.total != self.sum:
            raise ValueError(f"total is {self.total}, but the items add up to {self.sum}")
        return self
