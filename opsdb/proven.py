"""What proves that a run did what it is for: conditions on `ops.runs`, written so that queries find their index.

A run that failed and that somebody sets to Completed in Prefect is called succeeded, in Prefect and in the record. Its
own process never said so, and its `outcome` stays what it was.
"""

from __future__ import annotations

SUCCEEDED = "status = 'succeeded' AND outcome = 'succeeded'"
"""Of a run whose own process said that it succeeded."""
GOOD_BACKUP = f"kind = 'odoo_db_backup' AND {SUCCEEDED}"
"""Of a backup that was verified."""
OTHER_BACKUP = f"kind = 'odoo_db_backup' AND ({SUCCEEDED}) IS NOT TRUE"
"""Of a backup that was not, or not yet."""
FAILED_BACKUP = "kind = 'odoo_db_backup' AND status = 'failed'"
"""Of a backup that failed, and that nobody has set to Completed or tried again since."""
