"""What the fields of a block's form may hold, and the parameters of runbooks that are of the same kind."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field


def not_upwards(path: str) -> str:
    """Refuse a path with `..` in it. Raises ValueError."""
    if ".." in path.split("/"):
        raise ValueError("must not hold `..`")
    return path


BlockName = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=100)]
"""As Prefect allows it."""
CheckoutFolder = Annotated[
    str, Field(pattern=r"^/[A-Za-z0-9_][A-Za-z0-9_./-]*$", max_length=1024), AfterValidator(not_upwards)
]
ComposeFile = Annotated[
    str, Field(pattern=r"^/?[A-Za-z0-9_][A-Za-z0-9_./-]*$", max_length=1024), AfterValidator(not_upwards)
]
ComposeService = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
# Without a name and password: an address is recorded and shown.
HealthUrl = Annotated[str, Field(pattern=r"^https?://[A-Za-z0-9.\[\]:-]+(/[A-Za-z0-9._~/-]*)?$", max_length=500)]
SshDestination = Annotated[
    str, Field(pattern=r"^(([A-Za-z_][A-Za-z0-9_.-]{0,31}@)?[A-Za-z0-9][A-Za-z0-9.:-]{0,252})?$", max_length=300)
]
SshPort = Annotated[int, Field(ge=1, le=65535)]
