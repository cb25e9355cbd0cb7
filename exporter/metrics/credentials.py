"""Who may read the metrics: basic authentication against a hashed password, and TLS."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import re
import secrets
import ssl
import threading
from dataclasses import dataclass

from opsdb.errors import UsageError
from opsdb.settings import Settings
from opsdb.web.guesses import Guesses

ITERATIONS = 600_000
STORED = re.compile(
    r"(?P<name>[^:]+):pbkdf2_sha256\$(?P<iterations>\d+)\$(?P<salt>[0-9a-f]+)\$(?P<digest>[0-9a-f]{64})"
)


def hash_password(name: str, password: str) -> str:
    """The value of OPS_EXPORTER_BASIC_AUTH for a user and a password, with a new salt."""
    salt = secrets.token_bytes(16)
    return f"{name}:pbkdf2_sha256${ITERATIONS}${salt.hex()}${_digest(password, salt, ITERATIONS).hex()}"


@dataclass(frozen=True)
class Verdict:
    """Whether a password is right, or after how many seconds it may be looked at."""

    right: bool
    retry_seconds: int = 0


RIGHT, WRONG = Verdict(right=True), Verdict(right=False)


class Credentials:
    """One user and the hash of the password. Raises UsageError for a value that `hash_password` did not make."""

    def __init__(self, stored: str) -> None:
        match = STORED.fullmatch(stored)
        if match is None or not 1 <= int(match["iterations"]) <= 10_000_000:
            raise UsageError("OPS_EXPORTER_BASIC_AUTH: make its value with `ops exporter --hash-password NAME`")
        self._name, self._iterations = match["name"], int(match["iterations"])
        self._salt, self._wanted = bytes.fromhex(match["salt"]), bytes.fromhex(match["digest"])
        self._lock = threading.Lock()
        self._known: bytes | None = None
        self._key = secrets.token_bytes(32)
        self._guesses = Guesses("the metrics")

    def check(self, header: str, *, client: str) -> Verdict:
        """Judge an `Authorization` header. What was right once costs nothing again and waits for nobody."""
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "basic":
            return WRONG
        try:
            given = base64.b64decode(token, validate=True)
            name, _, password = given.decode().partition(":")
        except ValueError:  # no base64, or no UTF-8 in it
            return WRONG
        mark = hmac.digest(self._key, given, "sha256")
        if self._known is not None and hmac.compare_digest(mark, self._known):
            return RIGHT
        if retry_seconds := self._guesses.take(client):
            return Verdict(right=False, retry_seconds=retry_seconds)
        with self._lock:  # one guess at a time: each takes as long as a processor needs to hash
            right = hmac.compare_digest(_digest(password, self._salt, self._iterations), self._wanted)
        if not right or not hmac.compare_digest(name.encode(), self._name.encode()):
            return WRONG
        self._known = mark
        return RIGHT


def check_listening(settings: Settings) -> None:
    """Raise UsageError for an address that is open to others without TLS and without a password."""
    guarded = settings.exporter_basic_auth is not None or settings.exporter_tls_cert is not None
    if not guarded and not ipaddress.ip_address(settings.exporter_address).is_loopback:
        raise UsageError(
            f"OPS_EXPORTER_ADDRESS {settings.exporter_address} is open to others: set OPS_EXPORTER_BASIC_AUTH, or "
            "OPS_EXPORTER_TLS_CERT and OPS_EXPORTER_TLS_KEY, or leave it at 127.0.0.1"
        )
    if (settings.exporter_tls_cert is None) != (settings.exporter_tls_key is None):
        raise UsageError("OPS_EXPORTER_TLS_CERT and OPS_EXPORTER_TLS_KEY belong together: set both or none")


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """How to speak TLS, or None. Raises UsageError when the files cannot be used."""
    if settings.exporter_tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.exporter_tls_cert, settings.exporter_tls_key)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"OPS_EXPORTER_TLS_CERT {settings.exporter_tls_cert} with OPS_EXPORTER_TLS_KEY "
            f"{settings.exporter_tls_key} cannot be used: {error.strerror or error}"
        ) from error
    return context


def _digest(password: str, salt: bytes, iterations: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
