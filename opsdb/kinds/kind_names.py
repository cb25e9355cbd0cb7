"""Which words name a runbook, for settings that choose by runbook: those that are here, and those that were.

A runbook that was taken away must not stop a room whose settings still name it; a name that never was one is an error.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass

import yaml

from opsdb.kinds.kinds import known_kinds
from opsdb.kinds.template_files import template_files
from opsdb.private_files import replace_private
from opsdb.settings import Settings

log = logging.getLogger(__name__)

FILE = "kinds-known.json"


@dataclass(frozen=True, kw_only=True)
class KindNames:
    """The names of runbooks as this room knows them."""

    here: frozenset[str]
    """What it executes."""
    before: frozenset[str] = frozenset()
    """What it executed at some time."""
    complete: bool = True
    """False while prefect.yaml or a template cannot be read: then any word may be a name."""

    @property
    def named(self) -> frozenset[str]:
        """What is, or was, the name of a runbook."""
        return self.here | self.before

    def accept(self, word: str) -> bool:
        """Whether the word is, was, or may be the name of a runbook."""
        return not self.complete or word in self.named


def read_kind_names(settings: Settings) -> KindNames:
    """The names that prefect.yaml, the templates and the memory of this OPS_HOME have. Never raises."""
    before = _read_memory(settings)
    try:
        here = frozenset(known_kinds(settings))
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return KindNames(here=frozenset(), before=before, complete=False)
    complete = all(file.kind is not None for file in template_files(settings))
    return KindNames(here=here, before=before, complete=complete)


def remember_kinds(settings: Settings) -> None:
    """Keep the names that are here now, for the time when one of them is not. Never raises."""
    names = read_kind_names(settings)
    if names.here <= names.before:
        return  # also where nothing can be read
    try:
        settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_private(settings.home / FILE, json.dumps(sorted(names.named)))
    except OSError as error:
        log.warning("%s: %s; a runbook that is taken away is then unknown", settings.home / FILE, error.strerror)


def _read_memory(settings: Settings) -> frozenset[str]:
    try:
        kept = json.loads((settings.home / FILE).read_text())
    except (OSError, ValueError):
        return frozenset()
    return frozenset(name for name in kept if isinstance(name, str)) if isinstance(kept, list) else frozenset()
