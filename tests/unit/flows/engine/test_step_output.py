"""What a step printed, asked for by name."""

from __future__ import annotations

import pytest

from flows.engine.step import StepOutput
from opsdb.errors import StepFailedError

PRINTED = f"{'a' * 64}  -\nbytes: 12\ndroplet: 42 203.0.113.7\nnot bytes: 1\nafter: abc\n"


def test_output_is_asked_for_by_name() -> None:
    output = StepOutput("make", PRINTED)
    assert output.sha256 == "a" * 64
    assert (output.number("bytes"), output.number("droplet")) == (12, 42)
    assert (output.word("droplet"), output.word("after")) == ("203.0.113.7", "abc")


@pytest.mark.parametrize("stdout", ["", "a: b: 1\n", "xbytes: 12\n", "bytes: many\n", "bytes: 12x\n", "bytes:12\n"])
def test_line_that_was_not_printed_fails_the_step_by_name(stdout: str) -> None:
    output = StepOutput("pg_dump", stdout)
    with pytest.raises(StepFailedError, match="step pg_dump succeeded, but printed no bytes: read its log"):
        output.number("bytes")
    with pytest.raises(StepFailedError, match="no sha256"):
        _ = output.sha256


def test_output_of_a_dry_run_is_made_up() -> None:
    output = StepOutput("make", None)
    assert (output.sha256, output.number("bytes"), output.word("after")) == ("0" * 64, 1, "(unknown)")
