"""`python -m deployments.server.serve DESCRIPTOR...`: Prefect's server on sockets that the supervisor opened.

`prefect server start` opens its port itself and has no option for one that is open. Beside that this does the same:
Prefect's app migrates its database, copies its UI and starts its services as it begins, by Prefect's settings.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

import uvicorn
from prefect.server.api.server import create_app
from prefect.settings import get_current_settings

from deployments.server import planning, schedule_changes, state_rules
from deployments.server.guard import guarded
from deployments.server.old_names import with_old_names
from deployments.server.protocol import TimelyProtocol
from deployments.server.validation import speak_in_words
from opsdb.settings import Settings, load_settings
from opsdb.standard_streams import make_unfailing
from opsdb.start_signal import await_start
from opsdb.web.hosts import LOOPBACK


def application(settings: Settings) -> Any:
    """The ASGI app that is served: Prefect's own, API and UI, with the room's rules, behind the guard."""
    state_rules.install()
    schedule_changes.install()
    planning.install()
    speak_in_words()
    return guarded(with_old_names(create_app(final=True)), settings)


def server_config(app: Any, room: Settings) -> uvicorn.Config:
    """How the app is served in this room.

    What a client says in `X-Forwarded-For` of its address, by which wrong passwords are counted, and of its protocol is
    believed on loopback where a web server may stand in front: where the room has a name of its own.
    """
    settings = get_current_settings().server
    # not uvicorn's `fd`: it takes the socket for a Unix one, and each request for 40 ms
    return uvicorn.Config(
        app,
        proxy_headers=room.known_hosts > LOOPBACK,
        http=TimelyProtocol,
        backlog=128,  # of those that wait to be accepted; the sockets listen already
        timeout_keep_alive=settings.api.keepalive_timeout,
        ws_ping_interval=settings.api.websocket_ping_interval,
        ws_ping_timeout=settings.api.websocket_ping_timeout,
        log_level=settings.logging_level.lower(),
    )


def serve(sockets: list[socket.socket]) -> None:
    """Serve until SIGTERM or SIGINT. Ends the process with 3 when the app could not begin."""
    room = load_settings()
    server = uvicorn.Server(server_config(application(room), room))
    server.run(sockets=sockets)
    if not server.started:
        sys.exit(3)


def main() -> None:
    """Take over the sockets whose descriptors the command line names. What this process starts gets none of them."""
    make_unfailing()
    sockets = [socket.socket(fileno=int(number)) for number in sys.argv[1:]]
    for one in sockets:
        one.set_inheritable(False)
    await_start()
    addresses = (one.getsockname()[:2] for one in sockets)
    print(f"Prefect's server begins on {', '.join(f'{host} port {port}' for host, port in addresses)}", flush=True)
    serve(sockets)


if __name__ == "__main__":
    main()
