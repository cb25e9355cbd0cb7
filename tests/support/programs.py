"""What some tests need of the host. A test without it is skipped with the reason, but fails in CI."""

from __future__ import annotations

import os
import shutil

import pytest

needs_root = pytest.mark.skipif(
    os.geteuid() != 0 and not os.environ.get("CI"),  # in CI a gap would go unnoticed: there the tests fail instead
    reason="needs root: it mounts a disk, becomes another user, or logs in as root over SSH",
)


def program(name: str, *, package: str) -> str:
    """The path of a program. Without it the test is skipped, but not in CI, where it would go unnoticed."""
    found = shutil.which(name)
    if found is None:
        missing = f"{name} is missing: apt-get install {package}"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return found
