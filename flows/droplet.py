"""The shell text that makes a droplet, and that runs a script on it."""

from __future__ import annotations

# An attempt that was killed may have made the droplet already, so it is looked for first. Its address comes last in
# the line because it is missing while the droplet is being made.
PROVISION = """\
columns=(--format ID,Name,Region,Status,PublicIPv4 --no-header)
listed=$(doctl compute droplet list "${columns[@]}")
found=$(awk '$2 == ENVIRON["DROPLET_NAME"]' <<< "$listed")
count=$(grep -c . <<< "$found" || true)
if (( count > 1 )); then
  echo "$count droplets are named $DROPLET_NAME: delete or rename all but one" >&2
  exit 65
fi
if (( count == 0 )); then
  echo "making droplet $DROPLET_NAME"
  found=$(doctl compute droplet create "$DROPLET_NAME" --region "$REGION" --size "$SIZE" --image "$IMAGE" \\
    --ssh-keys "$SSH_KEYS" --wait "${columns[@]}")
fi
read -r id _ region status address <<< "$found"
if [ "$region" != "$REGION" ]; then
  echo "droplet $DROPLET_NAME is in $region, not in $REGION: give its region, or another name" >&2
  exit 65
fi
until [ "$status" = active ] && [ -n "$address" ]; do
  if (( SECONDS >= LIMIT )); then
    echo "droplet $DROPLET_NAME ($id) is $status and has no address after $LIMIT s" >&2
    exit 69
  fi
  sleep 2
  read -r id _ region status address <<< "$(doctl compute droplet get "$id" "${columns[@]}")"
done
echo "droplet: $id $address"
"""

# The key of a host is kept by the droplet's id: addresses are handed on to other droplets.
_SSH = """\
droplet() {
  ssh -oBatchMode=yes -oConnectTimeout=5 -oServerAliveInterval=10 -oServerAliveCountMax=3 \\
    -oStrictHostKeyChecking=accept-new -oHostKeyAlias="droplet-$DROPLET_ID" -- "root@$ADDRESS" "$@"
}
"""
# Values are quoted by bash, from variables. What ends the connection would leave the program running on the droplet:
# there a watcher holds the other end of the connection, and ends the program with it, or at its limit. All of it is in
# a function, so that nothing runs before everything has arrived, and the script does not read from the connection.
_RUN = f"""\
{_SSH}
send() {{
  for name in $NAMES; do printf 'export %s=%q\\n' "$name" "${{!name}}"; done
  cat <<'BEFORE'
export DEBIAN_FRONTEND=noninteractive GIT_TERMINAL_PROMPT=0
main() {{
work() {{
set -euo pipefail
BEFORE
  printf '%s\\n' "$script"
  cat <<'AFTER'
}}
exec 3<&0
set -m
work < /dev/null 3<&- &
work=$!
set +m
(
  trap 'exit 0' TERM
  read -r -t "$LIMIT" -u 3 || true
  kill -TERM -- "-$work"
  sleep 3
  kill -KILL -- "-$work"
) > /dev/null 2>&1 &
watcher=$!
code=0
wait "$work" || code=$?
kill "$watcher" 2> /dev/null || true
exit "$code"
}}
main
AFTER
  exec sleep infinity
}}
on_droplet() {{
  local script sender code=0
  script=$(cat)
  exec {{connection}}< <(send)
  sender=$!
  droplet exec bash -s <&"$connection" || code=$?
  kill "$sender" 2> /dev/null || true
  return "$code"
}}
"""
WAIT_FOR_SSH = f"""\
{_SSH}
until droplet true < /dev/null; do
  if (( SECONDS >= LIMIT )); then
    echo "no SSH as root@$ADDRESS within $LIMIT s: is the worker's key among ssh_keys?" >&2
    exit 69
  fi
  sleep 2
done
echo "SSH answers after $SECONDS s"
"""


def on_droplet(script: str) -> str:
    """The shell text that runs a constant bash script on the droplet, as root and without input.

    Its environment is that of the names in `NAMES`, with the values that they have here.
    """
    return f"{_RUN}on_droplet <<'ON_DROPLET'\n{script.rstrip()}\nON_DROPLET\n"
