"""Which repositories a deployment may run code of, and whether it asks before it does."""

from __future__ import annotations

from flows.engine.approval import approval
from opsdb.errors import PreflightError
from opsdb.settings import Settings


def check_allowed(url: str, settings: Settings) -> None:
    """Raise PreflightError for a repository that OPS_ALLOWED_REPOSITORIES leaves out. While that is empty, none is."""
    allowed = settings.allowed_repositories.split()
    if allowed and not any(_covers(entry, url) for entry in allowed):
        raise PreflightError(
            f"repo_url: {url} is not an allowed repository. Hint: OPS_ALLOWED_REPOSITORIES lists the URLs that may be "
            "deployed; whoever operates the room can add this one"
        )


def approve_deploy(question: str, url: str, settings: Settings, *, minutes: int) -> None:
    """Wait for an approval where OPS_DEPLOY_APPROVAL or the lack of allowed repositories asks for one."""
    listed = bool(settings.allowed_repositories)
    if settings.deploy_approval or not listed:
        advice = f"No repository is allowed yet. Hint: set OPS_ALLOWED_REPOSITORIES={url} to allow this one"
        approval("approve_deploy", question, timeout=60 * minutes, advice="" if listed else advice)


def _covers(entry: str, url: str) -> bool:
    """Whether an entry is that URL, or ends in a slash and the URL continues from there. `.git` makes no difference."""
    entry, url = _plain(entry), _plain(url)
    return url.startswith(entry) if entry.endswith("/") else url == entry


def _plain(url: str) -> str:
    """The URL with its host in lower case and without `.git`; the case of a path is the host's own affair."""
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.lower()}{slash}{path.removesuffix('.git')}"
