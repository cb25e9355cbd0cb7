"""A digest of what a deploy reads of code: it says whether runbooks are others than before."""

from __future__ import annotations

import hashlib
import json
import os
import site
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from opsdb.kinds.runbook_files import runbook_sources
from opsdb.kinds.template_files import template_folders
from opsdb.settings import Settings

CODE = Path(__file__).parents[2]
PACKAGES = ("blocks", "cli", "deployments", "flows", "opsdb")
MOST_FILES = 5000


def digest_of_code(settings: Settings) -> str | None:
    """Of code, packages, prefect.yaml, templates and own runbooks; None when there are too many files to look at."""
    folders = {path.resolve() for path in (*(CODE / name for name in PACKAGES), *template_folders(settings))}
    folders |= {path.resolve() for path in runbook_sources(settings)}
    folders.add(settings.prefect_yaml.resolve().parent)  # runbooks may lie beside the file
    files: dict[str, tuple[int, int, int]] = {}
    for folder in sorted(folders):
        for path, found in _files(folder):
            files[path] = (found.st_mtime_ns, found.st_size, found.st_ino)
            if len(files) > MOST_FILES:
                return None
    try:
        yaml = settings.prefect_yaml.read_text()
    except (OSError, ValueError):
        return None
    packages = sorted(name for folder in site.getsitepackages() for name in os.listdir(folder))  # noqa: PTH208
    return digest([sys.version, yaml, packages, files])


def digest(value: Any) -> str:
    """The SHA-256 of a value as JSON, in hex."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _files(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Python files, and whatever may be a template; a link for what it leads to. A folder may be a single file."""
    if folder.is_file():
        yield str(folder), folder.stat()
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "__pycache__"))]
        for name in names:
            if name.endswith((".py", ".json", ".yaml", ".yml")):
                path = os.path.join(where, name)  # noqa: PTH118  # hundreds of them
                try:
                    yield path, os.stat(path)  # noqa: PTH116
                except OSError:
                    continue
