"""The shell text that makes a droplet, and that runs a script on it."""

from __future__ import annotations

from flows.odoo.remote import over_ssh, ssh

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
_DROPLET = '-oStrictHostKeyChecking=accept-new -oHostKeyAlias="droplet-$DROPLET_ID" -- "root@$ADDRESS"'
# Time does not heal another key.
WAIT_FOR_SSH = f"""\
until complaint=$({ssh(_DROPLET)} true < /dev/null 2>&1); do
  echo "$complaint" >&2
  if [[ "$complaint" = *"Host key verification failed"* ]]; then
    echo "droplet $DROPLET_ID at $ADDRESS shows another key than when it was first seen: find out why. If it is" \\
      "right, as the user that runs the worker: ssh-keygen -R droplet-$DROPLET_ID" >&2
    exit 69
  fi
  if (( SECONDS >= LIMIT )); then
    echo "no SSH as root@$ADDRESS within $LIMIT s: is the worker's key among ssh_keys?" >&2
    exit 69
  fi
  sleep 2
done
if [ -n "$complaint" ]; then echo "$complaint" >&2; fi
echo "SSH answers after $SECONDS s"
"""


def on_droplet(script: str) -> str:
    """The shell text that runs a constant bash script on the droplet, as root: see `over_ssh`."""
    return over_ssh(script, to=_DROPLET)
