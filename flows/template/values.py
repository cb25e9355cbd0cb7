"""What a value may hold that becomes part of a command's text: nothing that means anything to bash."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from flows.template.names import PREFIX

LONGEST = 1_000
REFERENCE = re.compile(r"\$\{params\.([^}\n]*)\}")
CARRIERS = "x-carriers"
"""Where the schema of such a parameter has its carriers, for those who ask before a run starts."""
_FIRST = "A-Za-z0-9_./"
_LATER = ":@%+,-"
_WORD = re.compile(r"[A-Za-z0-9_]+")
IN_WORDS = (
    f"up to {LONGEST:,} letters, digits and _ . / : @ % + , - (the first one a letter, digit or _ . /), without `..`"
)


def refusal(name: str, text: str, *, carriers: Collection[str], may_be_empty: bool = False) -> str | None:
    """Why the text cannot stand in a command as the value of that parameter, and the way out; None when it can.

    `carriers` are words that have a meaning in the steps: variables that hold a parameter's value, for bash evaluates
    what they hold where it wants a number, and the ends of here-documents.
    """
    if not text:
        return None if may_be_empty else f"{name} is empty. Hint: `min_length: 0` in the template allows that"
    reason = None
    if len(text) > LONGEST:
        reason = f"has {len(text):,} characters, too many for"
    elif not re.match(f"[{_FIRST}]", text):
        reason = f"begins with {text[0]!r}, which is not allowed in"
    elif wrong := re.search(f"[^{_FIRST}{_LATER}]", text):
        reason = f"contains {wrong[0]!r}, which is not allowed in"
    elif ".." in text:
        reason = "contains '..', which is not allowed in"
    elif text.endswith("@P"):
        reason = "ends with '@P', an operator of bash, which is not allowed in"
    elif words := [word for word in _WORD.findall(text) if word in carriers or word.startswith(PREFIX)]:
        reason = f"contains {words[0]!r}, a variable or the end of a document in the steps, which is not allowed in"
    if reason is None:
        return None
    return (
        f"{name} {reason} the text of a command. Allowed: {IN_WORDS}. Hint: the template can pass any other text in "
        f'the environment, as "${variable_of(name)}" or by `env`'
    )


def misjoined(text: str, values: Mapping[str, str], *, marks: Collection[str]) -> str | None:
    """Why values that are fine by themselves are not in their places: they make `..`, or end a here-document.

    `marks` are the words that end the here-documents of the text. Values hold no newline, so lines stay lines.
    """
    for line in text.split("\n"):
        filled = REFERENCE.sub(lambda match: values[match[1]], line)
        if filled == line:
            continue
        if len(re.findall(r"(?=\.\.)", filled)) > len(re.findall(r"(?=\.\.)", REFERENCE.sub("x", line))):
            return f"{filled.strip()[:200]!r} contains '..', made by a value and what stands beside it"
        if filled.lstrip("\t") in marks:
            return f"{filled.strip()!r} would end the here-document in which it stands"
    return None


def variable_of(name: str) -> str:
    """The environment variable by which every step has a parameter."""
    return f"{PREFIX}{name.upper()}"


def checked(name: str, *, carriers: Collection[str], may_be_empty: bool) -> Callable[[Any], Any]:
    """A validator of a parameter that commands name; of a list it checks each item."""

    def check(value: Any) -> Any:
        for text in value if isinstance(value, list) else [value]:
            if reason := refusal(name, text, carriers=carriers, may_be_empty=may_be_empty):
                raise ValueError(reason)
        return value

    return check


def form_pattern(*, carriers: Collection[str], may_be_empty: bool) -> str:
    """The same rule for the form, as a regular expression of ECMAScript and Python, in time linear to the text."""
    others = (rf"{name}\b" for name in sorted(carriers) if not name.startswith(PREFIX))
    names = "|".join([PREFIX, *others])
    none_of = rf"(?!.*(?:\.\.|@P$|\b(?:{names})))"
    word = f"{none_of}[{_FIRST}][{_FIRST}{_LATER}]*"
    return f"^(?:{word})?$(?![\\s\\S])" if may_be_empty else f"^{word}$(?![\\s\\S])"
