"""The parameters that runbooks about Odoo share, beside those in `blocks/fields.py`.

Their descriptions stand in the docstrings of the flows.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from blocks.fields import each_once


def _ref(ref: str) -> str:
    if ".." in ref or "//" in ref or ref.endswith(("/", ".", ".lock")):
        raise ValueError("is no name that git allows: want a branch, a tag or a commit")
    return ref


OdooModules = Annotated[
    list[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]],
    Field(min_length=1, max_length=100, json_schema_extra={"uniqueItems": True}),
    each_once("a module"),
]
ApprovalMinutes = Annotated[int, Field(ge=0, le=7 * 24 * 60)]
GitRef = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}$"), AfterValidator(_ref)]
