"""Texts that mean something to a shell, a program, a path or a terminal."""

from __future__ import annotations

import re

PIECES = [
    "; id",
    "$(id)",
    "`id`",
    "|id",
    "&& id",
    "> x",
    "\n",
    "\r",
    "\0",
    "\t",
    "'",
    '"',
    "\\",
    "*",
    "?",
    "{a,b}",
    "~",
]
PIECES += [
    "\u202e",
    "\u200f",
    "\ud800",
    "\x1b[2J",
    "é",
    " ",
    "$HOME",
    "${x}",
    "#",
    "!",
    "(",
    "<(id)",
    "%s",
    "=",
    ":x",
    "@",
    "; touch canary",
    "\u2028",
    "\ufeff",
    "\x7f",
    "]",
    "^",
    "%0a",
]
WHOLE = [
    "",
    " ",
    "-",
    "--help",
    "-rf",
    "..",
    "../x",
    "/..",
    "/x/../y",
    "a/../b",
    ".",
    "x" * 2000,
    "/dev/null/..",
    "host=x",
]
HOSTILE = [shape.format(piece) for piece in PIECES for shape in ("{}", "good{}", "{}good", "go{}od", "/good{}")] + WHOLE

HARMLESS = re.compile(r"/good[@=~]?|/[@=~]good|/go[@=~]od")  # in the middle of a path these mean nothing

PAYLOADS = [
    *HOSTILE,
    *(f"{mark}touch canary{end}" for mark, end in (("$(", ")"), ("`", "`"), ("; ", ""), ("|", ""), ("'; ", " '"))),
    *(
        f"{start}$(touch canary){end}"
        for start in ("a[", "'", '"', "\\", "${", "((", "x=", "\n")
        for end in ("]", "'", '"')
    ),
    "-oProxyCommand=touch canary",
    "\u2028touch canary",
    "\ufeffx",
]
