"""Programs of Debian's that some tests run."""

from __future__ import annotations

import os
import shutil

import pytest


def program(name: str, *, package: str) -> str:
    """The path of a program. Without it the test is skipped, but not in CI, where it would go unnoticed."""
    found = shutil.which(name)
    if found is None:
        missing = f"{name} is missing: apt-get install {package}"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return found
