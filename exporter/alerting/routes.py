"""What OPS_ALERT_URLS says: addresses, and the words before them that limit what goes there."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from exporter.alerting.links import links_of
from opsdb.alerts.episodes import Rule, Severity
from opsdb.alerts.thresholds import Thresholds, parse_thresholds
from opsdb.errors import UsageError
from opsdb.kinds.kind_names import KindNames, read_kind_names
from opsdb.kinds.template_files import KIND
from opsdb.near_names import did_you_mean, near_name
from opsdb.settings import Settings
from opsdb.web.hosts import LOOPBACK

BLOCK = "block:"
"""How an address begins that is the name of a block in Prefect."""
_WORD = re.compile(r"[A-Za-z0-9_-]{1,63}")
_LISTED = 12


@dataclass(frozen=True, kw_only=True)
class Route:
    """An address, and who hears what there. Without severities, or without kinds, all of them."""

    number: int
    """Its place in OPS_ALERT_URLS, from 1: the address itself is a secret."""
    severities: frozenset[Severity]
    kinds: frozenset[str]
    url: str = field(repr=False)

    @property
    def leaves_host(self) -> bool:
        """Whether its messages are read elsewhere, as far as the address shows. Mail is, wherever it is handed in."""
        try:
            parts = urlsplit(self.url)
            return parts.scheme.startswith("mail") or parts.hostname not in LOOPBACK
        except ValueError:
            return True


@dataclass(frozen=True, kw_only=True)
class Orders:
    """Who gets which alerts, and after how long."""

    routes: list[Route]
    thresholds: Thresholds
    gone: list[str]
    """The runbooks that are named and that this room does not have any more."""
    links_end_here: bool
    """Whether links in messages that leave this host lead to a loopback address: nobody can follow them there."""


def read_orders(settings: Settings) -> Orders:
    """Read OPS_ALERT_URLS and OPS_ALERT_THRESHOLDS. Raises UsageError for a word that means nothing.

    Addresses are not looked at: `read_destinations` does that.
    """
    names = read_kind_names(settings)
    routes = read_routes(settings, names)
    thresholds = parse_thresholds(settings.alert_thresholds, names.named if names.certain else None)
    named = {kind for route in routes for kind in route.kinds} | set(thresholds.named)
    gone = sorted(named - names.here) if names.complete else []
    here = links_of(settings).only_on is not None and any(one.leaves_host for one in routes)
    return Orders(routes=routes, thresholds=thresholds, gone=gone, links_end_here=here)


def read_routes(settings: Settings, names: KindNames) -> list[Route]:
    """The addresses between blanks, each with `WORDS=` before it or not: severities and kinds, with commas between.

    Raises UsageError that names an entry by its number, and a wrong word with the nearest right one.
    """
    urls = settings.alert_urls.get_secret_value() if settings.alert_urls else ""
    return [_route(number, entry, names) for number, entry in enumerate(urls.split(), 1)]


def _route(number: int, entry: str, names: KindNames) -> Route:
    words, equals, url = entry.partition("=")
    if not equals or ":" in words or "/" in words:  # the sign is the address's own
        words, url = "", entry
    chosen = {word for word in words.split(",") if word}
    severities = frozenset(Severity(word) for word in chosen if word in set(Severity))
    for word in sorted(chosen - severities):
        if not _may_name(word, names):
            raise UsageError(f"OPS_ALERT_URLS: entry {number}: {_unknown(word, names)}")
    return Route(number=number, severities=severities, kinds=frozenset(chosen - severities), url=url)


def _may_name(word: str, names: KindNames) -> bool:
    """Whether a word is, was, or where that is not known may be, the name of a runbook and no slip of a severity."""
    if word in names.named or names.certain:
        return word in names.named
    return bool(re.match(KIND, word)) and word not in set(Rule) and near_name(word, Severity) is None


def _unknown(word: str, names: KindNames) -> str:
    """Why a word chooses nothing. A word that may be a piece of an address is not shown."""
    known = sorted(names.here)
    listed = f"{', '.join(known[:_LISTED])}{' and more' * (len(known) > _LISTED)}"
    hint = f"Hint: words before = are severities ({', '.join(Severity)}) or runbooks ({listed})"
    if _WORD.fullmatch(word) is None:
        return f"unknown word before =. {hint}"
    if word in set(Rule):
        return f"{word!r} is a rule, whose severity is {Rule(word).severity.value!r}. {hint}"
    return f"unknown word {word!r}.{did_you_mean(word, [*Severity, *known])} {hint}"
