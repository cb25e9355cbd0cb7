"""The keys of a run's artifacts: those of one subject have one key, and different subjects different ones.

Prefect allows lower-case letters, digits and dashes. So what a database, a host or a kind may be called has to be
written with less.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from opsdb.kinds.subjects import SECRET_LIKE

_PLAIN = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)*")
_LONGEST = 100
STEPS = "--steps"
PROGRESS = "--progress"


SUBJECTS: dict[str, tuple[str, str | None]] = {
    "nightly_backup": ("nightly-backup", None),
    "odoo_db_backup": ("backup", "odoo_db"),
    "odoo_db_restore": ("restore", "odoo_db"),
    "odoo_fresh_deploy": ("deploy", "droplet_name"),
    "odoo_module_upgrade": ("upgrade", "odoo_db"),
    "odoo_restore_drill": ("drill", "odoo_db"),
    "odoo_staging_copy": ("copy", "odoo_db"),
    "odoo_upgrade_rollback": ("rollback", "odoo_db"),
    "stored_command": ("stored-command", "block"),
}
"""What the key of a kind begins with, and the parameter that names the subject."""


def subject_of(
    kind: str, parameters: Mapping[str, Any], *, exclusive: str | None, named: Iterable[str] = ()
) -> str | None:
    """What a run is about: a template's is the parameter that it has for itself, else the first one of its name, else
    its first one. A parameter that is named like a secret is never used.
    """
    ours = [
        name
        for name in (exclusive, *named, *parameters)
        if name and name in parameters and not SECRET_LIKE.search(name)
    ]
    name = SUBJECTS[kind][1] if kind in SUBJECTS else next(iter(ours), None)
    value = parameters.get(name) if name else None
    return None if value is None else str(value)


def artifact_key(kind: str, subject: str | None) -> str:
    """The key of the runs of a kind on a subject: `backup-odoo-prod`, and `disk-space--data` for a template.

    What cannot be read back out of its key, or would be the key of something else, gets a hash behind it.
    """
    word = SUBJECTS[kind][0] if kind in SUBJECTS else None
    joined = ("-" if word else "--").join(part.replace("_", "-") for part in (word or kind, subject) if part)
    plain = (
        f"--{subject}" not in (STEPS, PROGRESS)
        and _PLAIN.fullmatch(subject or "none")
        and (word or _PLAIN.fullmatch(kind))
        and len(joined) <= _LONGEST
    )
    if plain and (word or not _begins_like_ours(kind)):
        return joined
    readable = "-".join(re.findall("[a-z0-9]+", joined.lower()))[:_LONGEST]
    whole = hashlib.sha256("\0".join([kind, subject or ""]).encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{readable}-{whole}".strip("-")


def _begins_like_ours(kind: str) -> bool:
    return any(kind.replace("_", "-").startswith(word) for word, _ in SUBJECTS.values())
