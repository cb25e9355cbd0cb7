"""Why a program failed, out of all that it wrote: what failed, and what the server said of it."""

from __future__ import annotations

import re

_LONGEST = 500
_OTHERS = 9

# What says more of the line before it, and what in it is worth a reader's time.
_MORE = re.compile(
    r"(?:pg_\w+|createdb|dropdb|psql): (?:detail|hint|error): (?:Error message from server|error message from server): "
    r"(?P<server>.*)|(?:\w+: )?(?P<kind>DETAIL|detail|HINT|hint): +(?P<text>(?!Query was|Command was).*)"
)

# The reason stands in none of these: what was tried, advice, the farewell of a program that said more before.
_ASIDE = re.compile(
    r"""\s*$|[\s\t]
    |(?:\w+:\ )?(?:WARNING|warning|INFO|NOTICE|DEBUG|hint|detail|notice|note):?\s
    |(?:Command|Query|STATEMENT|LINE\ \d+|CONTEXT|QUERY)\b.*:|CONTEXT:|LOCATION:
    |pg_\w+:\ (?:while\ |from\ TOC|error:\ (?:The\ command|Command|query)\ was:|reading|dumping|last\ built-in)
    |tar:\ (?:Exiting|Error\ (?:is\ not|exit)|Child\ |Removing\ leading)
    |rsync\ (?:error|warning):|rsync:\ connection\ unexpectedly|lost\ connection|Connection\ closed\ by\ remote
    |Please\ make\ sure|and\ the\ repository\ exists|Killed\ by\ signal|@{5}|Try\ ['`].*help|See\ ['`"]|[Uu]sage:
    |\d{4}-\d\d-\d\d\ [\d:,.]+\ \d+\ (?:INFO|WARNING|DEBUG)\b
    |make(?:\[\d+\])?:\ \*\*\*|fatal:\ Could\ not\ read\ from\ remote
    |Are\ you\ sure|Warning:|\[\d[\d,]*\ lines?\ cut
    """,
    re.VERBOSE,
)
_SERIOUS = re.compile(
    r"\b(?:ERROR|FATAL|PANIC|CRITICAL|[Ee]rror:|fatal:|[Ff]ailed|[Dd]enied|[Cc]annot|[Cc]an't|[Cc]ould not|"
    r"[Nn]o such|[Nn]ot found|[Nn]o space|[Rr]efused|unbound variable|unexpected end|timed out)"
)
_TRACEBACK = "Traceback (most recent call last):"
_OWN_WORDS = re.compile(r"Its first error: (?P<text>.+)")
"""With these flows/backup/loading.py says which of many errors counts."""


def explained(output: str) -> list[str]:
    """The reason in one line, then the others of its last lines.

    The reason is the exception of the last traceback, else the first line that sounds like an error and is no remark,
    with what the server says of it; the last line where nothing sounds like one.
    """
    lines = [line.rstrip() for line in output.splitlines()]
    if (at := _place(lines)) is None:
        return []
    found = _OWN_WORDS.search(lines[at])
    text, used = _with_more(found["text"] if found else lines[at], lines, at)
    others = [line for number, line in enumerate(lines) if number not in used and line.strip()]
    return [text[:_LONGEST], *others[-_OTHERS:]]


def _place(lines: list[str]) -> int | None:
    """Where the reason stands, or None where nothing does."""
    told = [number for number, line in enumerate(lines) if line.strip()]
    if not told or _OWN_WORDS.search(lines[told[-1]]):
        return told[-1] if told else None
    serious = next((number for number in told if _is_reason(lines[number])), None)
    if (raised := _raised(lines)) is not None or serious is not None:
        return serious if raised is None else raised
    return next((number for number in reversed(told) if not _ASIDE.match(lines[number])), told[-1])


def _is_reason(line: str) -> bool:
    return _SERIOUS.search(line) is not None and not _ASIDE.match(line)


def _raised(lines: list[str]) -> int | None:
    """The line with the exception of the last traceback."""
    begun = [number for number, line in enumerate(lines) if _TRACEBACK in line]
    after = range(begun[-1] + 1, len(lines)) if begun else ()
    return next((number for number in after if lines[number] and not lines[number].startswith((" ", "\t"))), None)


def _with_more(text: str, lines: list[str], at: int) -> tuple[str, set[int]]:
    """The text with the server's error, detail and hint that the next lines give, and which lines that takes."""
    used = {at}
    for number in range(at + 1, len(lines)):
        found = _MORE.fullmatch(lines[number].strip())
        if found is None:
            if _is_reason(lines[number]):
                break
            continue
        beside = ": " if found["server"] else f". {found['kind'].capitalize()}: "
        if found["server"] or beside not in text:  # git begins each line of one hint so
            used.add(number)
            text = f"{text.rstrip('.')}{beside}{found['server'] or found['text']}"
    return " ".join(text.split()), used
