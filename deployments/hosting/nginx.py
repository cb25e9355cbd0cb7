"""nginx before the room: TLS, its host name, WebSockets. Judged by `nginx -t` and gixy."""

from __future__ import annotations

import re
import tempfile
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field

from deployments.hosting.certificate import make_certificate
from deployments.hosting.programs import absent, find_program, judged, run_program
from deployments.hosting.template import Files, Template, Verdict
from deployments.hosting.values import Address, HttpsAddress, Networks, Port, UnixPath, Upstream, Values

_CERTIFICATE = re.compile(
    r"(?P<directive>\bssl_certificate(?:_key)?|\bproxy_ssl_trusted_certificate)\s+(?P<path>[^;\s]+);"
)
_LISTEN = re.compile(r"\b(listen\s+(?:\[::\]:)?)(\d+)(?=[\s;])")
_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class NginxValues(Values):
    """What the site of the room takes."""

    server_url: HttpsAddress = Field(description="Where operators reach the room, as in https://ops.example.org/room.")
    prefect_port: Port = Field(4200, description="Port of the room on this host.")
    upstream: Upstream | None = Field(
        None,
        description="Where the room answers, if not on this host: https://host:port. Default: the port of loopback.",
    )
    upstream_ca: UnixPath = Field(
        "/etc/ssl/certs/ca-certificates.crt", description="Authorities that an https upstream is verified against."
    )
    resolver: Address = Field("127.0.0.53", description="DNS server that is asked for an upstream with a name.")
    certificate: UnixPath | None = Field(
        None, description="Certificate chain, PEM. Default: that of certbot for the host name."
    )
    certificate_key: UnixPath | None = Field(None, description="Its private key, PEM. Default: beside it, by certbot.")
    acme_root: UnixPath = Field("/var/www/html", description="Folder in which certbot answers for the host name.")
    allow_from: Networks = Field((), description="Networks that may use the site. Default: everybody.")

    @property
    def host(self) -> str:
        """The host name of the site."""
        return urlsplit(self.server_url).hostname or ""

    @property
    def port(self) -> int:
        """The port of the site."""
        return urlsplit(self.server_url).port or 443

    @property
    def path(self) -> str:
        """The path of the room, as `/room`; empty at the root."""
        return urlsplit(self.server_url).path

    @property
    def origin(self) -> str:
        """The address of the site without a path."""
        return self.server_url.removesuffix(self.path) if self.path else self.server_url

    @property
    def certificate_file(self) -> str:
        """The certificate chain."""
        return self.certificate or f"/etc/letsencrypt/live/{self.host}/fullchain.pem"

    @property
    def certificate_key_file(self) -> str:
        """The key of the certificate."""
        return self.certificate_key or f"{self.certificate_file.rpartition('/')[0]}/privkey.pem"

    @property
    def upstream_address(self) -> str:
        """Where nginx finds the room."""
        return self.upstream or f"http://127.0.0.1:{self.prefect_port}"

    @property
    def upstream_scheme(self) -> str:
        """`http` or `https`."""
        return urlsplit(self.upstream_address).scheme

    @property
    def upstream_host(self) -> str:
        """The name that the upstream's certificate must have."""
        return urlsplit(self.upstream_address).hostname or ""

    @property
    def upstream_authority(self) -> str:
        """The upstream's host and port."""
        return urlsplit(self.upstream_address).netloc

    @property
    def resolver_address(self) -> str:
        """The DNS server as nginx writes it."""
        return f"[{self.resolver}]" if ":" in self.resolver else self.resolver

    @property
    def upstream_is_name(self) -> bool:
        """Whether the upstream has to be looked up."""
        try:
            ip_address(self.upstream_host)
        except ValueError:
            return True
        return False


def check_nginx(files: Files) -> Verdict:
    """Let `nginx -t` read the site. Ports below 1024 and certificates that are not here are replaced for that."""
    program = find_program("nginx")
    if program is None:
        return absent("nginx -t", "nginx is not installed here: apt-get install nginx-light")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "nginx.conf").write_text(server_configuration("".join(files.values()), folder))
        answer = run_program([program, "-t", "-q", "-c", str(folder / "nginx.conf"), "-e", str(folder / "log")])
    return judged("nginx -t", answer, silent=True)


def server_configuration(site: str, folder: Path) -> str:
    """A whole configuration with the site in it, for a server that runs in the folder as an ordinary user."""
    made: tuple[Path, Path] | None = None

    def replaced(match: re.Match[str]) -> str:
        nonlocal made
        if _readable(match["path"]):
            return match[0]
        made = made or make_certificate(folder)
        return f"{match['directive']} {made[1] if match['directive'].endswith('_key') else made[0]};"

    site = _LISTEN.sub(lambda match: match[1] + str(int(match[2]) + (20000 if int(match[2]) < 1024 else 0)), site)
    places = "".join(f"{kind}_temp_path {folder};" for kind in _TEMPORARY)
    return (
        f"daemon off; pid {folder}/pid; error_log {folder}/log; events {{}}\n"
        f"http {{ access_log off; {places}\n{_CERTIFICATE.sub(replaced, site)}\n}}\n"
    )


def check_gixy(files: Files) -> Verdict:
    """Let gixy look for settings of nginx that let somebody in."""
    program = find_program("gixy-next") or find_program("gixy")
    if program is None:
        return absent("gixy", "gixy is not installed here: pip install gixy-next")
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "nginx.conf"
        path.write_text(f"worker_processes auto;\nevents {{}}\nhttp {{\n{''.join(files.values())}\n}}\n")
        return judged("gixy", run_program([program, "--disable-includes", str(path)]))


def _readable(path: str) -> bool:
    try:
        with Path(path).open("rb"):
            return True
    except OSError:
        return False


NGINX = Template(
    name="nginx",
    about="The room behind nginx, with TLS and WebSockets.",
    values=NginxValues,
    files={"ops-control-room.conf": "nginx.conf.j2"},
    checks=(check_nginx, check_gixy),
)
