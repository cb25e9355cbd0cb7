"""Whether the Mattermost of a block of Prefect's own type Mattermost Webhook answers. Nothing is posted."""

from __future__ import annotations

import re

import httpx
from prefect.blocks.notifications import MattermostWebhook

from blocks.check import Check

ASK_SECONDS = 5.0
TOKEN = re.compile(r"[a-z0-9]{26}")
PING = "/api/v4/system/ping"


def check_mattermost(block: MattermostWebhook) -> list[Check]:
    """Look at the block's fields, and ask the server whether it is well. Takes a few seconds at most."""
    return [*check_fields(block), check_server(block)]


def check_fields(block: MattermostWebhook) -> list[Check]:
    """What the form lets pass, and alerts would stumble over."""
    checks = []
    if TOKEN.fullmatch(block.token.get_secret_value()):
        checks.append(Check("token", "looks like one"))
    else:
        advice = "paste what follows /hooks/ in the webhook's address: 26 small letters and digits"
        checks.append(Check("token", "is none of Mattermost's", advice))
    if len(block.channels or []) > 1:
        advice = "name one channel, or none; give each channel a block of its own"
        checks.append(Check("channels", f"{len(block.channels or [])} channels", advice))
    return checks


def check_server(block: MattermostWebhook) -> Check:
    """Whether a Mattermost answers there."""
    scheme = "https" if block.secure else "http"
    host = f"[{block.hostname}]" if ":" in block.hostname else block.hostname
    where = f"{block.hostname}:{block.port}"
    try:
        url = httpx.URL(f"{scheme}://{host}:{block.port}{(block.path or '').rstrip('/')}{PING}")
        with httpx.Client(timeout=ASK_SECONDS, trust_env=False) as http:
            answer = http.get(url)
    except (httpx.InvalidURL, ValueError):
        return Check(
            "server", "host name, port and path make no address", "give the host name alone, as chat.example.org"
        )
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
        return Check("server", f"Mattermost at {where} is not well (HTTP {answer.status_code})", "look at Mattermost")
    return Check(
        "server",
        f"something else than Mattermost answers at {where} (HTTP {answer.status_code})",
        "correct host, port and path",
    )
