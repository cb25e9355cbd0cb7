"""Where alerts go: the addresses of OPS_ALERT_URLS, what each gets, and one attempt to reach it.

An address is a secret as a whole: what is shown, logged and stored is a destination's name, which does not tell it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import exporter.alerting.apprise_log  # noqa: F401 - before anything can log there
from exporter.alerting.routes import BLOCK, Route, read_routes
from opsdb.alerts.episodes import Severity
from opsdb.alerts.outbox import Failure, Message
from opsdb.errors import UsageError
from opsdb.kinds.kind_names import read_kind_names
from opsdb.settings import Settings

EXAMPLE = "mmosts://ops@chat.example.org/TOKEN/?to=ops-alerts"


class Notifier(Protocol):
    """A way to one place. `post` tries once: None when the message arrived. It never raises, and takes seconds."""

    def post(self, message: Message) -> Failure | None: ...


@dataclass(frozen=True, kw_only=True)
class Destination:
    """A receiver of alerts. Without severities, or without kinds, of all of them."""

    name: str
    severities: frozenset[Severity]
    kinds: frozenset[str]
    notifier: Notifier = field(repr=False)

    def wants(self, severity: Severity, kinds: Collection[str]) -> bool:
        """Whether it gets alerts of this severity about runs of these kinds; what is of no kind concerns everybody."""
        severe = not self.severities or severity in self.severities
        return severe and (not self.kinds or not kinds or not self.kinds.isdisjoint(kinds))

    def send(self, message: Message) -> Failure | None:
        """Try once to deliver a message. None when it arrived. Never raises; takes seconds."""
        return self.notifier.post(message)


def read_destinations(settings: Settings) -> list[Destination]:
    """The destinations that OPS_ALERT_URLS names. Raises as `read_routes`, and for an address that leads nowhere."""
    return reach(settings, read_routes(settings, read_kind_names(settings)))


def reach(settings: Settings, routes: Sequence[Route]) -> list[Destination]:
    """The destinations of routes: Apprise addresses, or `block:NAME`, the webhook in a block of Prefect's.

    Raises UsageError that names an entry by its number.
    """
    found: dict[str, Destination] = {}
    for route in routes:
        for position, notifier in enumerate(_notifiers(settings, route.url, route.number)):
            name = route.url if route.url.startswith(BLOCK) else _name(route.url, position)
            found[name] = Destination(name=name, severities=route.severities, kinds=route.kinds, notifier=notifier)
    return list(found.values())


def _notifiers(settings: Settings, url: str, number: int) -> list[Notifier]:
    """The notifiers for an address; a webhook of several channels is several, since each may fail alone."""
    if url.startswith(BLOCK):
        from exporter.alerting.webhook_block import WebhookBlock

        name = url.removeprefix(BLOCK)
        if re.fullmatch(r"[a-z0-9][a-z0-9-]{0,99}", name) is None:
            raise UsageError(
                f"OPS_ALERT_URLS: entry {number}: a block's name has small letters, digits and dashes, as in "
                "`block:ops-alerts`"
            )
        return [WebhookBlock(settings, name)]
    from apprise import Apprise, AppriseAsset

    from exporter.alerting.apprise_notifier import AppriseNotifier
    from exporter.alerting.mattermost import SCHEMES, MattermostWebhook, is_webhook

    scheme = url.partition("://")[0].lower()
    if scheme in SCHEMES:
        try:
            parsed = MattermostWebhook.parse_url(url)
            whole = MattermostWebhook(**parsed)
        except (TypeError, ValueError):
            raise _unknown(scheme, number) from None
        if is_webhook(whole):
            channels = [channel for _, channel in whole.targets]
            one_each = [MattermostWebhook(**{**parsed, "targets": [f"#{channel}"]}) for channel in channels] or [whole]
            for webhook in one_each:
                webhook.mention = settings.alert_mention
            return list(one_each)
    # without redirects: one that leads to a login page would count as success
    notifier = Apprise.instantiate(url, asset=AppriseAsset(http_redirects=False))
    if notifier is None:
        raise _unknown(scheme, number)
    return [AppriseNotifier(notifier, overflows="overflow=" not in url)]


def _unknown(scheme: str, number: int) -> UsageError:
    shown = scheme if re.fullmatch(r"[a-z]{1,20}", scheme) else "?"
    return UsageError(
        f"OPS_ALERT_URLS: entry {number} ({shown}://...) is not an address that Apprise knows. Entries stand between "
        f"blanks, as in `{EXAMPLE}`"
    )


def _name(url: str, position: int) -> str:
    """A name that stays the same as long as the address does, and from which the address cannot be guessed."""
    digest = hashlib.scrypt(f"{position} {url}".encode(), salt=b"ops alert destination", n=2**14, r=8, p=1, dklen=4)
    return f"{url.partition('://')[0].lower()}-{digest.hex()}"
