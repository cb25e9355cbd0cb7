"""Which runs a person means: since when, and what they are about."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, or_, select, text
from sqlmodel import col

from opsdb.storable import storable
from opsdb.tables import Run

_STAMP = r"_[0-9]{8}T[0-9]{6}Z"
"""What follows the database in the name of a backup's file."""
_NAMED = "jsonb_path_exists(ops.runs.params, CAST(:concerns_path AS jsonpath))"


def created_since(since: timedelta | datetime) -> ColumnElement[bool]:
    """Whether a run was asked for since then; a length of time counts back from the database's now."""
    if isinstance(since, datetime):
        return col(Run.created_at) >= since
    return col(Run.created_at) >= func.clock_timestamp() - since


def newest_first() -> tuple[ColumnElement[Any], ...]:
    """The order of runs for whoever means the newest one: those that are planned for the future come last."""
    return col(Run.created_at) > func.clock_timestamp(), col(Run.created_at).desc(), col(Run.id).desc()


def concerns(name: str) -> ColumnElement[bool]:
    """Whether a run is about a database, a host or whatever else has that name, whichever parameter names it.

    It is when a parameter is that name, or a list or an object that holds it, when a parameter is the file of a backup
    of that database, and when the run holds that resource.
    """
    name = storable(name)
    a_file = json.dumps(f"^{re.escape(name)}{_STAMP}")
    path = f'$.** ? (@ == {json.dumps(name)} || (@.type() == "string" && @ like_regex {a_file}))'
    named = text(_NAMED).bindparams(concerns_path=path)
    return or_(named, func.split_part(col(Run.resource), ":", 2) == name)


def any_run_concerns(db: Connection, name: str) -> bool:
    """Whether a run that is recorded is about what has that name, as `concerns` says."""
    return bool(db.scalar(select(select(Run).where(concerns(name)).exists())))
