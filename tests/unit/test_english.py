"""Habits of translated English that no message, help, docstring, comment or page may have.

Each is a regular expression wide enough to catch its siblings, with words to use in its place. Quoted code
(`like this`, or one word 'so') is not read, for names of columns and options are what they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.support.prose import Passage, read_prose

CODE = re.compile(r"`[^`\n]*`|'[\w-]+'")

HABITS = {
    r"(?<![Tt]here )\b(?:is|are|was|were) no (?!longer|more|less|lower|later|better|other|such|one\b)": (
        "'X is no runbook': write 'X is not a runbook'"
    ),
    r"\b(?:is|are|was|were) none of\b|\b(?:that|what|which|it) (?:is|are|was|were) none\b": (
        "'E' is none of A, B: write 'invalid value 'E' (choose from A, B)'"
    ),
    r"\bin vain\b": "timed out after 60 s waiting for X",
    r"\banew\b": "again, or: start over",
    r"\btherefor\b": "for that",
    r"\btold\b": "notify, alert, report to: name who learns what; 'told to stop' is 'stopped' or 'cancelled by'",
    r"\btells\b": "shows, reports, prints",
    r"\bTell all\b": "Show details of",
    r"\bat last\b": "finally, at the end",
    r"(?:^|[.;:!?] )One that\b": "repeat the noun: 'A run that ...', 'A file that ...'",
    r"\bthat (?:is|are|was|were) not there\b": "a missing file; the file does not exist",
    r"(?:^|[.;:!?] )What of\b": "begin with the noun: 'The part of X that ...'",
    r"\b(?:is|are) to say\b|\bto say so\b": "an active verb: 'X reports it'",
    r"\b(?:[Gg]o|goes|[Gg]oing|went|gone) on\b": "resumes, continues",
    r"\b(?:want|wanted) (?:it |them )?at\b": "scheduled for",
    r"(?:^|[:;,] )want (?!to\b)": "expected",
    r"\bwants\b": "needs, requires, takes",
    r"\b(?:hold|holds|holding|held) (?:\w+ ){1,3}up\b(?! to)": "blocks, delays",
    r"\bspeaks? for (?:it|them|another)\b": "verifies it; verification",
    r"\bso many\b": "the number of X; at most N; maximum number to show",
    r"\bof before\b": "previous, earlier",
    r"\bwaits? for no\b": "is not waiting for",
    r"\bnothing knows\b": "unknown",
    r"\b(?:is|are) no more\b": "was removed",
    r"\bmade good\b|\bmakes good\b|\bmends?\b": "resolved, repaired, corrected",
    r"\bno manifest that is as\b": "manifest missing or altered",
    r"\bchecks? (?:is|are) well\b|\bneeds? doing\b": "1 problem, 29 checks passed",
    r"\balerts? lasts?\b|\bwhat (?:still )?lasts\b": "active",
    r"\b(?:and|of|while) nothing new\b": "alerts for X silenced until",
    r"\bwent as soon as\b": "was deleted right after it was created",
    r", which said\b": "X failed: ...",
    r"\bcould not ask\b": "query failed; no answer from X",
    r"\bwho are you\b": "authentication required",
    r"\bWhat reads\b": "Read-only commands",
    r"\bNo \w+ fits?\b": "No X matches these filters",
    r"\bOnly of this\b": "Only this database",
    r"\b(?:is|are|was) (?:succeeded|failed|cancelled|ended) already\b": "has already succeeded",
    r"\bwhat the Prefect UI asks for\b": "the Prefect UI password",
    r"\bnobody is (?:alerted|notified)\b": "Alerts go nowhere",
    r"\bhears of\b|\bheard of\b|\btell of\b": "is reported to; had a heartbeat; recorded",
    r"\bof (?:then|now)\b": "previous, of that time; present",
    r"\b(?:is|are) there already\b": "already exists",
    r"\bstands? there twice\b": "appears twice",
    r"\bnot filled in right\b|\b(?:is|are) not right\b": "is invalid",
    r"\bMore of one\b": "Details of one",
    r"\bhas no say\b": "may not change",
    r"\bto be had\b": "available",
    r"\b(?:nothing|who|whoever) vouch": "is not trusted",
    r"\banswers well\b|\b(?:is|are) not well\b": "is healthy; reports an error",
}
"""Habit: what to write in its place."""


def find_habits(passages: Iterable[Passage]) -> Iterator[str]:
    """A line for each habit in each passage: where it stands, the words, and what to write in their place."""
    habits = [(re.compile(pattern), better) for pattern, better in HABITS.items()]
    for passage in passages:
        if " " not in passage.text:
            continue  # a name or a key
        text = CODE.sub("`…`", passage.text)
        for habit, better in habits:
            for found in habit.finditer(text):
                around = text[max(0, found.start() - 60) : found.end() + 60]
                yield f"{passage.path}:{passage.line}: ...{around}...\n    {found[0]!r}: {better}"


def test_prose_has_no_habits_of_translation() -> None:
    found = list(find_habits(read_prose()))
    assert not found, f"{len(found)} habits:\n" + "\n".join(found)


@pytest.mark.parametrize(
    "sentence",
    [
        "What reads has --json.",
        "E is none of A, B, C, D",  # this list is of the habits themselves, which have to be found
        "X is no runbook",
        "could not ask the database, which said: timeout",
        "waited 60 s for X, in vain",
        "went as soon as it was written",
        "nothing new is told of X until noon",
        "A run that was told as stuck is not told again",
        "who are you?",
        "One that is not there is none to delete.",
        "what the Prefect UI asks for",
        "No run fits. Try fewer filters",
        "At most so many.",
        "Tell all of this one.",
        "Only of this one.",
        "-p x: want key=value",
        "run X is succeeded already",
        "waits for no approval: it is Completed",
        "its schedule wants it at 02:00",
        "nothing holds it up",
        "lets it go on",
        "No longer waiting; run X goes on.",
        "was told to stop: it was cancelled, or its worker ended",
        "1 thing needs doing, 29 checks are well.",
        "is no setting: it does nothing",
        "no manifest that is as it was written",
        "No alert lasts, and none ended within a day.",
    ],
)
def test_habit_is_found(sentence: str) -> None:
    assert list(find_habits([Passage(Path("page"), 1, sentence)]))


@pytest.mark.parametrize(
    "sentence", ["There is no folder x", "`X is no runbook`", "A run that is over resumes nothing."]
)
def test_plain_sentence_is_left(sentence: str) -> None:
    assert not list(find_habits([Passage(Path("page"), 1, sentence)]))
