"""Old runs in Prefect's own database, with their states, task runs, logs and artifacts.

Prefect's service could delete them by itself, but it asks nobody: it would delete runs that can still resume, and those
that are not recorded yet, without a message. What a killed pass leaves of logs and artifacts, its service of
orphans takes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

from opsdb.retention.amounts import Amount, Amounts
from opsdb.retention.old_runs import PAGE, Place

TOKENS = 5000
"""How many tokens one transaction deletes."""
_OLD = "state_type IN ('COMPLETED', 'FAILED', 'CANCELLED', 'CRASHED') AND end_time < :cutoff"
# what belongs to a task of another run goes after that
_PAGE = text(f"""
SELECT id, end_time FROM public.flow_run
WHERE {_OLD} AND parent_task_run_id IS NULL AND (end_time, id) > (:after, :last)
ORDER BY end_time, id LIMIT {PAGE}
""")  # noqa: S608 - of texts of ours
_LOCK = text(f"""
SELECT id FROM public.flow_run WHERE id = ANY(:ids) AND {_OLD} ORDER BY id FOR UPDATE SKIP LOCKED
""")  # noqa: S608 - of texts of ours
_PRESENT = text("SELECT id FROM public.flow_run WHERE id = ANY(:ids)")
_OF_RUNS = "WHERE flow_run_id = ANY(:ids)"
_BELONGINGS = (
    ("run states", "flow_run_state", "timestamp", False),
    ("task runs", "task_run", "start_time", False),
    ("logs", "log", "timestamp", True),
    ("artifacts", "artifact", "created", True),
)
"""What belongs to a flow run: its name, its table, when it was made, and whether it does not go with the run itself."""


def read_page(db: Connection, place: Place, *, cutoff: datetime) -> tuple[list[UUID], Place | None]:
    """The next runs that are over and old, oldest end first, and where the next page begins; None after the last."""
    rows = db.execute(_PAGE, {"cutoff": cutoff, "after": place.at, "last": place.last}).all()
    return [row.id for row in rows], Place(rows[-1].end_time, rows[-1].id) if rows else None


def delete_runs(db: Connection, ids: Collection[UUID], *, cutoff: datetime, dry: bool = False) -> Amounts:
    """Delete those of the runs that still are over and old, with what belongs to them; only count them if `dry`.

    A run that Prefect has locked stays until the next time.
    """
    chosen = list(ids) if dry else list(db.scalars(_LOCK, {"ids": list(ids), "cutoff": cutoff}))
    belongings = Amounts()
    for name, table, made, apart in _BELONGINGS:
        rows = f"public.{table} {_OF_RUNS}"
        belongings.add(name, _take(db, table, rows, made, chosen, delete=apart and not dry))
    amounts = Amounts()
    amounts.add(
        "runs", _take(db, "flow_run", "public.flow_run WHERE id = ANY(:ids)", "end_time", chosen, delete=not dry)
    )
    amounts.add_all(belongings)
    return amounts


def present(db: Connection, ids: Sequence[UUID]) -> set[UUID]:
    """Those of the runs that Prefect has."""
    return set(db.scalars(_PRESENT, {"ids": list(ids)}))


def delete_tokens(db: Connection, *, before: datetime, dry: bool = False) -> Amount:
    """Delete some of the tokens against forged requests that were made before; only count them all if `dry`.

    Each client makes one, so each run does, and they do not expire (`access.server_env` says why). A client that lives
    on must keep its own.
    """
    columns = "pg_column_size(csrf_token.*) AS bytes, created AS at"
    old = "FROM public.csrf_token WHERE created < :before"
    rows = f"SELECT {columns} {old}"
    if not dry:
        some = f"SELECT id {old} ORDER BY id LIMIT {TOKENS} FOR UPDATE SKIP LOCKED"
        rows = f"DELETE FROM public.csrf_token WHERE id IN ({some}) RETURNING {columns}"  # noqa: S608 - of texts of ours
    return _count(db, rows, {"before": before})


def _take(db: Connection, table: str, rows: str, made: str, ids: Sequence[UUID], *, delete: bool) -> Amount:
    columns = f'pg_column_size({table}.*) AS bytes, "{made}" AS at'
    asked = f"DELETE FROM {rows} RETURNING {columns}" if delete else f"SELECT {columns} FROM {rows}"  # noqa: S608 - of texts of ours
    return _count(db, asked, {"ids": list(ids)})


def _count(db: Connection, rows: str, values: dict[str, object]) -> Amount:
    counted = "SELECT count(*), coalesce(sum(bytes), 0)::bigint, min(at) FROM taken"
    count, size, oldest = db.execute(text(f"WITH taken AS ({rows}) {counted}"), values).one()
    return Amount(count=count, bytes=size, oldest_at=oldest)
