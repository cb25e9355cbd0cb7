"""The shell text of the steps of an upgrade, with the environment of `flows/odoo/service.py` and `COMMIT`."""

from __future__ import annotations

from blocks.checkout import MARK
from flows.odoo import service
from flows.odoo.health import wait_healthy
from flows.odoo.module_code import IN_CHECKOUT, IN_CONTAINER
from flows.odoo.service import DROP_ASSETS, odoo_shell
from flows.odoo.site import SETTLED

# Between two attempts, while an approval is waited for, another upgrade may have checked out something else; and one
# that ended before it touched a module has checked out the previous commit.
AT_COMMIT = """\
found=$(git -C "$REPO" rev-parse HEAD)
if [ "$found" != "$COMMIT" ]; then
  echo "$REPO is at $found now and no longer at $COMMIT: something else has checked it out." \
    "This step changed nothing. Hint: start the upgrade again, with ops retry and without --from-failed" >&2
  exit 65
fi
"""
NOTE_COMMIT = f"""\
{MARK}
cd -- "$REPO"
echo "commit: $(commit_of_before || git rev-parse HEAD)"
echo "head: $(git rev-parse HEAD)"
"""
ASK = odoo_shell('print("database:", env["ir.config_parameter"].sudo().get_param("database.uuid"))')
# To run it is what brings an image to the host that the new compose file names, wherever that comes from, and proves
# that it has Odoo. The previous database need not fit the requested code, so it is not loaded.
IMAGE = AT_COMMIT + IN_CHECKOUT + odoo_shell(IN_CONTAINER, loads_database=False)
STOP = AT_COMMIT + service.STOP
UPGRADE = AT_COMMIT + SETTLED + service.UPGRADE
# Odoo makes its bundles again when a page next asks for one. Upgrading `web` as well would upgrade everything that
# depends on it, which is all there is, and the modules a second time.
ASSETS = AT_COMMIT + odoo_shell(
    f"""\
import os
{DROP_ASSETS}
print("database:", env["ir.config_parameter"].sudo().get_param("database.uuid"))
for module in env["ir.module.module"].search([("name", "in", os.environ["MODULES"].split(","))]):
    print("code:", module.name, module.installed_version)
print("assets: dropped")
"""
)
START = AT_COMMIT + service.START
WAIT = wait_healthy("$HEALTH_URL")
