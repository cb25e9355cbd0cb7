from __future__ import annotations

import os
import pwd

import pytest

from cli.account import account

NAME = pwd.getpwuid(os.getuid()).pw_name


def test_account_is_that_of_the_process_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_USER", raising=False)
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(variable, "mallory")
    assert account() == NAME


def test_who_used_sudo_is_named_with_the_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "alice")
    assert account() == f"alice as {NAME}"
    monkeypatch.setenv("SUDO_USER", NAME)
    assert account() == NAME


@pytest.mark.parametrize("made_up", ["", "a b", "x\x1b[31m", "bob with `ops run`", "a" * 33, "ü"])
def test_what_does_not_look_like_a_name_is_left_out(made_up: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", made_up)
    assert account() == NAME
