"""How long something must last before it is alerted of, for each rule and kind."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from opsdb.alerts.episodes import Rule
from opsdb.errors import UsageError
from opsdb.near_names import did_you_mean

OFF = math.inf
DEFAULTS = {
    Rule.QUEUED: 900.0,
    Rule.FAILED: OFF,
    Rule.APPROVAL: 0.0,
    Rule.BACKUP: 26 * 3600.0,
    Rule.LEFTOVERS: 30.0,
    Rule.WORKER_LOST: 30.0,
    Rule.SYNC_BEHIND: 60.0,
    Rule.SCHEDULE: 180.0,
}
"""The rules whose threshold is set here, in seconds. The others' are the sweeper's own settings."""
BY_KIND = (Rule.QUEUED, Rule.FAILED)
UNATTENDED = ("nightly_backup", "odoo_db_backup", "odoo_restore_drill", "odoo_staging_copy")
"""The runbooks that a schedule starts: nobody watches them fail."""
KIND_DEFAULTS = {(Rule.FAILED, kind): 30.0 for kind in UNATTENDED}
"""They stand where no threshold is given for all of the rule's kinds. The room's own retries come within that time."""
EXAMPLE = "queued=900 queued:odoo_db_backup=7200 failed:odoo_module_upgrade=0 leftovers=off"


@dataclass(frozen=True)
class Thresholds:
    """Seconds by rule, and by rule and kind where a kind has its own. `OFF` is never."""

    rules: Mapping[Rule, float] = field(default_factory=lambda: dict(DEFAULTS))
    kinds: Mapping[tuple[Rule, str], float] = field(default_factory=lambda: dict(KIND_DEFAULTS))
    named: frozenset[str] = frozenset()
    """The kinds that an operator named."""

    def kinds_of(self, rule: Rule) -> dict[str, float]:
        """The kinds with a threshold of their own."""
        return {kind: seconds for (of, kind), seconds in self.kinds.items() if of is rule}

    def off(self, rule: Rule) -> bool:
        """Whether the rule never alerts, of no kind."""
        return all(seconds == OFF for seconds in (self.rules[rule], *self.kinds_of(rule).values()))


def parse_thresholds(words: str, known_kinds: Collection[str] | None = None) -> Thresholds:
    """Read `RULE=SECONDS` and `RULE:KIND=SECONDS`, separated by blanks; `off` is never.

    `RULE=` is for all kinds that no `RULE:KIND=` names, also those with a default of their own. `known_kinds` are those
    that may be named; None is any.
    Raises UsageError that names the word that is wrong, and the nearest right one.
    """
    rules, kinds = dict[Rule, float](), dict[tuple[Rule, str], float]()
    for word in words.split():
        name, _, value = word.partition("=")
        rule_name, colon, kind = name.partition(":")
        if rule_name not in set(Rule):
            raise _wrong(word, near=(rule_name, DEFAULTS))
        rule = Rule(rule_name)
        try:
            seconds = OFF if value == "off" else float(value)
        except ValueError:
            raise _wrong(word) from None
        if rule not in DEFAULTS or (colon and (rule not in BY_KIND or not kind)) or not seconds >= 0:
            raise _wrong(word)
        if colon and known_kinds is not None and kind not in known_kinds:
            raise _wrong(word, near=(kind, known_kinds))
        if kind:
            kinds[rule, kind] = seconds
        else:
            rules[rule] = seconds
    kept = {(rule, kind): seconds for (rule, kind), seconds in KIND_DEFAULTS.items() if rule not in rules}
    return Thresholds(DEFAULTS | rules, kept | kinds, frozenset(kind for _, kind in kinds))


def _wrong(word: str, *, near: tuple[str, Iterable[str]] | None = None) -> UsageError:
    shown = f"OPS_ALERT_THRESHOLDS: {word[:100]!r}"
    form = f"RULE=SECONDS, RULE=off, or RULE:KIND= for {' and '.join(BY_KIND)}. Rules: {', '.join(DEFAULTS)}."
    if near is None:
        return UsageError(f"{shown}: expected {form} As in `{EXAMPLE}`")
    name, known = near
    return UsageError(f"{shown}: unknown {name[:63]!r}.{did_you_mean(name, known)} Hint: {form}")
