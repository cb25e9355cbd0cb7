"""One of Apprise's hundred destinations: the message in the format that it shows, and why it did not arrive."""

from __future__ import annotations

from typing import Any

from apprise.common import NotifyFormat, NotifyType, OverflowMode
from apprise.conversion import convert_between

from exporter.alerting.apprise_log import capture
from exporter.alerting.markup import plain_text, show_addresses, without_mentions
from exporter.alerting.reasons import failure_of, failure_of_status
from opsdb.alerts.outbox import Failure, Level, Message

TYPES = {
    Level.CRITICAL: NotifyType.FAILURE,
    Level.FAILURE: NotifyType.FAILURE,
    Level.WARNING: NotifyType.WARNING,
    Level.INFO: NotifyType.INFO,
    Level.SUCCESS: NotifyType.SUCCESS,
}
SHORT_BODY = 500
"""Characters. A destination that holds no more, such as a text message, gets the beginning; others several parts."""


class AppriseNotifier:
    """Its result is success or failure; the reason is the HTTP status that its log names.

    `overflows`: whether the address leaves it to us what becomes of a text that is too long.
    """

    def __init__(self, notifier: Any, *, overflows: bool) -> None:
        self._notifier = notifier
        if overflows:
            short = notifier.body_maxlen <= SHORT_BODY
            notifier.overflow_mode = OverflowMode.TRUNCATE if short else OverflowMode.SPLIT

    def post(self, message: Message) -> Failure | None:
        """Send the message once. None when it arrived. Never raises."""
        seen = capture.seen
        seen.status, seen.failure = None, None
        try:
            text, text_format = self._text_of(message)
            if self._notifier.notify(
                title=message.title, body=text, notify_type=TYPES[message.level], body_format=text_format
            ):
                return None
        except Exception as error:  # whatever a notifier of a hundred does, the others continue
            return failure_of(error)
        if seen.status is not None:
            return failure_of_status(seen.status)
        return seen.failure or Failure(reason="error")

    def _text_of(self, message: Message) -> tuple[str, NotifyFormat]:
        """What stands below the title, in the format that the destination shows best."""
        head, _, rest = message.body.partition("\n")
        below = rest.lstrip("\n") or head
        shown = self._notifier.resolve_format(NotifyFormat.MARKDOWN)
        if self._shows_markdown():
            below = without_mentions(below)  # whatever the address asks for
        if shown == NotifyFormat.TEXT:
            return plain_text(below), NotifyFormat.TEXT
        if shown == NotifyFormat.HTML:
            words = show_addresses(below)
            # Apprise is typed in part only
            page = convert_between(NotifyFormat.MARKDOWN, NotifyFormat.HTML, words)  # type: ignore[no-untyped-call]
            # of this Apprise makes a plain text as well, in which each <code> would have lines of its own
            return page.replace("<code>", "<tt>").replace("</code>", "</tt>"), NotifyFormat.HTML
        return below, NotifyFormat.MARKDOWN

    def _shows_markdown(self) -> bool:
        """Whether it is a chat, and not a program that reads the message."""
        kind = type(self._notifier)
        formats = kind.notify_format if isinstance(kind.notify_format, tuple) else (kind.notify_format,)
        return NotifyFormat.MARKDOWN in formats and not kind.__module__.rpartition(".")[2].startswith("custom_")
