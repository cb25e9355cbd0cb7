"""Which words name a runbook, for settings that choose by runbook: those that are here, and those that were.

A runbook that was taken away must not stop a room whose settings still name it; a name that never was one is an error.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass

import yaml

from opsdb.kinds.kinds import known_kinds
from opsdb.kinds.runbook_files import runbook_files
from opsdb.kinds.template_files import template_files
from opsdb.private_files import replace_private
from opsdb.settings import Settings

log = logging.getLogger(__name__)

FILE = "kinds-known.json"
_ROOM = "secrets.json"
"""What every OPS_HOME has from the first start of its room on."""


@dataclass(frozen=True, kw_only=True)
class KindNames:
    """The names of runbooks as this room knows them."""

    here: frozenset[str]
    """What it executes."""
    before: frozenset[str] = frozenset()
    """What it executed at some time."""
    complete: bool = True
    """False while prefect.yaml, a template or a runbook elsewhere cannot be read: then any word may be a name."""
    remembered: bool = True
    """False in a room of an earlier version, which kept no names: then any word may be one that was taken away."""

    @property
    def named(self) -> frozenset[str]:
        """What is, or was, the name of a runbook."""
        return self.here | self.before

    @property
    def certain(self) -> bool:
        """Whether a word that is not named here never was the name of a runbook."""
        return self.complete and self.remembered


def read_kind_names(settings: Settings) -> KindNames:
    """The names that prefect.yaml, the files elsewhere and the memory of this OPS_HOME have. Never raises."""
    before = _read_memory(settings)
    remembered = (settings.home / FILE).exists() or not (settings.home / _ROOM).exists()
    try:
        here = frozenset(known_kinds(settings))
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return KindNames(here=frozenset(), before=before, complete=False, remembered=remembered)
    complete = all(file.kind is not None for file in template_files(settings))
    complete = complete and not any(file.error for file in runbook_files(settings))
    return KindNames(here=here, before=before, complete=complete, remembered=remembered)


def remember_kinds(settings: Settings, *, gone: Iterable[str] = ()) -> None:
    """Keep the names that are here now, for the time when one of them is not, and those that are `gone` already.

    Never raises.
    """
    names = read_kind_names(settings)
    known = names.named | set(gone)
    if known <= names.before or not (names.complete or names.remembered):
        return  # also where nothing can be read, and where it cannot be seen yet which names are gone
    try:
        settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_private(settings.home / FILE, json.dumps(sorted(known)))
    except OSError as error:
        log.warning("%s: %s; a runbook that is taken away is then unknown", settings.home / FILE, error.strerror)


def _read_memory(settings: Settings) -> frozenset[str]:
    try:
        kept = json.loads((settings.home / FILE).read_text())
    except (OSError, ValueError):
        return frozenset()
    return frozenset(name for name in kept if isinstance(name, str)) if isinstance(kept, list) else frozenset()
