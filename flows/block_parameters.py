"""The parameters that name a Prefect block. Never what is in it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

BlockName = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=100)]
