"""The room's secrets, and the environment by which processes reach Prefect. Imports nothing of Prefect.

Secrets stand in `OPS_HOME/secrets.json` and in the environment of the room's own processes:
never in argv, never in a log.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import secrets as random_secrets
import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from opsdb.errors import RoomUnreachableError, UsageError
from opsdb.listener import check_listener, guard
from opsdb.private_files import make_private, read_private, replace_private
from opsdb.settings import Settings

FOREIGN = ("PREFECT_API_KEY", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH", "PREFECT_API_URL")
"""What would lead a process of the room to another Prefect."""
NO_AUTHORITY = Path(__file__).parent / "no_authority.pem"

_TLS = {"sslrootcert": "PGSSLROOTCERT", "sslcert": "PGSSLCERT", "sslkey": "PGSSLKEY", "sslcrl": "PGSSLCRL"}
_OURS_ALONE = {"application_name", "connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval"} | {
    "keepalives_count",
    "tcp_user_timeout",
    "client_encoding",
}


@dataclass(frozen=True)
class Secrets:
    """What the room keeps to itself. Not shown in a repr, so not in a traceback either."""

    prefect_auth_string: str = field(repr=False)
    prefect_encryption_key: str = field(repr=False)


def secrets_path(settings: Settings) -> Path:
    """Where the secrets stand."""
    return settings.home / "secrets.json"


def read_secrets(settings: Settings) -> Secrets:
    """The room's secrets.

    Raises RoomUnreachableError when the room never started here, and UsageError when the file is not ours alone or
    broken: such a file is never replaced, since the encryption key in it opens the blocks in Prefect's database.
    """
    path = secrets_path(settings)
    try:
        return _checked(json.loads(read_private(path)))
    except FileNotFoundError:
        raise RoomUnreachableError(
            f"the room never started with OPS_HOME={settings.home}: start it with `ops up`"
        ) from None
    except (ValueError, TypeError, KeyError, binascii.Error):
        raise UsageError(
            f"{path} is broken: restore it from a backup, or move it away and fill in all blocks again"
        ) from None


def make_secrets(settings: Settings) -> Secrets:
    """The room's secrets, generated on the first call. Two first calls at once agree on one set."""
    path = secrets_path(settings)
    if not path.is_symlink() and not path.exists():
        fresh = Secrets(
            prefect_auth_string=_random_auth_string(),
            prefect_encryption_key=base64.urlsafe_b64encode(random_secrets.token_bytes(32)).decode(),
        )
        make_private(path, _as_json(fresh))
    return read_secrets(settings)


def renew_password(settings: Settings) -> Secrets:
    """Replace the password of Prefect's API, here and in the profile. The encryption key stays.

    For a room that does not run: whatever runs holds the old one. Raises as `read_secrets`.
    """
    fresh = replace(read_secrets(settings), prefect_auth_string=_random_auth_string())
    replace_private(secrets_path(settings), _as_json(fresh))
    write_profile(settings)
    return fresh


def ui_url(settings: Settings) -> str:
    """Where the Prefect UI answers."""
    return f"http://127.0.0.1:{settings.prefect_port}"


def ui_folder(settings: Settings) -> Path:
    """The room's own copy of the UI, made by the Prefect server."""
    return settings.home / "prefect" / "ui"


def client_env(settings: Settings) -> dict[str, str]:
    """The environment of a process that talks to the room's Prefect. Holds a secret."""
    without_proxy = [entry for entry in os.environ.get("NO_PROXY", os.environ.get("no_proxy", "")).split(",") if entry]
    no_proxy = ",".join(dict.fromkeys([*without_proxy, "127.0.0.1", "localhost"]))
    return {
        "OPS_HOME": str(settings.home),
        "PREFECT_HOME": str(settings.home / "prefect"),
        "PREFECT_API_URL": f"{ui_url(settings)}/api",
        "PREFECT_API_AUTH_STRING": read_secrets(settings).prefect_auth_string,
        "PREFECT_API_SSL_CERT_FILE": str(NO_AUTHORITY),  # the file says why
        "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "true",
        # a restart of the server or of its database must not end a run (measured: reliability cases 4 and 9)
        "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500,504",
        "PREFECT_CLIENT_MAX_RETRIES": "8",
        "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",  # a room is installed as one
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        # the auth string must not travel through a proxy
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,
    }


def server_env(settings: Settings) -> dict[str, str]:
    """The environment of the Prefect server, beside what every process needs. Holds secrets.

    Raises UsageError when OPS_DATABASE_URL has a parameter that Prefect's driver cannot take.
    """
    secrets = read_secrets(settings)
    url, tls = prefect_database_url(settings)
    port = str(settings.prefect_port)
    return {
        **tls,
        "OPS_HOME": str(settings.home),
        "PREFECT_HOME": str(settings.home / "prefect"),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": url,
        "PREFECT_SERVER_ENCRYPTION_KEY": secrets.prefect_encryption_key,
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        "PREFECT_SERVER_API_PORT": port,
        "PREFECT_SERVER_API_AUTH_STRING": secrets.prefect_auth_string,
        "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
        # Prefect's client fetches a new token for each request that finds its own expired, and each fetch makes the
        # others' invalid: requests at once then wait for minutes. So it outlives every process of the room
        "PREFECT_SERVER_API_CSRF_TOKEN_EXPIRATION": "P3650D",
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": ",".join(_origins(settings)),
        # of the page's own origin, by whatever name the room was reached
        "PREFECT_SERVER_UI_API_URL": f"{settings.server_path}/api",
        "PREFECT_SERVER_UI_SERVE_BASE": settings.server_path or "/",
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(ui_folder(settings)),
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # its runs go with those of the record: `ops db prune`
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,orphans",
        "DO_NOT_TRACK": "1",
    }


def _origins(settings: Settings) -> list[str]:
    """The origins of the pages that may use the API: what a browser calls the addresses of the UI."""
    address = urlsplit(settings.server_address)
    port = settings.prefect_port
    local = [f"http://127.0.0.1:{port}", f"http://localhost:{port}"]
    return list(dict.fromkeys([*local, f"{address.scheme}://{address.netloc}".lower()]))


def prefect_database_url(settings: Settings) -> tuple[str, dict[str, str]]:
    """Prefect's database as asyncpg spells it, and the TLS files for its environment. May hold a password."""
    from sqlalchemy.engine import make_url  # 0.3 s, for the one process that starts Prefect's server

    url = make_url(settings.ops_url).set(drivername="postgresql+asyncpg", database=settings.prefect_database)
    query: dict[str, Any] = {}
    tls: dict[str, str] = {}
    for name, value in url.query.items():
        if name in ("host", "port", "passfile"):
            query[name] = value
        elif name == "sslmode":
            query["ssl"] = value
        elif name in _TLS and isinstance(value, str):
            tls[_TLS[name]] = value
        elif name not in _OURS_ALONE:
            raise UsageError(f"OPS_DATABASE_URL: the Prefect server's driver does not take `{name}`")
    return url.set(query=query).render_as_string(hide_password=False), tls


def inherited(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what leads to another Prefect."""
    return {name: value for name, value in environment.items() if name not in FOREIGN}


def use(settings: Settings) -> bool:
    """Let this process talk to the room's Prefect. Call it before anything imports `prefect`.

    Returns whether anybody listens on the server's port. Raises UntrustedListenerError when another user of this host
    does: from now on this process sends nothing to such a one.
    """
    guard(settings.prefect_port)
    ours = client_env(settings)
    for name in FOREIGN:
        os.environ.pop(name, None)
    os.environ.update(ours)
    return check_listener(settings.prefect_port)


def write_profile(settings: Settings) -> None:
    """Make `room` the active profile of PREFECT_HOME, so that plain `prefect` commands reach the room too.

    Other profiles in the file stay.
    """
    path = settings.home / "prefect" / "profiles.toml"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        profiles = tomllib.loads(path.read_text()).get("profiles", {})
    except (OSError, ValueError):
        profiles = {}
    ours = {name: value for name, value in client_env(settings).items() if name.startswith("PREFECT_")}
    ours.pop("PREFECT_HOME")
    profiles["room"] = ours
    lines = ['active = "room"']
    for name, values in profiles.items():
        # a JSON string, number or boolean is the same in TOML
        lines += [
            "",
            f"[profiles.{json.dumps(name)}]",
            *(f"{key} = {json.dumps(item)}" for key, item in values.items()),
        ]
    replace_private(path, "\n".join(lines) + "\n")


def prefect_command(words: str) -> str:
    """A command of Prefect's own as it works in any shell, once `use` was called: `PREFECT_HOME=... prefect WORDS`."""
    return f"PREFECT_HOME={shlex.quote(os.environ.get('PREFECT_HOME', '.ops/prefect'))} prefect {words}"


def _random_auth_string() -> str:
    return f"ops:{random_secrets.token_urlsafe(32)}"


def _as_json(secrets: Secrets) -> str:
    return json.dumps(asdict(secrets), indent=2) + "\n"


def _checked(value: dict[str, object]) -> Secrets:
    secrets = Secrets(str(value["prefect_auth_string"]), str(value["prefect_encryption_key"]))
    user, _, password = secrets.prefect_auth_string.partition(":")
    if user != "ops" or len(password) < 16 or len(base64.urlsafe_b64decode(secrets.prefect_encryption_key)) != 32:
        raise ValueError
    return secrets
