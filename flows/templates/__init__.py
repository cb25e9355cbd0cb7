"""The runbooks of template files, each an attribute with the name of its kind: `flows.templates.disk_space`.

The files are looked for when the attribute is asked for: here, and in the folder of OPS_TEMPLATES.
"""

from typing import Any as _Any

from flows.template import catalogue as _catalogue
from flows.template import run as _run
from opsdb import settings as _settings


def __getattr__(kind: str) -> _Any:
    if kind.startswith("_"):
        raise AttributeError(kind)
    read = _catalogue.find(kind, _settings.load_settings())
    if read is None:
        raise AttributeError(f"no template file has the kind {kind!r}")
    return _run.runbook_of(read)
