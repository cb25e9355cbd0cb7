"""Prefect's server says in words what is wrong with a parameter: in the answers to its forms, and to its API.

It checks parameters against the schema of the form, and by itself would say which regular expression a text does not
match.
"""

from __future__ import annotations

from prefect.utilities.schema_tools import validation

from blocks.form_check import in_words


def speak_in_words() -> None:
    """Have the Prefect of this process say the words of a schema. A test fails when it checks by something else."""
    validation._VALIDATOR = in_words(validation._VALIDATOR)
