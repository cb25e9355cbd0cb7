"""The text of a command without what bash does not read as commands: quotes, documents, continued lines.

A reading of text, as short as it can be; where it goes wrong, something is refused or not found, and nothing executed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_QUOTED = re.compile(r"""\\(?!\x01)(?s:.)|\$?'[^']*'|\$?"(?:\\(?s:.)|[^"\\])*\"""")
_LONGEST = 2_000
"""Characters in which a bracket is looked for that closes another one."""


def joined(command: str) -> str:
    """The text with continued lines joined as bash does it, and without blanks around its lines."""
    lines: list[str] = []
    goes_on = False
    for line in command.split("\n"):
        if goes_on:
            lines[-1] = lines[-1][:-1] + line
        else:
            lines.append(line)
        backslashes = len(line) - len(line.rstrip("\\"))
        goes_on = backslashes % 2 == 1
        if goes_on and lines[-1].lstrip().startswith("#"):  # a comment ends with its line
            lines[-1], goes_on = "#", False
    return "\n".join(stripped for line in lines if (stripped := line.strip()))


def unquoted(text: str) -> str:
    """The text with each quoted part as a single `'`.

    A part that begins with a marked value or a variable keeps it; substitutions in double quotes follow their part.
    """
    return _QUOTED.sub(lambda match: _outside(match[0]), text).replace("\\\x01", "\x01")


def _outside(part: str) -> str:
    if part[0] == "\\":
        return "'"
    inner = part.lstrip("$")[1:-1]
    value = re.match(r"(\x01[^\x01]*\x01|\$\{?\w+\}?)(\w*\+?=)?", inner)
    kept = value[0] if value else "'"
    if part.lstrip("$")[0] == '"':
        for body in bodies(inner, "$(", "(", ")"):
            kept += f"$({unquoted(body)}" + ("" if inner.endswith(body) else ")")  # or a quote in it ended this part
    return kept


def in_quotes(text: str, at: int) -> bool:
    """Whether the character there stands in quotes."""
    return any(match.start() < at < match.end() - 1 for match in _QUOTED.finditer(text))


def bodies(text: str, begins: str, opening: str, closing: str) -> Iterator[str]:
    """What stands in each pair of brackets that begins so and is in no other such pair."""
    at = text.find(begins)
    while at >= 0:
        end = closed_at(text, at + len(begins), opening, closing)
        yield text[at + len(begins) : end]
        at = text.find(begins, end)


def closed_at(text: str, start: int, opening: str, closing: str) -> int:
    """Where the bracket closes that was opened before `start`: at the end of its line if that is not found."""
    depth = 1
    for found in re.compile(f"[{re.escape(opening + closing)}]").finditer(text, start, start + _LONGEST):
        depth += 1 if found[0] == opening else -1
        if depth == 0:
            return found.start()
    end = text.find("\n", start)
    return len(text) if end < 0 else end


def without_documents(text: str, *, quoted_only: bool = False) -> str:
    """The text without the here-documents that `cat` or `tee` writes, or those in which bash expands nothing."""
    begins = r"<<-?\s*(?P<quote>['\"\\])(?P<mark>\w+)['\"]?[^\n]*\n"
    if not quoted_only:
        begins = (
            r"(?:^|[\n;&|])[ \t]*(?:sudo[ \t]+)?(?:cat|tee)\b[^\n;&|<]*"
            r"<<-?[ \t]*['\"\\]?(?P<mark>\w+)['\"]?[^\n;&|]*\n"
        )
    kept, at = "", 0
    while match := re.compile(begins).search(text, at):
        kept += text[at : match.end()]
        end = re.compile(rf"^\t*{match['mark']}$", re.MULTILINE).search(text, match.end())
        at = end.start() if end else len(text)
    return kept + text[at:]


def document_marks(command: str) -> set[str]:
    """The words that end the here-documents of a command."""
    return set(re.findall(r"(?<!<)<<-?\s*['\"\\]?(\w+)", command))
