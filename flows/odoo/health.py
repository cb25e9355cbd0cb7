"""The shell text that waits until an Odoo serves a database, and does not take a redirect for an answer."""

from __future__ import annotations

from blocks.odoo_host import OdooHost, run_there
from flows.engine.active_run import current_run

LOOK_SECONDS = 40.0

# `/web/health` alone is 200 with PostgreSQL away, and an address of the site's own may always be. The login page needs
# the registry of the database: with several databases it is first redirected to itself, with a cookie, and where the
# database cannot be served to somewhere else, the list of databases for instance. On a site with an address of its own
# it may lead to a provider of identities, on another host; where it is not found, Odoo is at another address, and no
# more can be asked.
_WAIT = """\
ask() {
  local answer
  answer=$(curl --silent --show-error --output /dev/null --cookie '' --write-out '%{http_code} %{url_effective}' \\
    "$@" 2>&1) || { complaint="$(head -n 1 <<< "$answer")"; return 1; }
  effective=${answer#* }
  complaint="it answered with ${answer%% *}"
  [ "${answer%% *}" = 200 ]
}
host_of() {
  local rest=${1#*://}
  rest=${rest%%[/?]*}
  echo "${rest%:*}"
}
healthy() {
  local site own=no
  case "$HEALTH" in
    */web/health | */web/health/)
      site=${HEALTH%/web/health*}
      asked="$site/web/health?db_server_status=1"
      ;;
    *)
      site=$(grep -o '^[a-z]*://[^/]*' <<< "$HEALTH")
      asked=$HEALTH own=yes
      ;;
  esac
  ask --max-time 5 -- "$asked" || return 1
  asked="$site/web/login?db=$ODOO_DB"
  if ! ask --max-time 20 --location --max-redirs 10 -- "$asked"; then
    [[ "$own $complaint ${effective%%\\?*}" = "yes it answered with 404 "*/web/login ]]
    return
  fi
  case "${effective%%\\?*}" in
    */web/login) return 0 ;;
    */web/database/*) ;;
    *) if [ "$own" = yes ] && [ "$(host_of "$effective")" != "$(host_of "$site")" ]; then return 0; fi ;;
  esac
  complaint="it led to $effective: this Odoo does not serve the database $ODOO_DB there"
  return 1
}
until healthy; do
  if (( SECONDS >= LIMIT )); then
    echo "$asked did not answer well within $LIMIT s: $complaint" >&2
    exit 69
  fi
  sleep 2
done
echo "healthy after $SECONDS s"
"""


def wait_healthy(url: str) -> str:
    """The shell text that waits until the Odoo at `url` serves the database `ODOO_DB`, at most `LIMIT` s.

    The URL is constant words and variables: `/web/health` of an Odoo, or an address of the site's own that answers 200.
    """
    return f'HEALTH="{url}"\n{_WAIT}'


def tell_health(host: OdooHost, database: str) -> None:
    """Warn before an upgrade if the look at its end would fail now: Odoo may be stopped, or need the upgrade."""
    values = {"ODOO_DB": database, "LIMIT": "0"}
    code, _, complaint = run_there(host, wait_healthy("$HEALTH_URL"), values, seconds=LOOK_SECONDS)
    if code == 0:
        return
    lines = complaint.strip().splitlines()
    reason = lines[-1].strip() if lines else f"{host.health_url} did not answer within {LOOK_SECONDS:g} s"
    current_run().event(
        f"{host.service} is not healthy now: {reason}. wait_health asks the same at the end, and fails where that has "
        "not changed. Hint: where Odoo runs and is well, correct health_url",
        level="warning",
    )
