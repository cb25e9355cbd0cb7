"""Write to Prefect's server what the room needs there: lanes, deployments and types of blocks.

What does not differ is not touched: Prefect deletes the planned runs of a deployment that is written, and plans new
ones. `prefect deploy --all` writes the same deployments, with the commit as version, but takes 15 seconds longer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any
from uuid import uuid4

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectNotFound
from prefect.utilities.callables import parameter_schema

from blocks.block_types import register_block_types
from deployments.server.apply import Outcome, apply_deployments
from deployments.server.client import pages
from deployments.server.code import digest_of_code
from deployments.server.declared import (
    QUEUES,
    TAGS,
    FileDeployment,
    Loaded,
    deployments_of,
    load_deployments,
)
from deployments.server.form import NOTHING_KNOWN, Offers
from deployments.server.renames import rename_deployments
from deployments.server.schedules import apply_declared_rules
from deployments.server.switched_off import name_switched_off, remove_switched_off
from deployments.worker.lane_worker import BASE_JOB_TEMPLATE, LaneWorker
from opsdb.database import connect, reachable, writing
from opsdb.deployed import read_deployed, write_deployed
from opsdb.errors import OpsError, RoomUnreachableError, UsageError
from opsdb.kinds import runbook_files as own
from opsdb.kinds.deployed_code import note_code
from opsdb.kinds.kinds import switched_off
from opsdb.kinds.names import current_full_name, deployment_name
from opsdb.kinds.subjects import subject_of, write_subjects
from opsdb.kinds.template_files import PACKAGE
from opsdb.migrate import check_migrated
from opsdb.near_names import did_you_mean
from opsdb.runs.prefect_runs import RUNBOOK_TAG
from opsdb.setting_sources import SETTLED
from opsdb.settings import Settings
from opsdb.tables import Lane


def deploy_everything(
    settings: Settings,
    *,
    files: Collection[FileDeployment],
    all_read: bool,
    say: Callable[[str], None],
    offers: Offers = NOTHING_KNOWN,
    reset: Collection[str] = (),
) -> list[str]:
    """Make or update the lanes, the deployments and the types of blocks. Repeating it changes nothing.

    Deployments of `files` that are gone are removed, if `all_read`: else a file could not be read, and what it was
    is not known. `offers` is what the forms name. What somebody set in Prefect stays and is named, but for the
    deployments in `reset`. Deployments of kinds that are switched off are removed by the room itself alone: elsewhere
    the environment may lack what switches them on. Returns a line for each runbook that cannot be loaded: what is
    deployed of it stays.

    Raises RoomUnreachableError when Prefect's API or the ops database does not answer, and OpsError: before anything
    is written when it is prefect.yaml that is wrong, or a name in `reset`.
    """
    off = switched_off(settings)
    loaded, broken = load_deployments(settings.prefect_yaml, files, without=off)
    reset = [current_full_name(name) for name in reset]
    _check_names(reset, [one.declared.full_name for one in loaded])
    check_migrated(settings)  # before workers execute the code that needs it
    with suppress(OSError):  # on a full disk they keep what they have loaded
        note_code(settings, digest_of_code(settings) or str(uuid4()))
    try:
        with get_client(sync_client=True) as client:
            for lane in Lane:
                _apply_lane(client, lane, limit=settings.lane_limit)
                say(f"lane {lane}: {settings.lane_limit} runs at once")
            outcome = _apply_and_note(client, loaded, settings, offers=offers, reset=reset, say=say)
            of_room = bool(os.environ.get(SETTLED))
            for line in remove_switched_off(client, settings, off) if of_room else name_switched_off(client, off):
                say(line)
            if all_read:
                for line in _remove_others(client, files):
                    say(line)
            _note_subjects(settings, loaded, keep=bool(broken) or not (all_read and of_room))
            apply_declared_rules(client, settings, [one.declared for one in loaded])
        slugs = register_block_types()
    except httpx.HTTPStatusError as error:
        raise OpsError(f"Prefect refused the lanes or schedules: {str(error)[:1000]}") from error
    except httpx.HTTPError as error:
        raise RoomUnreachableError(f"Prefect's API does not answer ({error}): `ops status` shows what runs") from error
    for kept in outcome.kept:
        say(str(kept))
    as_they_were = len(loaded) - len(outcome.written)
    say(f"deployments: {len(outcome.written)} written, {as_they_were} as they were before")
    for package, word in ((PACKAGE, "templates"), (own.PACKAGE, "own runbooks")):
        say(f"{word}: {', '.join(sorted(one.kind for one in files if one.package == package)) or 'none'}")
    say(f"block types registered: {', '.join(slugs)}")
    return broken


def _check_names(names: Collection[str], known: list[str]) -> None:
    """Raises UsageError for a name that no deployment has."""
    for name in names:
        if name not in known:
            meant = did_you_mean(name, known, alike=0.4)
            raise UsageError(f"--reset: there is no deployment {name!r}.{meant} There are: {', '.join(sorted(known))}")


def _apply_and_note(
    client: SyncPrefectClient,
    loaded: Collection[Loaded],
    settings: Settings,
    *,
    offers: Offers,
    reset: Collection[str],
    say: Callable[[str], None],
) -> Outcome:
    """Apply the deployments under their present names, and note of each what was applied as soon as it is."""
    engine = connect(settings, application="deploy")
    try:
        with reachable(), engine.connect() as db:

            def note(name: str, values: dict[str, Any]) -> None:
                write_deployed(db, name, values)
                db.commit()

            for line in rename_deployments(settings, db, known=read_deployed(db).keys()):
                say(line)
            last = read_deployed(db)
            db.commit()
            return apply_deployments(client, loaded, last=last, applied=note, offers=offers, reset=reset)
    finally:
        engine.dispose()


def _note_subjects(settings: Settings, loaded: Collection[Loaded], *, keep: bool) -> None:
    """Note what runs are called; `keep` that of kinds that are not loaded."""
    subjects = {
        kind: subject_of(kind, getattr(flow.fn, "subject", None), parameter_schema(flow).model_dump(exclude_unset=True))
        for kind, flow in {one.declared.kind: one.flow for one in loaded}.items()
    }
    with writing(settings, application="deploy") as db:
        write_subjects(db, subjects, keep=keep)


def _apply_lane(client: SyncPrefectClient, lane: Lane, *, limit: int) -> None:
    description = f"Lane {lane} of the Ops Control Room. `ops deploy` writes its settings."
    settings: dict[str, Any] = {
        "description": description,
        "concurrency_limit": limit,
        "base_job_template": BASE_JOB_TEMPLATE,
    }
    try:
        pool = client.read_work_pool(lane.pool)
        if pool.model_dump(include=set(settings)) != settings:
            client.update_work_pool(lane.pool, WorkPoolUpdate(**settings))
    except ObjectNotFound:
        client.create_work_pool(WorkPoolCreate(name=lane.pool, type=LaneWorker.type, **settings))
    queues = {queue.name: queue for queue in client.read_work_queues(work_pool_name=lane.pool)}
    for number, name in enumerate(QUEUES, start=1):
        queue = queues.get(name) or client.create_work_queue(name, work_pool_name=lane.pool)
        if queue.priority != number:
            client.update_work_queue(queue.id, priority=number)


def _remove_others(client: SyncPrefectClient, files: Collection[FileDeployment]) -> list[str]:
    """Remove the deployments of files that no longer are there, and of lanes that a template no longer names.

    Those that somebody made beside them stay while the file does. Returns a line for each.
    """
    kept = {(one.package, one.kind, str(entry["name"])) for one in files for entry in deployments_of(one)}
    kinds = {(one.package, one.kind) for one in files}
    removed = []
    for deployment in list(pages(client.read_deployments)):
        package, _, kind = (deployment.entrypoint or "").rpartition(".")
        ours = package in TAGS and {RUNBOOK_TAG, TAGS[package]} <= set(deployment.tags)
        of_lane = deployment.name in [deployment_name(kind, lane.pool) for lane in Lane]
        gone = (package, kind, deployment.name) not in kept and (of_lane or (package, kind) not in kinds)
        if ours and gone:
            with suppress(ObjectNotFound):  # somebody was first
                client.delete_deployment(deployment.id)
            why = "its template is gone, or no longer for its lane" if package == PACKAGE else "its runbook is gone"
            removed.append(f"{kind}/{deployment.name} removed: {why}")
    return removed
