"""The shell text that runs a script on another host over SSH, and leaves nothing running there."""

from __future__ import annotations

from blocks.ssh import SSH_OPTIONS

# Values are quoted by bash, from variables. What ends the connection would leave the program running on the other host:
# there a watcher holds the other end of the connection, and ends the program with it, or at its limit. What the program
# leaves behind is ended as well: it would hold the connection open. All of it is in a function, so that nothing runs
# before everything has arrived, and the script does not read from the connection. The watcher is killed, for bash may
# hear of a milder signal only when the reading is over; what it was about to end is ended after it.
_SEND = """\
send() {
  for name in $NAMES; do printf 'export %s=%q\\n' "$name" "${!name}"; done
  cat <<'BEFORE'
export DEBIAN_FRONTEND=noninteractive GIT_TERMINAL_PROMPT=0
main() {
work() {
set -euo pipefail
shopt -s inherit_errexit
BEFORE
  printf '%s\\n' "$script"
  cat <<'AFTER'
}
exec 3<&0
set -m
work < /dev/null 3<&- &
work=$!
set +m
gone() {
  local tenths
  for ((tenths = 0; tenths < $1; tenths++)); do
    kill -0 -- "-$work" 2> /dev/null || return 0
    sleep 0.1
  done
  return 1
}
end() {
  kill -TERM -- "-$work" 2> /dev/null
  gone 50 || kill -KILL -- "-$work" 2> /dev/null
}
(
  read -r -t "$LIMIT" -u 3 || true
  trap '' TERM
  end
) > /dev/null 2>&1 &
watcher=$!
code=0
wait "$work" || code=$?
kill -KILL "$watcher" 2> /dev/null
wait "$watcher" 2> /dev/null
gone 5 || end
exit "$code"
}
main
AFTER
  exec sleep infinity
}
"""


def ssh(to: str) -> str:
    """The words of shell that connect, without ever asking anybody.

    `to` are constant words as well: options, `--`, and the destination in a variable.
    """
    return f"ssh {' '.join(SSH_OPTIONS)} {to}"


def over_ssh(script: str, *, to: str) -> str:
    """The shell text that runs a constant bash script on the other host, without input. `to` is as `ssh` takes it.

    Its environment is that of the names in `NAMES`, `LIMIT` among them, with the values that they have here. `LIMIT`
    are the seconds after which it is ended. It is ended as well with the connection, whatever ends that: TERM, and
    KILL 5 s later.
    """
    return f"""\
{_SEND}
on_far_side() {{
  local script sender code=0
  script=$(cat)
  exec {{connection}}< <(send)
  sender=$!
  {ssh(to)} exec bash -s <&"$connection" || code=$?
  kill "$sender" 2> /dev/null || true
  return "$code"
}}
on_far_side <<'FAR_SIDE'
{script.rstrip()}
FAR_SIDE
"""
