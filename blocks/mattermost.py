"""Whether the Mattermost of a block of Prefect's own type Mattermost Webhook answers. Nothing is posted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import httpx

from blocks.check import Check

ASK_SECONDS = 5.0
TOKEN = re.compile(r"[a-z0-9]{26}")
HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:-]{0,252}")
PORT = 8065
PING = "/api/v4/system/ping"


def check_mattermost(fields: Mapping[str, Any]) -> list[Check]:
    """Look at the block's fields, and ask the server whether it is well. Takes a few seconds at most.

    They are taken as stored: the block itself would log a token that it cannot use.
    """
    return [*check_fields(fields), check_server(fields)]


def check_fields(fields: Mapping[str, Any]) -> list[Check]:
    """What the form lets pass, and alerts would stumble over."""
    checks, channels = [], fields.get("channels") or []
    if TOKEN.fullmatch(str(fields.get("token"))):
        checks.append(Check("token", "looks like one"))
    else:
        advice = "paste what follows /hooks/ in the webhook's address: 26 small letters and digits"
        checks.append(Check("token", "is not an address of Mattermost", advice))
    if len(channels) > 1:
        advice = "name one channel, or none; give each channel a block of its own"
        checks.append(Check("channels", f"{len(channels)} channels", advice))
    return checks


def check_server(fields: Mapping[str, Any]) -> Check:
    """Whether a Mattermost answers there."""
    scheme, name, port = "https" if fields.get("secure") else "http", str(fields.get("hostname")), fields.get("port")
    if HOST.fullmatch(name) is None:  # not shown: somebody may have put the whole address there, token included
        return Check("server", "the host name is not valid", "give the name or address alone, as in chat.example.org")
    host, path = f"[{name}]" if ":" in name else name, str(fields.get("path") or "").strip("/")
    where = f"{name}:{port or PORT}"
    try:
        with httpx.Client(timeout=ASK_SECONDS, trust_env=False) as http:
            answer = http.get(f"{scheme}://{host}:{port or PORT}{path and '/' + path}{PING}")
    except (httpx.InvalidURL, UnicodeError):
        return Check("server", "host name, port and path make no address", "correct them")
    except httpx.TimeoutException:
        return Check(
            "server", f"{where} did not answer within {ASK_SECONDS:g} s", "see that it is up, and the firewall"
        )
    except httpx.HTTPError as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        advice = "see that host name, port and `secure` are right, and that it is up"
        return Check("server", f"{where}: {reason}", advice)
    return judge_answer(where, answer)


def judge_answer(where: str, answer: httpx.Response) -> Check:
    """What the server's answer to the ping means."""
    try:
        status = answer.json().get("status") if answer.is_success else None
    except (ValueError, AttributeError):
        status = None
    if status == "OK":
        return Check("server", f"Mattermost answers at {where}")
    if answer.is_redirect:
        return Check(
            "server", f"{where} leads elsewhere (HTTP {answer.status_code})", "switch `secure` on, or correct the path"
        )
    if status is not None or answer.is_server_error:
        return Check(
            "server", f"Mattermost at {where} reports an error (HTTP {answer.status_code})", "look at Mattermost"
        )
    return Check(
        "server",
        f"something else than Mattermost answers at {where} (HTTP {answer.status_code})",
        "correct host, port and path",
    )
