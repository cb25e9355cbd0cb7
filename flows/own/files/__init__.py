"""The Python files of the folder that OPS_RUNBOOKS names, each a module: `flows.own.files.restart_service`."""

from pathlib import Path as _Path

from opsdb.settings import load_settings as _load_settings

_place = _load_settings().runbooks
__path__ = [str(_place)] if isinstance(_place, _Path) else []
