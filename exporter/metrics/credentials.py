"""Who may read the metrics: basic authentication against a hashed password, and TLS."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import re
import secrets
import ssl
import threading

from opsdb.errors import UsageError
from opsdb.settings import Settings

ITERATIONS = 600_000
STORED = re.compile(
    r"(?P<name>[^:]+):pbkdf2_sha256\$(?P<iterations>\d+)\$(?P<salt>[0-9a-f]+)\$(?P<digest>[0-9a-f]{64})"
)


def hash_password(name: str, password: str) -> str:
    """The value of OPS_EXPORTER_BASIC_AUTH for a user and a password, with a new salt."""
    salt = secrets.token_bytes(16)
    return f"{name}:pbkdf2_sha256${ITERATIONS}${salt.hex()}${_digest(password, salt, ITERATIONS).hex()}"


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

    def accept(self, header: str) -> bool:
        """Whether an `Authorization` header carries them. A guess costs its time; a known answer costs nothing."""
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            name, _, password = base64.b64decode(token, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return False
        mark = hmac.digest(self._key, header.encode(), "sha256")
        with self._lock:  # one guess at a time
            if self._known is not None and hmac.compare_digest(mark, self._known):
                return True
            right = hmac.compare_digest(_digest(password, self._salt, self._iterations), self._wanted)
            if right and hmac.compare_digest(name.encode(), self._name.encode()):
                self._known = mark
                return True
        return False


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
