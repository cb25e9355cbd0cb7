"""What may become part of a command's text: refused, or what it is and nothing else, wherever it stands."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flows.template.command import filled_in
from flows.template.shell_text import document_marks
from flows.template.words import form_pattern, misjoined, refusal
from tests.support.hostile import HOSTILE, PAYLOADS

CARRIERS = frozenset({"ODOO_DB", "modules", "PARAM_X"})
TAKEN = ["a", "0", "odoo_prod", "/srv/a-b/c.d", "./x", "a:b@c%d+e,f-g", "sale,stock", "2026-01-01T00:00:00+00:00", "_"]
TAKEN += ["x" * 1_000, "a@Pb", "_modules", "my_ODOO_DB", ".hidden", "v18.0.1.2", "registry.example.com:5000/odoo"]
REFUSED = {
    "": "is empty",
    "a b": "contains ' '",
    "a\n": r"contains '\n'",
    "-rf": "begins with '-'",
    ":a": "begins with ':'",
    "@a": "begins with '@'",
    "a/../b": "contains '..'",
    "..": "contains '..'",
    "a$b": "contains '$'",
    "a=b": "contains '='",
    "~root": "begins with '~'",
    "caf\u00e9": "contains '\u00e9'",
    "a\u0661": "contains '\u0661'",  # a digit, to many a regular expression
    "x" * 1_001: "has 1,001 characters, too many",
    "x@P": "ends with '@P'",
    "PARAM_TEXT": "contains 'PARAM_TEXT', a variable or the end of a document in the steps",
    "1+PARAM_TEXT": "contains 'PARAM_TEXT'",
    "0:ODOO_DB": "contains 'ODOO_DB'",
    "a,modules": "contains 'modules'",
}
PLACES = [
    "say ${params.x}",
    'say "${params.x}"',
    "say '${params.x}'",
    'say "$(cat <<EOF\n${params.x}\nEOF\n)"',
    "say \"$(cat <<'EOF'\n${params.x}\nEOF\n)\"",
    'say "$(cat <<< ${params.x})"',
    'say "$(printf %s ${params.x})"',
    "say `printf %s ${params.x}`",
    "y=${params.x}; say $y",
    'y=(a ${params.x}); say "${y[1]}"',
    'y=${params.x} bash -c \'printf "%s\\n" "$y"\'',
    "bash -c 'printf \"%s\\n\" ${params.x}'",
    "f() { say $1; }; f ${params.x}",
    "for y in ${params.x}; do say $y; done",
    "case ${params.x} in ${params.x}) say ${params.x};; esac",
    "[[ ${params.x} == ${params.x} ]] && [ ${params.x} = ${params.x} ] && say ${params.x}",
    "say $'${params.x}'",
    "say a ${params.x} | tail -n 1",
    "awk 'BEGIN { print \"${params.x}\" }'",
    "printf '%s\\n' a | sed 's|a|${params.x}|'",
]


@pytest.mark.parametrize("text", TAKEN)
def test_plain_word_is_taken(text: str) -> None:
    assert refusal("x", text, carriers=CARRIERS) is None


@pytest.mark.parametrize("text", REFUSED)
def test_other_text_is_refused_by_its_first_wrong_character_and_with_the_way_out(text: str) -> None:
    reason = refusal("release", text, carriers=CARRIERS)
    assert reason is not None
    assert reason.startswith(f"release {REFUSED[text]}")
    assert text == "" or '"$PARAM_RELEASE" or by `env`' in reason


def test_empty_text_is_taken_where_the_template_says_so() -> None:
    assert refusal("x", "", carriers=(), may_be_empty=True) is None
    assert "`min_length: 0`" in (refusal("x", "", carriers=()) or "")


@given(text=st.one_of(st.text(max_size=40), st.text(alphabet="aP_./:@%+,-\n ODB", max_size=12)))
@example(text="a\n")
@example(text="a@P")
@example(text="a@P\n")
@example(text="..")
def test_form_takes_what_the_run_takes(text: str) -> None:
    for may_be_empty in (False, True):
        pattern = form_pattern(carriers=CARRIERS, may_be_empty=may_be_empty)
        taken = refusal("x", text, carriers=CARRIERS, may_be_empty=may_be_empty) is None
        assert bool(re.search(pattern, text)) == taken


@pytest.mark.parametrize("place", PLACES)
def test_what_is_taken_is_itself_wherever_it_stands(place: str, tmp_path: Path) -> None:
    taken = [text for text in [*TAKEN, *HOSTILE, *PAYLOADS] if refusal("x", text, carriers=CARRIERS) is None]
    assert len(taken) >= len(TAKEN)
    script = "say() { printf '%s\\n' \"$@\"; }\n" + "\n".join(filled_in(place, {"x": text}) for text in taken)
    env = {"PATH": os.environ["PATH"], "PARAM_X": "a[$(touch canary)]"}
    done = subprocess.run(
        ["bash", "--norc", "-euo", "pipefail", "-c", script],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert done.stdout.splitlines() == taken
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("command", "values", "reason"),
    [
        ("ls /srv/${params.x}.${params.y}", {"x": ".", "y": "/etc"}, "contains '..'"),
        ("ls /srv/.${params.x}", {"x": "./etc/shadow"}, "contains '..'"),
        ("ls ../${params.x}", {"x": "a"}, None),
        ("git log a...${params.x}", {"x": "b"}, None),
        ("cat <<EOF\n${params.x}${params.y}\nrm a\nEOF", {"x": "EO", "y": "F"}, "would end the here-document"),
        ("cat <<-END\n\tE${params.x}\n\tEND", {"x": "ND"}, "would end the here-document"),
        ("cat <<EOF\n${params.x}.\nEOF", {"x": "EOF"}, None),
    ],
)
def test_values_are_looked_at_in_their_places(command: str, values: dict[str, str], reason: str | None) -> None:
    said = misjoined(command, values, marks=document_marks(command))
    assert (said is None) if reason is None else (reason in (said or ""))


def test_hostile_texts_are_refused_or_harmless() -> None:
    texts = {*HOSTILE, *PAYLOADS}
    assert len(texts) > 200
    taken = {text for text in texts if refusal("x", text, carriers=CARRIERS) is None}
    assert len(taken) < 20, taken
