"""Which authorities are trusted on the way to operators: the same ones for every destination.

Libraries differ: some read the system's, `requests` reads those of `certifi`. Both read a file that their environment
names, so one file with all of them, and with those of OPS_ALERT_CA_FILE, is written and named.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from opsdb.errors import UsageError
from opsdb.private_files import replace_private
from opsdb.settings import Settings

log = logging.getLogger(__name__)

FILE = "alert-authorities.pem"
NAMES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
SYSTEM = (Path("/etc/ssl/certs/ca-certificates.crt"), Path("/etc/pki/tls/certs/ca-bundle.crt"))


@contextmanager
def trusting(settings: Settings) -> Iterator[None]:
    """Trust them in this process meanwhile. Begin it before any thread that delivers.

    Without OPS_ALERT_CA_FILE, files that the environment names already stay the ones; with it they are trusted as well.
    Raises UsageError for a setting that names no file of certificates.
    """
    own = read_authorities(settings.alert_ca_file)
    before = {name: os.environ.get(name) for name in NAMES}
    if own is None and any(before.values()):
        yield
        return
    try:
        path = settings.home / FILE
        settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_private(path, "\n".join([own or "", *_known(before.values())]))
    except OSError as error:
        log.warning("%s: %s; each destination trusts what its library does", path, error.strerror)
        yield
        return
    os.environ |= dict.fromkeys(NAMES, str(path))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def read_authorities(path: Path | None) -> str | None:
    """The certificates of a PEM file, None where none is named. Raises UsageError where it holds none."""
    if path is None:
        return None
    try:
        text = path.read_text(encoding="utf-8", errors="replace")  # of comments, in whatever letters
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except OSError as error:  # SSLError is one
        reason = "it holds no certificate in PEM" if isinstance(error, ssl.SSLError) else error.strerror
        raise UsageError(f"OPS_ALERT_CA_FILE: {path}: {reason}") from None
    except (ValueError, TypeError):
        raise UsageError(f"OPS_ALERT_CA_FILE: {path}: it holds no certificate in PEM") from None
    return text


def _known(named: Iterable[str | None]) -> Iterator[str]:
    import certifi

    default = ssl.get_default_verify_paths().openssl_cafile
    for path in dict.fromkeys([*(Path(one) for one in named if one), Path(certifi.where()), *SYSTEM, Path(default)]):
        try:
            yield path.read_text(errors="replace")
        except OSError:
            continue
