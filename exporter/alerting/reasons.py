"""Why a message did not get through: what libraries raise and servers answer, as one closed set of words.

The words are `REASONS` of the outbox: in `ops alerts`, as a label of the metrics, and in the table of
docs/alerts-reference.md. What an error says is never used: it may hold an address, which is a secret.
"""

from __future__ import annotations

import http.client
import smtplib
import socket
import ssl
from collections.abc import Iterator

from opsdb.alerts.outbox import Failure

_WRONG_NAME = (62, 63, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, of an e-mail address, of an IP address
_TLS_ALERT = "\x15\x03"
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE")
_LASTING = ("tls_untrusted", "tls_name", "no_tls", "wants_tls", "login", "recipient", "configuration")
"""What stays as it is until somebody changes something."""


def failure_of(error: BaseException, *, proxied: bool = False) -> Failure:
    """What an error means that was raised on the way. `proxied`: the connection leads to a proxy."""
    chain = list(_chain(error))
    reason = _reason(chain, proxied=proxied)
    misnamed = reason == "proxy" and any(isinstance(one, ValueError) for one in chain)
    return Failure(reason=reason, lasting=misnamed or reason in _LASTING)


def failure_of_status(status: int, *, retry_after_seconds: float | None = None) -> Failure:
    """What an HTTP status means that is not the one of success."""
    if status == http.client.TOO_MANY_REQUESTS:
        return Failure(reason="rate_limited", http_status=status, retry_after_seconds=retry_after_seconds)
    if status == http.client.REQUEST_TIMEOUT or (status >= 500 and status != http.client.NOT_IMPLEMENTED):
        return Failure(reason="server", http_status=status, retry_after_seconds=retry_after_seconds)
    by_status: dict[int, str] = {http.client.UNAUTHORIZED: "login", http.client.PROXY_AUTHENTICATION_REQUIRED: "proxy"}
    reason = "redirect" if 300 <= status < 400 else by_status.get(status, "configuration")
    return Failure(reason=reason, lasting=True, http_status=status)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and all that it stands for: libraries wrap what happened, each in its own way."""
    seen, waiting = set[int](), [error]
    while waiting:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        context = None if one.__suppress_context__ else one.__context__
        inner = (one.__cause__, context, getattr(one, "reason", None), *one.args)
        waiting += [part for part in inner if isinstance(part, BaseException)]


def _reason(chain: list[BaseException], *, proxied: bool) -> str:
    names = {type(one).__name__ for one in chain}
    if "ProxyError" in names or any("Tunnel connection failed" in str(one) for one in chain):
        return "proxy"
    for one in chain:
        if found := _of_tls(one) or _of_mail(one) or _of_http(one):
            return found
    for kind, reason in _BY_TYPE:
        if any(isinstance(one, kind) for one in chain):
            return "proxy" if proxied and reason in ("dns", "refused", "connection") else reason
    return "timeout" if any(name.endswith(("Timeout", "TimeoutError")) for name in names) else "error"


_BY_TYPE: tuple[tuple[type[BaseException], str], ...] = (
    (socket.gaierror, "dns"),
    (ConnectionRefusedError, "refused"),
    (TimeoutError, "timeout"),
    (smtplib.SMTPServerDisconnected, "connection"),
    (smtplib.SMTPException, "unexpected_answer"),
    (http.client.RemoteDisconnected, "connection"),
    (ConnectionError, "connection"),
    (http.client.InvalidURL, "configuration"),
    (http.client.HTTPException, "unexpected_answer"),
    (OSError, "connection"),
    (ValueError, "configuration"),
)


def _of_tls(error: BaseException) -> str | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        return "tls_name" if error.verify_code in _WRONG_NAME else "tls_untrusted"
    if isinstance(error, ssl.CertificateError):  # of older libraries, for the name
        return "tls_name"
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return "connection"
    if isinstance(error, ssl.SSLError):
        return "no_tls" if error.reason in _NO_TLS else "tls"
    return None


def _of_mail(error: BaseException) -> str | None:
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return "login"
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return "configuration"
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        codes = [code for code, _ in error.recipients.values()]
        return "recipient" if any(code >= 500 for code in codes) else "server"
    if isinstance(error, smtplib.SMTPConnectError | smtplib.SMTPSenderRefused | smtplib.SMTPDataError):
        return "configuration" if error.smtp_code >= 500 else "server"
    return None


def _of_http(error: BaseException) -> str | None:
    if isinstance(error, http.client.BadStatusLine) and not isinstance(error, http.client.RemoteDisconnected):
        return (
            "wants_tls"
            if str(error.args[0] if error.args else "").lstrip("'\"").startswith((_TLS_ALERT, "\\x15\\x03"))
            else None
        )
    return None
