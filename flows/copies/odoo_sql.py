"""The statements by which an Odoo neutralises its own modules, asked of the container that has their code."""

from __future__ import annotations

import re

from blocks.odoo_host import OdooHost
from flows.engine.active_run import current_run
from flows.engine.step import step
from flows.odoo.site import find_host, host_env, on_host

ASK_SECONDS = 90
_STOP_SECONDS = 10  # of the step's time, for what ends in the container before the step does

# Odoo reads the names of the modules in the live database, and changes nothing. What it logs goes to the step's log
# before what it prints.
ASK = """\
cd -- "$REPO"
code=0
said=$(docker compose -f "$COMPOSE_FILE" exec -T "$ODOO_SERVICE" timeout --kill-after=5 "$LIMIT" \\
  odoo neutralize --stdout -d "$ODOO_DB" < /dev/null) || code=$?
printf '%s\\n' "$said"
if [ "$code" -ne 0 ]; then echo "odoo neutralize --stdout ended with exit code $code" >&2; fi
"""
_SAID = re.compile(r"^BEGIN;\n(.*?)^COMMIT;$", re.MULTILINE | re.DOTALL)


def find_odoo(block: str) -> OdooHost | None:
    """The host that can be asked; None where none is named. Raises PreflightError where there is no such block."""
    return find_host(block) if block else None


def ask_odoo(host: OdooHost | None, database: str) -> str:
    """The statements for the modules of a live database, as a step of the current runbook; empty where it gives none.

    The room's own statements, and its check, do not depend on them: without them, an event says so.
    """
    if host is None:
        return ""
    env = host_env(host, {"ODOO_DB": database, "LIMIT": str(ASK_SECONDS - _STOP_SECONDS)})
    printed = step("ask_odoo", on_host(host, ASK), timeout=ASK_SECONDS, env=env)
    said = _SAID.search(printed.stdout or "")
    if said is None and printed.stdout is not None:
        current_run().event(
            f"Odoo gave no statements that neutralise {database}: those of the room are used alone. The log of "
            "ask_odoo says why",
            level="warning",
        )
    return said[1] if said else ""
