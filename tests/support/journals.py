"""Journals as earlier versions wrote them: an upgrade finds such files on disk."""

from pathlib import Path

OLD_JOURNAL = Path(__file__).with_name("journal_of_0_1.jsonl")
"""Entries of all kinds, written by version 0.1 (commit 2bd99e3): not to be written again."""
