"""How pg_restore loads a dump into a server, and the proof beforehand that this server takes what it sends."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from blocks.inherited import inherited
from flows.backup.postgres import APPLICATION, Access
from flows.backup.programs import major_of
from opsdb.errors import PreflightError
from opsdb.processes.find import RUN_ID_VARIABLE

PROBE_SECONDS = 60
_NOT_CONNECTED = re.compile(r"connection to server .* failed:|could not connect to|sslmode value ")

# From 17 on, pg_restore begins every connection with `SET transaction_timeout = 0`, which servers before 17 do not
# know. There --exit-on-error would end each restore with its first statement. Without it pg_restore continues after any
# error, counts them, and says at its very end how many there were. That line decides: it is the last one, and begins
# with a name that nothing in the dump can know, so that no message of a function in the dump can stand for it.
# The messages before it decide nothing: they are shown, and name the first error that is not this one.
LOAD = """\
load=(--no-password --jobs="$JOBS" $OPTIONS --no-subscriptions --dbname="$SCRATCH")
if [ "$KNOWN_ERRORS" -eq 0 ]; then
  "$PG_RESTORE" --exit-on-error "${load[@]}" -- "$DUMP"
else
  { (export LC_ALL=C && exec -a "$PROGRAM" "$PG_RESTORE" "${load[@]}" -- "$DUMP") 2>&1 || true; } | {
    first='' line=''
    while IFS= read -r line; do
      last=$line
      [ "$line" = "could not find a \\"$PROGRAM\\" to execute" ] || printf '%s\\n' "$line" >&2
      case $line in
        *'unrecognized configuration parameter "transaction_timeout"') ;;
        *': error: '*) first=${first:-$line} ;;
      esac
    done
    [ "${last-}" = "$PROGRAM: warning: errors ignored on restore: $KNOWN_ERRORS" ] || {
      echo "pg_restore could not load the dump. Its first error: ${first:-${last-}}" >&2
      exit 1
    }
  }
fi
"""


def load_variables(access: Access, dump: str, *, database: str, options: tuple[str, ...] = ()) -> dict[str, str]:
    """The environment of LOAD, beside that of the connection. `options` of pg_restore are without blanks."""
    jobs = min(4, os.cpu_count() or 1)
    if access.programs.major >= 18:
        options = (*options, "--no-statistics")  # servers before 18 cannot take them, and ANALYZE makes them anyway
    return {
        "PG_RESTORE": str(access.programs.pg_restore),
        "PROGRAM": f"pg_restore-{secrets.token_hex(8)}",
        "KNOWN_ERRORS": str(known_errors(access, jobs=jobs)),
        "JOBS": str(jobs),
        "OPTIONS": " ".join(options),
        "SCRATCH": database,
        "PGAPPNAME": APPLICATION,  # else the server would get the program's name
        "DUMP": dump,
    }


def known_errors(access: Access, *, jobs: int) -> int:
    """How many errors pg_restore counts for every dump that is loaded into this server.

    It counts those of its own connection, which it makes once more after parallel jobs, and not those of their setup.
    """
    if access.programs.major < 17 or major_of(access.server_version) >= 17:
        return 0
    return 1 if jobs == 1 else 2


def prove_loading(access: Access) -> None:
    """Load a dump with nothing in it, as it is done with a real one. The database of `access` stays as it is.

    Raises PreflightError, which quotes what pg_dump or pg_restore said.
    """
    with access.environment() as connection, _empty_dump(access, connection) as dump:
        variables = load_variables(access, dump, database=connection["PGDATABASE"], options=("--use-list=/dev/null",))
        bash = ["bash", "--noprofile", "--norc", "-euo", "pipefail", "-c", LOAD]
        _run(access, bash, connection | variables)


@contextmanager
def _empty_dump(access: Access, connection: Mapping[str, str]) -> Iterator[str]:
    """The path of a dump of no schema, in memory, for as long as the block lasts."""
    handle = os.memfd_create("empty.dump")
    try:
        dump = [str(access.programs.pg_dump), "--format=custom", "--no-password", "--schema-only", "--exclude-schema=*"]
        _run(access, [*dump, f"--dbname={connection['PGDATABASE']}"], connection, stdout=handle)
        yield f"/proc/{os.getpid()}/fd/{handle}"
    finally:
        os.close(handle)


def _run(access: Access, command: list[str], variables: Mapping[str, str], *, stdout: int = subprocess.DEVNULL) -> None:
    run_id = {name: value for name, value in os.environ.items() if name == RUN_ID_VARIABLE}
    done = subprocess.run(
        ["timeout", "--kill-after=5s", f"{PROBE_SECONDS}s", *command],  # noqa: S607 - it ends all that was started
        env={**inherited(), **run_id, **variables},
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        said = "; ".join(done.stderr.strip().splitlines()[-2:]) or f"it did not end within {PROBE_SECONDS} s"
        programs, server = access.programs, access.server_version
        if _NOT_CONNECTED.search(done.stderr):
            raise PreflightError(
                f"{programs.pg_dump.parent} ({programs.version}) cannot connect as the room does: {said}. "
                "Hint: see that these programs can read the certificates that OPS_ODOO_DATABASE_URL names, or set "
                "OPS_PG_BIN to a folder of others"
            )
        raise PreflightError(
            f"a backup could not be restored into this server, PostgreSQL {server}, by {programs.pg_restore} "
            f"({programs.version}), as an empty dump shows: {said}. Install the client programs of PostgreSQL "
            f"{major_of(server)}, or set OPS_PG_BIN to their folder"
        )
