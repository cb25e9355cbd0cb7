"""The runbook `odoo_upgrade_rollback`: an upgrade taken back, with code, database and filestore."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

from flows.backup.parameters import ExistingDatabase
from flows.engine.active_run import current_run
from flows.engine.approval import approval
from flows.engine.runbook import runbook
from flows.engine.step import action
from flows.odoo.before import read_before, refuse_other_attempt
from flows.odoo.killed_rollback import refuse_after_kill
from flows.odoo.lost_rows import consequences, count_written, question
from flows.odoo.parameters import APPROVAL_MINUTES, ApprovalMinutes, Attempt, RunId
from flows.odoo.rollback import ROLLBACK_SECONDS, take_back
from flows.odoo.site import host_resource
from flows.odoo.take_back import check_take_back
from flows.odoo.told import rollback_facts
from flows.restore.filestore import FILESTORE_SECONDS
from flows.restore.load import ANALYZE_SECONDS
from flows.restore.restore import DEADLINE_SECONDS as RESTORE_SECONDS


@runbook(
    deadline_seconds=RESTORE_SECONDS + ANALYZE_SECONDS + FILESTORE_SECONDS + ROLLBACK_SECONDS,
    max_attempts=2,  # the second one only says what a killed process left
    exclusive="odoo_db",
    explain=rollback_facts,
    subject="${params.odoo_db} · rollback",
)
def odoo_upgrade_rollback(
    *,
    odoo_db: ExistingDatabase,
    upgrade: RunId,
    ask: bool = True,
    attempt: Attempt = 0,
    approval_minutes: ApprovalMinutes = APPROVAL_MINUTES,
) -> dict[str, Any]:
    """Take an upgrade back: its database, its filestore and its code are again as they were before.

    **When to use it:** after an upgrade that went wrong, right away or days later. The command ops rollback starts it.

    **What it changes:** Odoo is stopped; the code goes back to the previous commit; the previous database and filestore
    take the places of the present ones, which are set aside under a name with the upgrade's run id and dropped by
    nobody but you. It names the rows that were written since, by table, and asks before it changes anything.

    **What it needs:** what the upgrade has kept (protect), and room for a second database and filestore. A rollback
    that failed undoes what it did; one that was killed says what is left, and is finished by the next one.

    ```
    ops rollback last:odoo_module_upgrade --wait
    ops run odoo_upgrade_rollback -p odoo_db=odoo_prod -p upgrade=5f0c5c1e-6c0e-4d38-9a0e-0d5e1f3a9c0b --dry-run
    ```

    Args:
        odoo_db: Database that was upgraded.
        upgrade: Id of the run that upgraded it, in full.
        ask: Wait for an approval that names the rows written since. Off to take the upgrade back at once.
        attempt: The attempt of the upgrade that is meant: with another one since, nothing is taken back. Empty for
            whichever is the newest.
        approval_minutes: Minutes to wait for the approval. Empty for 60.
    """
    started = time.monotonic()
    before = read_before(UUID(upgrade), odoo_db)
    refuse_other_attempt(before, attempt)
    refuse_after_kill(before)
    current_run().acquire(host_resource(before.place.host))
    found = action(
        "preflight",
        lambda: check_take_back(before),
        about=f"check programs, the checkout, and what is kept of {odoo_db} from before run {upgrade}",
        preflight=True,
    )
    since = count_written(
        "count_rows",
        found,
        about=f"compare the rows of {odoo_db} with the previous ones",
        words="written since",
        preflight=True,
    )
    if ask and not found.phase.is_in_place:
        advice = consequences(found, since)
        approval("approve_rollback", question(found), timeout=60 * approval_minutes, advice=advice)
    return take_back(found) | {
        "upgrade": upgrade,
        "duration_seconds": round(time.monotonic() - started, 3),
    }
