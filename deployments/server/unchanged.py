"""Whether a deploy would change nothing: it would read what the last one read, and find in Prefect what that left.

To compare each deployment, Prefect and all runbooks have to be imported, which takes most of a deploy's time. Two
digests say as much. They stand in `OPS_HOME/deployed.json`, which nobody else can write; without it, or when anything
differs, everything is compared.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psycopg

from blocks.form_words import Offer
from deployments.server.api import PrefectApi
from deployments.server.code import digest, digest_of_code
from deployments.server.form import Offers
from opsdb.errors import OpsError
from opsdb.places import FOLDER_PARAMETERS
from opsdb.private_files import read_private, replace_private
from opsdb.settings import Settings

READ = ("work_pools", "work_queues", "flows", "deployments", "block_types", "block_schemas")
PASSING = ("updated", "status", "last_polled", "active_slots")
"""What changes by itself: whether a worker had a heartbeat."""
NOTED = """
SELECT name, settings::text FROM ops.deployed
UNION ALL
SELECT kind, row(subject, defaults)::text FROM ops.kinds
UNION ALL
SELECT schedule_id::text, row(catch_up, blackouts)::text FROM ops.schedule_rules WHERE source = 'declared' ORDER BY 1, 2
"""
"""What a deploy leaves in the ops database."""


@dataclass(frozen=True)
class Deployed:
    """What a deploy read, and what it left in Prefect, as digests, and what it said. Holds no secret."""

    read: str
    left: str
    said: tuple[str, ...] = ()
    databases: tuple[str, ...] | None = None
    """Those that the forms name; None when their server did not answer."""


def same(last: Deployed, now: Deployed) -> bool:
    """Whether a deploy would write nothing. Forms keep the last known databases while their server is away."""
    databases = last.databases if now.databases is None else now.databases
    return replace(last, said=()) == replace(now, said=(), databases=databases)


def look(settings: Settings, api: PrefectApi, offers: Offers) -> Deployed | None:
    """What there is now; None when it cannot be said in short: then everything has to be compared.

    Raises httpx.HTTPError and psycopg.Error.
    """
    read = digest_of_what_is_read(settings)
    found = {name: [_lasting(one) for one in api.read_all(name)] for name in READ}
    if read is None or any(_names_a_folder(one) for one in found["deployments"]):
        return None
    for listed in found.values():
        listed.sort(key=lambda one: str(one.get("id")))
    with psycopg.connect(settings.ops_url, connect_timeout=3, options="-c statement_timeout=3000") as db:
        noted = db.execute(NOTED).fetchall()
    databases = tuple(offers[Offer.DATABASES]) if Offer.DATABASES in offers else None
    return Deployed(read, digest([found, noted]), databases=databases)


def last_deployed(settings: Settings) -> Deployed | None:
    """What the last deploy noted; None when it noted nothing, or nothing that can be trusted."""
    try:
        value = json.loads(read_private(_path(settings)))
        names = value["databases"]
        databases = None if names is None else tuple(map(str, names))
        return Deployed(str(value["read"]), str(value["left"]), tuple(map(str, value["said"])), databases)
    except (OSError, OpsError, ValueError, TypeError, KeyError):
        return None


def note(settings: Settings, deployed: Deployed) -> None:
    """Note it for the next deploy, if the disk takes it."""
    with suppress(OSError):
        replace_private(_path(settings), json.dumps(asdict(deployed)) + "\n")


def _path(settings: Settings) -> Path:
    return settings.home / "deployed.json"


def digest_of_what_is_read(settings: Settings) -> str | None:
    """Of code, packages, prefect.yaml, templates and settings; None when there are too many files to look at."""
    code = digest_of_code(settings)
    secrets = {name for name, field in type(settings).model_fields.items() if "Secret" in str(field.annotation)}
    return None if code is None else digest([code, settings.model_dump(mode="json", exclude=secrets)])


def _lasting(value: dict[str, Any]) -> dict[str, Any]:
    return {name: one for name, one in value.items() if name not in PASSING}


def _names_a_folder(deployment: dict[str, Any]) -> bool:
    """Whether runs are given a folder: whether it is one that they accept can change without any change here."""
    given = [deployment.get("parameters"), *(one.get("parameters") for one in deployment.get("schedules") or [])]
    return any((parameters or {}).get(name) for parameters in given for name in FOLDER_PARAMETERS)
