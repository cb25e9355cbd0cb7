#!/bin/bash
# A worker in a container: the room's secrets, a tunnel to its Prefect server, and `ops worker` with its health.
#
# OPS_DATABASE_URL  the room's own database, see docs/settings.md
# ROOM_SECRETS      base64 of a tar.gz with secrets.json, backup-keys, ssh/key and ssh/known_hosts of the room
# ROOM_SSH          user@host by which the room is reached, on ROOM_SSH_PORT (22)
# ROOM_LANES        lanes to serve (A,B,C,D)
set -euo pipefail
umask 077

for name in OPS_HOME OPS_DATABASE_URL ROOM_SECRETS ROOM_SSH; do
    if [ -z "${!name:-}" ]; then
        echo "worker container: $name is not set" >&2
        exit 2
    fi
done

mkdir -p "$OPS_HOME"
if ! base64 --decode <<< "$ROOM_SECRETS" | tar --extract --gzip --no-same-owner --directory "$OPS_HOME"; then
    echo "worker container: ROOM_SECRETS is not the base64 of a tar.gz" >&2
    exit 2
fi
unset ROOM_SECRETS
for name in secrets.json ssh/key ssh/known_hosts; do
    if [ ! -f "$OPS_HOME/$name" ]; then
        echo "worker container: ROOM_SECRETS holds no $name" >&2
        exit 2
    fi
done

port=${OPS_PREFECT_PORT:-4200}
tunnel() {
    local ssh=
    trap 'kill "$ssh" 2> /dev/null; exit' TERM
    while true; do # runs go on while it is down, so the container need not end with it
        ssh -F none -N -o BatchMode=yes -o ExitOnForwardFailure=yes -o StrictHostKeyChecking=yes \
            -o UserKnownHostsFile="$OPS_HOME/ssh/known_hosts" -o IdentitiesOnly=yes -o ServerAliveInterval=15 \
            -i "$OPS_HOME/ssh/key" -p "${ROOM_SSH_PORT:-22}" -L "127.0.0.1:$port:127.0.0.1:${ROOM_PREFECT_PORT:-$port}" \
            -- "$ROOM_SSH" < /dev/null &
        ssh=$!
        wait "$ssh" || true
        echo "worker container: the tunnel to $ROOM_SSH ended; it is opened again" >&2
        sleep 2 &
        wait $! || true
    done
}
tunnel &
tunnel_pid=$!
trap 'kill "$tunnel_pid" 2> /dev/null || true' EXIT

for ((tries = 0; tries < 300; tries++)); do
    if (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null; then break; fi
    sleep 0.2
done
if ((tries == 300)); then
    echo "worker container: no tunnel to $ROOM_SSH within a minute" >&2
    exit 1
fi

# the platform's probe asks by the container's own address
export OPS_HEALTH_ADDRESS=${OPS_HEALTH_ADDRESS:-$(hostname -i | cut -d ' ' -f 1)}
ops worker --lanes "${ROOM_LANES:-A,B,C,D}" &
worker=$!
trap 'kill -TERM "$worker"' TERM INT
code=0
wait "$worker" || code=$?
trap '' TERM INT # a second one would end the runs at once
if kill -0 "$worker" 2> /dev/null; then # the wait ended by the signal: the worker has its time to drain
    code=0
    wait "$worker" || code=$?
fi
exit "$code"
