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
    |Are\ you\ sure|Warning:|\[\d[\d,]*\ lines?\ cut|View\ error\ context:|\{'
    |WARN\[\d+\]|time="[^"]*"\ level=(?:warn|info|debug)
    """,
    re.VERBOSE,
)
_SERIOUS = re.compile(
    r"\b(?:ERROR|FATAL|PANIC|CRITICAL|[Ee]rror:|fatal:|[Ff]ailed|[Dd]enied|[Cc]annot|[Cc]an't|[Cc]ould not|"
    r"[Ee]rror response from daemon|[Nn]o such|[Nn]ot found|[Nn]o space|[Rr]efused|unbound variable|unexpected end|"
    r"timed out)"
)
_TRACEBACK = "Traceback (most recent call last):"
OWN_REASON = "The reason: "
"""With these words our own scripts say in their last line what counts."""
_OWN_WORDS = re.compile(rf"(?:Its first error: |{OWN_REASON})(?P<text>.+)")
"""With the first flows/backup/loading.py says which of many errors counts."""
# An error as Odoo logs it; of those without a traceback the first is the reason.
_LOGGED = re.compile(r"\d{4}-\d\d-\d\d [\d:,.]+ \d+ (?P<level>[A-Z]+) \S+ (?P<said>[\w.]+: .*)")
# Odoo says so after it logged why, mostly with the same traceback once more.
_FAREWELL = re.compile(r"odoo\.\S+: Failed to (?:load registry|initialize database)\b.*")
# An exception of Odoo's own says the most on the lines after its first, and ends where its context is printed.
_ODOO_RAISED = re.compile(r"odoo\.[\w.]+: ")
_CONTEXT = re.compile(r"View error context:|\{'|<\w|\[view_id|View (?:name|key):")


def explained(output: str) -> list[str]:
    """The reason in one line, then the others of its last lines.

    The reason is the exception of the last traceback, else the first ERROR or CRITICAL of Odoo's log, else the first
    line that sounds like an error and is not a remark, with what the server says of it; the last line where nothing
    sounds like one. Of a traceback that Odoo logged and survived it is looked for behind that.
    """
    lines = [line.rstrip() for line in output.splitlines()]
    if (at := _place(lines)) is None:
        return []
    if _ODOO_RAISED.match(lines[at]):
        text, used = _with_message(lines, at)
    else:
        found = _OWN_WORDS.search(lines[at]) or _LOGGED.fullmatch(lines[at])
        text, used = _with_more(found[found.lastindex or 0] if found else lines[at], lines, at)
    others = [line for number, line in enumerate(lines) if number not in used and line.strip()]
    return [text[:_LONGEST], *others[-_OTHERS:]]


def _place(lines: list[str]) -> int | None:
    """Where the reason stands, or None where nothing does."""
    told = [number for number, line in enumerate(lines) if line.strip()]
    if not told or _OWN_WORDS.search(lines[told[-1]]):
        return told[-1] if told else None
    raised = _raised(lines)
    if raised is not None and not _is_survived(lines, raised):
        return raised
    behind = [number for number in told if raised is None or number > raised]
    for found in (
        next((number for number in behind if _is_logged_error(lines[number])), None),
        next((number for number in behind if _is_reason(lines[number])), None),
        raised,
    ):
        if found is not None:
            return found
    return next((number for number in reversed(told) if not _ASIDE.match(lines[number])), told[-1])


def _is_reason(line: str) -> bool:
    return _SERIOUS.search(line) is not None and not _ASIDE.match(line)


def _is_logged_error(line: str) -> bool:
    found = _LOGGED.fullmatch(line)
    return found is not None and found["level"] in ("ERROR", "CRITICAL")


def _is_survived(lines: list[str], at: int) -> bool:
    """Whether Odoo continued after the exception of the last traceback: it only warned, or failed by something
    later."""
    begins = next((number for number in range(at, -1, -1) if _TRACEBACK in lines[number]), 0)
    record = _LOGGED.fullmatch(lines[begins - 1]) if begins else None
    later = [found for line in lines[at + 1 :] if (found := _LOGGED.fullmatch(line))]
    if record is not None and record["level"] not in ("ERROR", "CRITICAL"):
        return bool(later)  # an exception that ends Odoo may follow any line, and nothing is logged behind it
    worse = (found for found in later if found["level"] in ("ERROR", "CRITICAL"))
    return any(not _FAREWELL.fullmatch(found["said"]) for found in worse)


def _raised(lines: list[str], before: int | None = None) -> int | None:
    """The line with the exception of the last traceback, or of the last one that begins before a line."""
    begun = [number for number, line in enumerate(lines[:before]) if _TRACEBACK in line]
    after = range(begun[-1] + 1, len(lines)) if begun else ()
    return next((number for number in after if lines[number] and not lines[number].startswith((" ", "\t"))), None)


def _with_message(lines: list[str], at: int) -> tuple[str, set[int]]:
    """An exception of Odoo with all lines of its message, after its cause where it only says what was being read."""
    end = at + 1
    while end < len(lines) and not (_LOGGED.fullmatch(lines[end]) or _CONTEXT.match(lines[end])):
        end += 1
    told = [line for line in lines[at:end] if line.strip()]
    used = set(range(at, end))
    begins = next((number for number in range(at, -1, -1) if _TRACEBACK in lines[number]), 0)
    if told[-1].endswith("somewhere inside") and (cause := _raised(lines, begins)) is not None:
        told = [f"{lines[cause]} ({' '.join(told)})"]
        used.add(cause)
    return " ".join(" ".join(told).split()), used


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
