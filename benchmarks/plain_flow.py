"""What a newcomer to Prefect writes: a flow with one command, nothing of the room's, no record in `ops`."""

from __future__ import annotations

import subprocess

from prefect import flow


@flow
def plain() -> None:
    """Run `true`."""
    subprocess.run(["bash", "-euo", "pipefail", "-c", "true"], check=True)  # noqa: S607
