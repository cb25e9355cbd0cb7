"""The team's own runbooks, each an attribute with the name of its kind: `flows.own_runbooks.restart_service`.

They are looked for when the attribute is asked for: in the folder or package of OPS_RUNBOOKS, and in the packages with
an entry point of the group `ops.runbooks`.
"""

from typing import Any as _Any

from flows.own import catalogue as _catalogue
from opsdb import settings as _settings


def __getattr__(kind: str) -> _Any:
    if kind.startswith("_"):
        raise AttributeError(kind)
    found = _catalogue.find(kind, _settings.load_settings())
    if found is None:
        raise AttributeError(f"no file of OPS_RUNBOOKS and no installed package has the runbook {kind!r}")
    globals()[kind] = found  # what a process has loaded stays, whatever becomes of the file: until `ops deploy`
    return found
