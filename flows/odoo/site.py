"""The Odoo that a runbook works on: where it is, its code and its health."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, cast

import httpx
from pydantic import ValidationError

from blocks.checkout import MARK, UNCLEAN
from blocks.odoo_host import OdooHost, check_code
from blocks.ssh import KNOWN_HOSTS_ONLY, agent_env
from flows.odoo.remote import over_ssh
from opsdb.errors import PreflightError

_OVER_SSH = f'{KNOWN_HOSTS_ONLY} -oPort="$SSH_PORT" -- "$SSH_DESTINATION"'
_OWN_NAMES = ("", "localhost", "127.0.0.1")
_OWN_CODE = Path(__file__).resolve().parents[2]

# Submodules belong to a commit as files do: an upgrade would load other code, and the next one find them changed.
# HEAD moves last of a commit's own files, and before its submodules. A checkout that was killed leaves files that git
# takes for changes by hand, or for nobody's: it is ended first, and then all of them are the commit's.
AT = f"""\
{UNCLEAN}
git_runs_here() {{
  local process comm state folder here
  here=$(pwd -P)
  for process in /proc/[0-9]*; do
    read -r _ comm state _ 2> /dev/null < "$process/stat" || continue
    if [ "$comm" != "(git)" ] || [ "$state" = Z ]; then continue; fi
    folder=$(readlink -- "$process/cwd") || [ ! -e "$process" ] || return 0  # another user's: it may be there
    case "$folder/" in "$here"/*) return 0 ;; esac
  done
  return 1
}}
end_killed() {{
  local name path wanted lock tries=0
  lock=$(git rev-parse --git-path index.lock)
  if [ -e "$lock" ]; then
    while git_runs_here; do
      if ((tries++ == 20)); then
        echo "git runs in $PWD and may hold its index: wait for its end, then try again" >&2
        return 75
      fi
      sleep 0.1  # it may be one of the room's own looks at the files, which ends
    done
    rm -f -- "$lock"
  fi
  git -c advice.detachedHead=false checkout --quiet --force --detach "$1" -- || return
  while IFS=$'\\t' read -r -d '' name path; do
    wanted=$(link_of HEAD "$path")
    if ! [ -e "$path/.git" ] || ! git -C "$path" cat-file -e "$wanted^{{commit}}" 2> /dev/null; then continue; fi
    (cd -- "$path" && end_killed "$wanted") || return
  done < <(submodules)
}}
renew() {{
  local name path was
  while IFS=$'\\t' read -r -d '' name path; do
    if ! git config "submodule.$name.url" > /dev/null; then
      if [ -z "$2" ] || [ -n "$1" -a -n "$(link_of "$1" "$path")" ]; then continue; fi
      git submodule --quiet init -- "$path" || return
    fi
    was=
    if [ -e "$path/.git" ]; then was=$(git -C "$path" rev-parse HEAD) || return; fi
    git submodule --quiet update -- "$path" < /dev/null || return
    (cd -- "$path" && renew "$was" "$2") || return
  done < <(submodules)
}}
at() {{
  local was mark killed changed noted code
  mark=$(mark_of) || return
  if killed=$(unfinished); then
    changed=$(unclean) || return
    if [ -n "$changed" ]; then
      echo "the checkout of ${{killed:0:12}} in $PWD was killed, and these files are not of that commit: $changed." \
        "Hint: keep what is needed of them elsewhere, then git checkout --force --detach ${{killed:0:12}} there" >&2
      return 65
    fi
    end_killed "$killed" || return
  fi
  if ! was=$(commit_of_before); then was=$(git rev-parse HEAD) && echo "$was" > "$mark" || return; fi
  noted=$(cat -- "$mark") && echo "$1" >> "$mark" || return
  git -c advice.detachedHead=false checkout --quiet --detach "$1" -- || {{
    code=$?
    # refused, and nothing was touched
    [ -n "$(git status --porcelain --untracked-files=no --ignore-submodules=all)" ] || echo "$noted" > "$mark"
    return "$code"
  }}
  renew "$was" "${{2:-}}" || return
  if [ "$1" = "$was" ]; then rm -f -- "$mark"; else echo "whole $(last_move)" >> "$mark"; fi
}}
"""
"""`at` checks a commit out in the current folder, with the submodules that are initialised, and notes the previous one.

With `--init` those that are new in the commit as well. Without it nothing is fetched of a commit that was checked out
here before. The note (`MARK` in `blocks/checkout.py`) stays until the previous commit is back, or `SETTLED` takes it.
"""
SETTLED = f'{MARK}(cd -- "$REPO" && rm -f -- "$(mark_of)")\n'
"""Shell text that says that the database belongs to the code in the checkout, whatever was there before."""

AT_UNCHANGED = f"""\
{AT}
cd -- "$REPO"
changed=$(unclean)
if [ -n "$changed" ]; then
  echo "files in $REPO were changed by hand: commit or stash them first" >&2
  echo "$changed" >&2
  exit 65
fi
"""
"""The same, in the checkout, which nobody must have changed since the preflight."""

# A branch is the one of origin and not a local one of that name. The commit is checked out by itself: no branch of the
# checkout is moved, and nothing that somebody committed there is lost. A tag that was moved at origin is moved here as
# well: without --force the whole fetch fails. It is not --quiet, which hides what was moved or refused.
CHECK_OUT = f"""\
{AT_UNCHANGED}
before=$(commit_of_before || git rev-parse HEAD)
echo "before: $before"
git fetch --force --tags --prune origin
for name in "refs/remotes/origin/$GIT_REF" "refs/tags/$GIT_REF" "$GIT_REF"; do
  if commit=$(git rev-parse --quiet --verify --end-of-options "$name^{{commit}}"); then break; fi
done
if [ -z "$commit" ]; then
  hint=
  if ! git config --get-all remote.origin.fetch | grep -Fq "refs/heads/*:"; then
    hint=", or this clone does not fetch it. Hint: git remote set-branches origin '*' there, then try again"
  elif [ -e "$(git rev-parse --git-path shallow)" ]; then
    hint=", or it is older than what this shallow clone has. Hint: git fetch --unshallow there, then try again"
  fi
  echo "origin has no branch, tag or commit $GIT_REF$hint" >&2
  exit 65
fi
at "$commit" --init || {{ code=$?; at "$before" || true; exit "$code"; }}
echo "after: $(git rev-parse HEAD)"
git log -1 --format='%h %s (%cs)'
"""


def find_host(block: str | None, **asked: str) -> OdooHost:
    """The host that the block describes, or the worker's own; what was asked for by its field's name goes first.

    What is empty was not asked for.

    Raises PreflightError when there is no such block, or it is invalid.
    """
    stored: dict[str, Any] = {}
    if block is not None:
        try:
            loaded = cast("OdooHost", OdooHost.load(block))
        except ValidationError:
            raise PreflightError(
                f"odoo_host: the block odoo-host/{block} is invalid: "
                f"`ops doctor --block odoo-host/{block}` says what is wrong"
            ) from None
        except ValueError:
            raise PreflightError(
                f"odoo_host: there is no Odoo Host block {block!r}: make one in the Prefect UI under Blocks, or name "
                "another"
            ) from None
        except httpx.HTTPError as error:
            raise PreflightError(f"odoo_host: cannot read the block {block!r} from Prefect: {error}") from error
        stored = loaded.model_dump(include=set(OdooHost.model_fields))
    return OdooHost(**stored | {name: value for name, value in asked.items() if value})


def describe_place(host: OdooHost) -> str:
    """Where Odoo runs, for people: by it another attempt knows the place again."""
    far = f"{host.ssh_destination} port {host.ssh_port}" if host.ssh_destination else "this host"
    return f"{far}, service {host.service} of {host.compose_file} in {host.repo_dir}"


def host_resource(host: OdooHost) -> str:
    """What one upgrade at a time may hold: the machine on which Odoo runs, by the name under which it is reached.

    Neither checkout nor service would do. Docker Compose names a project after the compose file's folder, so the
    containers of two checkouts are the same ones unless their files say otherwise, and two files can share a checkout.
    """
    name = host.ssh_destination.rpartition("@")[2].lower().rstrip(".")
    if name in _OWN_NAMES:
        name = socket.gethostname().lower()
    return f"odoo_host:{name}"


def check_checkout(host: OdooHost) -> None:
    """Raise PreflightError unless the host is reached, its programs are there, and nobody changed the checkout."""
    if not host.ssh_destination:
        if _OWN_CODE.is_relative_to(Path(host.repo_dir).resolve()):
            raise PreflightError(f"repo_dir: {host.repo_dir} holds the control room's own code: name Odoo's checkout")
        if not (Path(host.repo_dir) / ".git").exists():
            raise PreflightError(f"repo_dir: {host.repo_dir} is not a git checkout; odoo_fresh_deploy makes one")
    if wrong := [f"{check.subject}: {check.found}; {check.advice}" for check in check_code(host) if not check.ok]:
        raise PreflightError(f"odoo_host: {host.ssh_destination or 'this host'}: {'. '.join(wrong)}")


def on_host(host: OdooHost, script: str) -> str:
    """The shell text that runs a constant script on the host, with the environment of `host_env`."""
    return over_ssh(script, to=_OVER_SSH) if host.ssh_destination else script


def host_env(host: OdooHost, values: dict[str, str]) -> dict[str, str]:
    """The environment of such a script: the values, where the host is, and what of it that host is given."""
    env = {
        **values,
        "REPO": host.repo_dir,
        "COMPOSE_FILE": host.compose_file,
        "ODOO_SERVICE": host.service,
        "HEALTH_URL": host.health_url,
    }
    if not host.ssh_destination:
        return env
    return {
        **env,
        "NAMES": " ".join(env),
        "SSH_DESTINATION": host.ssh_destination,
        "SSH_PORT": str(host.ssh_port),
        **agent_env(),
    }
