"""A certificate for this host's loopback, that nobody else trusts."""

from __future__ import annotations

import subprocess
from pathlib import Path


def make_certificate(folder: Path, *, name: str = "IP:127.0.0.1") -> tuple[Path, Path]:
    """The files of a certificate for that name and its key."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", f"subjectAltName={name}", "-days", "2"]
    files = ["-keyout", str(key), "-out", str(cert)]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *files, *subject], check=True, capture_output=True
    )
    return cert, key
