"""The shell text that works with Odoo's service in Docker Compose: stops it, starts it, runs Odoo once beside it.

All of it takes `REPO`, `COMPOSE_FILE`, `ODOO_SERVICE`, `ODOO_DB`, `RUN` (the run's id) and `LIMIT` (seconds) from its
environment.
"""

from __future__ import annotations

from flows.shell.reason import OWN_REASON

_COMPOSE = """\
cd -- "$REPO"
compose() { docker compose -f "$COMPOSE_FILE" "$@" < /dev/null; }
"""
STOP = f'{_COMPOSE}compose stop "$ODOO_SERVICE"\n'
# `restart` would keep the container as the previous compose file had it, while Odoo was upgraded in one of the new.
START = f"""\
{STOP}
compose up --detach --no-deps "$ODOO_SERVICE"
"""

# What ends the client of `docker compose run` may leave its container. The container's name keeps a second one of the
# database from beginning, whoever starts it, and its label says whose it is.
_END = """\
container=ops-upgrade-$ODOO_DB
end() {
  trap '' PIPE  # whoever reads this may be gone: Odoo is ended all the same
  ours=$(docker container inspect --format '{{index .Config.Labels "ops.run"}}' "$container" 2> /dev/null) || return 0
  [ "$ours" = "$RUN" ] || return 0
  docker stop -t 2 "$container" > /dev/null 2>&1 || true
  docker rm --force "$container" > /dev/null 2>&1 || true
  if docker container inspect "$container" > /dev/null 2>&1; then
    echo "Docker did not end the container $container" >&2 || true
    return 1
  fi
}
"""
END = f"""\
{_END}
end
"""
# The service's own command, its entrypoint included, which may be what says where the database is; `exec` would go past
# it. Nothing else is started: a dependency that the new compose file changed would be made again.
_ONE_OFF = f"""\
{_COMPOSE}
{_END}
state=$(docker container inspect --format '{{{{.State.Status}}}}' "$container" 2> /dev/null) || state=
case "$state" in
  "") ;;
  created | exited | dead) docker rm --force "$container" > /dev/null ;;
  *)
    echo "another upgrade of $ODOO_DB runs, in the container $container: wait for its end, or end it there with" \\
      "docker stop $container" >&2
    exit 75
    ;;
esac
ended=no
trap '[ "$ended" = yes ] || end' EXIT
trap 'exit 143' TERM PIPE  # bash says so when a program is killed, and would end by that where nobody reads
run_odoo() {{
  # in the foreground: in a group of its own it would not hear of what ends this group
  timeout --foreground --kill-after=5 "$LIMIT" docker compose -f "$COMPOSE_FILE" run --rm -T --no-deps \\
    --name "$container" --label "ops.run=$RUN" -e 'ODOO_PGAPPNAME=odoo-{{pid}}' -e "MODULES=$MODULES" \\
    "$ODOO_SERVICE" odoo "$@" --no-http
}}
ended_with() {{
  [ "$1" -ne 0 ] || ended=yes
  if [ "$1" -eq 124 ] || {{ [ "$1" -eq 137 ] && (( SECONDS >= LIMIT )); }}; then
    echo "{OWN_REASON}time limit of $LIMIT s reached" >&2
    exit 124
  fi
  [ "$1" -eq 0 ] || exit "$1"
}}
"""


DROP_ASSETS = 'env["ir.attachment"].regenerate_assets_bundles()\nenv.cr.commit()'
"""Python for `odoo shell`: it drops the bundles, which Odoo makes again when a page next asks for one."""


def odoo_shell(code: str, *, loads_database: bool = True) -> str:
    """The shell text that runs constant Python in `odoo shell`: with the database's environment, `env`, or without."""
    database = "$ODOO_DB" if loads_database else ""  # the empty name also overrides `db_name` of Odoo's configuration
    return f"""\
{_ONE_OFF}
code=0
run_odoo shell -d "{database}" <<'PYTHON' || code=$?
{code.rstrip()}
PYTHON
ended_with "$code"
"""


# Odoo exits with 0 when it left a module behind, and says so in an ERROR of odoo.modules.
UPGRADE = f"""\
{_ONE_OFF}
compose stop "$ODOO_SERVICE"
judged() {{
  local line first="" count=0 code=1
  local error='^[0-9-]{{10}} [0-9:,]+ [0-9]+ (ERROR|CRITICAL) [^ ]+ (odoo\\.modules[a-z_.]*: .*)$'
  while IFS= read -r line || [ -n "$line" ]; do
    if [[ "$line" =~ ^ended-with\\ ([0-9]+)$ ]]; then code=${{BASH_REMATCH[1]}}; continue; fi
    printf '%s\\n' "$line"
    [[ "$line" =~ $error ]] || continue
    count=$((count + 1))
    first=${{first:-${{BASH_REMATCH[2]}}}}
  done
  if (( code == 0 && count > 0 )); then
    echo "Odoo exited with 0, and logged $count errors of odoo.modules. {OWN_REASON}$first"
    return 65
  fi
  return "$code"
}}
upgrade() {{
  local code=0
  run_odoo -d "$ODOO_DB" -u "$MODULES" --stop-after-init < /dev/null 2>&1 || code=$?
  printf '\\nended-with %s\\n' "$code"
}}
code=0
upgrade | judged >&2 || code=$?
ended_with "$code"
"""
