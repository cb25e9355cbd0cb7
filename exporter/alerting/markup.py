"""The Markdown in which messages are written, what of it is code, and the same in plain text.

Whatever somebody else chose stands in a code span that it cannot leave. So what is outside of code spans is ours, and
there is little of it: bold words, links, lists.
"""

from __future__ import annotations

import re
import unicodedata

LONGEST = 100
NOTHING = "`-`"
"""What stands for an empty value."""
_MARK = re.compile(r"`(?P<code>[^`]*)`|\[(?P<words>[^\]`]*)\]\((?P<address>\S+?)\)|\*\*")
_CREDENTIALS = re.compile(
    r"(://[^\s/@:]*:)[^\s/@]+(?=@)|((?:password|passwd|pwd|token|secret|signature|api_?key)=)[^\s&;,]+", re.I
)
_TITLE = re.compile(r"[^\w ·,+()-]|(?<!\d)[.:]|[.:](?!\d)")


def known(value: object, *, longest: int = LONGEST) -> str:
    """A value as `quoted` gives it; empty for one that is not known, which no message names."""
    span = "" if value is None else quoted(value, longest=longest)
    return "" if span == NOTHING else span


def quoted(value: object, *, longest: int = LONGEST) -> str:
    """A value that somebody else chose, in a code span that it cannot leave: there Mattermost sees no mention or link.

    It is on one line, with at most `longest` characters of it.
    """
    # not all of the services with code spans know longer fences, so a backtick of the value becomes an apostrophe
    line = one_line(value, longest=longest).replace("`", "'")
    return f"`{line}`" if line else NOTHING


def one_line(value: object, *, longest: int = LONGEST) -> str:
    """At most `longest` characters of a value, on one line, without what is invisible or reorders text."""
    line = "".join(_plain(character) for character in str(value)[: longest * 4])
    line = " ".join(line.split())
    return line if len(line) <= longest else line[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"


def without_credentials(text: str) -> str:
    """The text of an error without the passwords and tokens that stand in addresses and connection strings."""
    return _CREDENTIALS.sub(lambda found: f"{found[1] or found[2]}***", text)


def without_mentions(markdown: str) -> str:
    """A message of ours in which no value mentions anybody: some services look for mentions in code spans as well."""
    return markdown.replace("@", "@\N{WORD JOINER}")


def in_title(value: object, *, longest: int = LONGEST) -> str:
    """A value that somebody else chose, in a title: some destinations read Markdown and mentions there, too."""
    return _TITLE.sub("?", one_line(value, longest=longest))


def plain_text(markdown: str) -> str:
    """A message of ours without the marks, but for those around commands; a link shows its address."""

    def plain(mark: re.Match[str]) -> str:
        if mark["code"] is not None:
            return mark[0] if mark["code"].startswith("ops ") else mark["code"]
        return f"{mark['words']}: {mark['address']}" if mark["address"] else ""

    return _MARK.sub(plain, markdown)


def show_addresses(markdown: str) -> str:
    """A message of ours whose links have their address for their words: where a converter keeps the words alone."""

    def shown(mark: re.Match[str]) -> str:
        return f"[{mark['address']}]({mark['address']})" if mark["address"] else mark[0]

    return _MARK.sub(shown, markdown)


def _plain(character: str) -> str:
    if character.isspace():  # with all at which Python ends a line: the separators of ASCII are controls otherwise
        return " "
    # controls, what reorders or hides text, surrogates
    category = unicodedata.category(character)
    return "\N{REPLACEMENT CHARACTER}" if category in ("Cc", "Cf", "Cs", "Co", "Cn") else character
