"""Certificates that nobody else trusts: one for this host's loopback, and an authority that issues them."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Authority:
    """Issues certificates, for servers and for logins, whose files are in its folder."""

    folder: Path

    @property
    def cert(self) -> Path:
        """What those trust who trust it."""
        return self.folder / "authority.pem"

    def issue(self, name: str, *, address: str = "") -> tuple[Path, Path]:
        """The files of a certificate for a login of that name, or for a server at that IP `address`, and its key."""
        cert, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        at = ["-addext", f"subjectAltName=IP:{address}"] if address else []
        _openssl(name, cert, key, *at, "-CA", str(self.cert), "-CAkey", str(self.folder / "authority.key"))
        return cert, key


def make_authority(folder: Path) -> Authority:
    """A new one, in a new folder that others may pass through."""
    folder.mkdir(mode=0o711)
    _openssl("authority", folder / "authority.pem", folder / "authority.key")
    return Authority(folder)


def _openssl(name: str, cert: Path, key: Path, *more: str) -> None:
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    files = ["-keyout", str(key), "-out", str(cert), "-subj", f"/CN={name}", "-days", "2"]
    subprocess.run(["openssl", "req", "-x509", *curve, *files, *more], check=True, capture_output=True)
