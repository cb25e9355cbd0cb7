"""The schedules of the room as the commands about them have it: Prefect's, with the room's own rules."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun

from cli.deploy import read_files
from deployments.server.client import answering, prefect_client
from deployments.server.declared import DeclaredDeployment, declared_deployments
from deployments.server.schedules import RunbookSchedule, last_ticks, read_schedules
from opsdb.database import clock_ahead
from opsdb.runs.lookup import read_statuses, reading
from opsdb.schedules.store import KnownRules, read_rules
from opsdb.settings import Settings
from opsdb.states import RunStatus


@dataclass(frozen=True, kw_only=True)
class Schedules:
    """All schedules at one moment, `now` by the database's clock."""

    client: SyncPrefectClient
    now: datetime
    all: list[RunbookSchedule]
    rules: dict[UUID, KnownRules]
    declared: list[DeclaredDeployment]
    last: dict[UUID, FlowRun]
    statuses: dict[UUID, RunStatus]

    def rules_of(self, one: RunbookSchedule) -> KnownRules:
        """What is known of a schedule, by the room's own rules."""
        return self.rules.get(one.id, KnownRules())

    def last_of(self, one: RunbookSchedule) -> tuple[FlowRun, str] | None:
        """The newest run of a schedule, with its status; None without a recent run."""
        run = self.last.get(one.id)
        if run is None:
            return None
        in_prefect = run.state.type.value.lower() if run.state else "unknown"
        return run, self.statuses.get(run.id, in_prefect)


@contextmanager
def open_schedules(settings: Settings) -> Iterator[Schedules]:
    """Read the schedules, and keep the connection to Prefect.

    Raises RoomUnreachableError, and OpsError for a prefect.yaml that cannot be read.
    """
    declared = declared_deployments(settings.prefect_yaml, read_files(settings).deployments)
    with prefect_client(settings) as client, answering(client):
        found = read_schedules(client)
        with reading(settings) as db:
            now = datetime.now(UTC) + clock_ahead(db)
            rules = read_rules(db)
            last = last_ticks(client, found, before=now)
            statuses = read_statuses(db, [run.id for run in last.values()])
        yield Schedules(client=client, now=now, all=found, rules=rules, declared=declared, last=last, statuses=statuses)
