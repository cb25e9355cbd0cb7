"""Mattermost's webhook as an operator filled it into a block of Prefect's, of the type Mattermost Webhook.

Read over Prefect's REST API at each message, so that a change counts at once. While Prefect does not answer, what was
read last is used.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import httpx

from exporter.alerting.mattermost import MattermostWebhook
from exporter.alerting.reasons import failure_of
from opsdb.alerts.outbox import Failure, Message
from opsdb.listener import guard
from opsdb.settings import Settings

ASK_SECONDS = 4.0
PATH = "/api/block_types/slug/mattermost-webhook/block_documents/name/"


@dataclass
class WebhookBlock:
    """One block by its name. It holds the token in memory only."""

    settings: Settings
    name: str
    _known: MattermostWebhook | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        guard(self.settings.prefect_port)

    def post(self, message: Message) -> Failure | None:
        """Post the message once. None when Mattermost took it. Never raises, never logs."""
        failure = self._read()
        if self._known is None:
            return failure or Failure(reason="configuration", lasting=True)
        if failure is not None and failure.lasting:
            return failure
        return self._known.post(message)

    def _read(self) -> Failure | None:
        try:
            user, _, password = _auth_string(self.settings).partition(":")
            with httpx.Client(auth=(user, password), timeout=ASK_SECONDS, trust_env=False) as http:
                url = f"http://127.0.0.1:{self.settings.prefect_port}{PATH}{self.name}"
                answer = http.get(url, params={"include_secrets": "true"})
            if answer.status_code >= 500:
                return Failure(reason="server", http_status=answer.status_code)
            if answer.status_code != httpx.codes.OK:  # no such block, or not our password
                return Failure(reason="configuration", lasting=True, http_status=answer.status_code)
            self._known = webhook(answer.json()["data"])
            self._known.mention = self.settings.alert_mention
        except httpx.HTTPError as error:
            return failure_of(error)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return Failure(reason="configuration", lasting=True)
        return None


def webhook(data: dict[str, Any]) -> MattermostWebhook:
    """The webhook that a block's fields describe. Raises ValueError, KeyError or TypeError for an invalid block.

    One channel, or the webhook's own: of several, each could fail alone, and the others would get it twice.
    """
    channels = data.get("channels") or []
    if len(channels) > 1:
        raise ValueError("expected one channel in a block; give each channel a block of its own")
    return MattermostWebhook(
        token=data["token"],
        host=data["hostname"],
        port=data.get("port") or 8065,
        secure=bool(data.get("secure")),
        fullpath=data.get("path") or "",
        user=data.get("botname"),
        targets=[f"#{channel.removeprefix('#')}" for channel in channels],
        include_image=False,
    )


def _auth_string(settings: Settings) -> str:
    return str(json.loads((settings.home / "secrets.json").read_text())["prefect_auth_string"])
