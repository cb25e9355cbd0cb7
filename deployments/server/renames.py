"""Deployments with old names get the present ones, in place: in Prefect's database, since its API cannot rename.

A deployment keeps its id, and with it its schedules, pauses, parameters, limits and runs: nothing is moved, so nothing
is lost, and no due time stands twice. `docs/decisions/0035-names.md` compares this with the other ways.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from opsdb.database import connect_to_prefect, first_line, reachable
from opsdb.deployed import rename_deployed
from opsdb.errors import OpsError
from opsdb.kinds.names import POOLS, current_full_name, current_name
from opsdb.runs.prefect_runs import RUNBOOK_TAG
from opsdb.settings import Settings

FORMER = text("""
SELECT d.id, d.flow_id, f.name AS kind, d.name, d.tags @> jsonb_build_array(CAST(:tag AS text)) AS tagged
FROM public.deployment d JOIN public.flow f ON f.id = d.flow_id
WHERE d.name = ANY(:pools) ORDER BY f.name, d.name FOR UPDATE OF d
""")
NAMES = text("SELECT name FROM public.deployment WHERE flow_id = :flow_id")
RENAME = text("""
UPDATE public.deployment SET name = :now, updated = clock_timestamp() WHERE flow_id = :flow_id AND name = :before
""")


def rename_deployments(settings: Settings, db: Connection, *, known: Collection[str]) -> list[str]:
    """Give the room's deployments their present names, and what `ops deploy` noted of them as well. Returns what to
    say.

    `known` are the full names of those that the room has applied, as `db`, the ops database, has them. Repeating it
    changes nothing; killed at any moment and done again it ends the same. Raises RoomUnreachableError, and OpsError
    when Prefect's database refuses.
    """
    engine = connect_to_prefect(settings, application="deploy")
    try:
        with reachable("Prefect's database"), engine.begin() as prefect:
            said = _rename(prefect, known)
    except DBAPIError as error:
        raise OpsError(f"deployments keep their old names: Prefect's database refuses: {first_line(error)}") from error
    finally:
        engine.dispose()
    rename_deployed(db, {name: current_full_name(name) for name in known if current_full_name(name) != name})
    db.commit()
    return said


def _rename(prefect: Connection, known: Collection[str]) -> list[str]:
    said, renamed = [], []
    for row in prefect.execute(FORMER, {"pools": sorted(POOLS), "tag": RUNBOOK_TAG}).all():
        before, now = row.name, current_name(row.kind, row.name)
        if not row.tagged and f"{row.kind}/{before}" not in known:
            continue  # somebody's own, of a flow that is not a runbook
        there = set(prefect.scalars(NAMES, {"flow_id": row.flow_id}))
        if now in there and f"{row.kind}/{now}" in known:
            said.append(
                f"{row.kind}/{before} was made beside {row.kind}/{now} and stays as it is: runs of it are executed. "
                "Hint: delete it in the Prefect UI when it is not needed"
            )
            continue
        if now in there:
            names = (f"{now}-own{number or ''}" for number in itertools.count())
            free = next(name for name in names if name not in there)
            prefect.execute(RENAME, {"flow_id": row.flow_id, "before": now, "now": free})
            said.append(
                f"{row.kind}/{now} was somebody's own deployment: it is called {row.kind}/{free} now, and keeps its "
                "schedules and runs. Hint: choose another name, or delete it in the Prefect UI"
            )
        prefect.execute(RENAME, {"flow_id": row.flow_id, "before": before, "now": now})
        renamed.append(f"{row.kind}/{before} is {row.kind}/{now}")
    if renamed:
        are = "1 has a new name" if len(renamed) == 1 else f"{len(renamed)} have new names"
        said.append(f"deployments: {are} ({renamed[0]} now); the old names work until the next release")
    return said
