"""What became of the runs of a soak, and the page that says so."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass, field


@dataclass
class Kill:
    """Something that was killed, when, and the runs that lost their process by it."""

    what: str
    at: float
    runs: list[str] = field(default_factory=list)


@dataclass
class Account:
    """What became of the runs. Every list but `found_seconds` names offenders, and must be empty."""

    runs: int
    kills: list[Kill]
    seconds: float
    statuses: dict[str, int]
    retried: int
    found_seconds: list[float]
    lost: list[str]
    failed_without_a_kill: list[str]
    twice_at_once: list[str]
    incomplete: list[str]
    after_the_verdict: list[str]
    processes_left: list[str]
    files_left: list[str]

    @property
    def offenders(self) -> dict[str, list[str]]:
        """The lists that must be empty, and are not."""
        names = ("lost", "failed_without_a_kill", "twice_at_once", "incomplete", "after_the_verdict")
        return {n: v for n in (*names, "processes_left", "files_left") if (v := getattr(self, n))}


def report(account: Account) -> str:
    """The account as a page."""
    found = account.found_seconds
    buckets = [(0, 2), (2, 5), (5, 15), (15, 30), (30, 35), (35, 10_000)]
    kills: dict[str, int] = defaultdict(int)
    for kill in account.kills:
        kills[kill.what] += 1
    rows = {
        "runs lost": len(account.lost),
        "runs failed that nobody killed": len(account.failed_without_a_kill),
        "runs executed twice at once, or a step twice in an attempt": len(account.twice_at_once),
        "runs succeeded without all of their effects": len(account.incomplete),
        "effects after the room had declared the run dead": len(account.after_the_verdict),
        "killed runs found after more than 35 s": sum(seconds > 35 for seconds in found),
        "processes left": len(account.processes_left),
        "files left in `running` and `journal`": len(account.files_left),
    }
    lines = [
        "# Soak",
        "",
        f"`make soak`: {account.runs} runs, two workers, {account.seconds / 60:.0f} minutes on {os.cpu_count()} cores.",
        f"{len(account.kills)} kills (SIGKILL): {', '.join(f'{n} {what}' for what, n in sorted(kills.items()))}.",
        f"Ends: {', '.join(f'{n} {status}' for status, n in sorted(account.statuses.items()))};",
        f"{account.retried} were tried again.",
        "",
        "| must be 0 | |",
        "|---|---:|",
        *(f"| {name} | {number} |" for name, number in rows.items()),
        "",
        "Runs whose process was killed, by the time until their death stood in `ops.run_states`:",
        "",
        "| from | to | runs |",
        "|---:|---:|---:|",
        *(f"| {a} s | {f'{b} s' if b < 10_000 else ''} | {sum(a <= s < b for s in found)} |" for a, b in buckets),
        "",
    ]
    if found:
        lines += [f"Median {found[len(found) // 2]:.1f} s, longest {found[-1]:.1f} s.", ""]
    return "\n".join(lines)
