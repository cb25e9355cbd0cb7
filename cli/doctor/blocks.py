"""What `ops doctor` looks at in the blocks that operators filled in: each by the test of its type."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from prefect.blocks.core import Block
from prefect.exceptions import ObjectNotFound
from pydantic import ValidationError

from blocks.block_types import BLOCK_TYPES
from blocks.check import Check
from cli.doctor.checks import Area, presentable, run_checks
from deployments.server.client import answering, prefect_client
from opsdb.errors import UsageError
from opsdb.near_names import did_you_mean
from opsdb.refusals import refusal
from opsdb.settings import Settings

REQUEST_SECONDS = 3.0
BLOCK_SECONDS = 26.0
"""Longer than the slowest test of a block, that of an Odoo Host whose `git status` does not end."""


@dataclass(frozen=True)
class Stored:
    """A block as Prefect keeps it. `fields` hold its secrets."""

    type: type[Block]
    name: str
    fields: dict[str, Any] = field(repr=False)

    @property
    def called(self) -> str:
        """How an operator names it."""
        return f"{self.type.get_block_type_slug()}/{self.name}"

    @property
    def secrets(self) -> list[str]:
        """The values of its secret fields."""
        wanted = self.type._to_block_schema().fields.get("secret_fields", [])
        return [str(value) for name in wanted if (value := self.fields.get(name))]


def check_blocks(settings: Settings, only: str | None = None) -> Iterator[Check]:
    """Test every block of the room's types, or the one named `TYPE/NAME`. Raises UsageError for an unknown one."""
    stored, missing = _read(settings)
    if only is not None:
        stored = [one for one in stored if one.called == only] or _unknown(only, stored)
    elif missing:
        yield Check("types", f"not registered: {', '.join(missing)}", "run `ops deploy`")
    if not stored:
        yield Check("blocks", "none is filled in: the Prefect UI has their forms, under Blocks")
    areas = [Area(one.called, lambda one=one: check_stored(one)) for one in stored]  # type: ignore[misc]  # mypy infers no lambda with a default
    found = run_checks(areas, seconds=BLOCK_SECONDS)
    for one in presentable(found, secrets=[secret for block in stored for secret in block.secrets]):
        yield replace(one.check, subject=f"{one.area}: {one.check.subject}")


def check_stored(block: Stored) -> list[Check]:
    """Test one block."""
    try:
        return BLOCK_TYPES[block.type](block.fields)
    except ValidationError as error:
        # without the values: pydantic's own text quotes them
        wrong = "; ".join(f"{item['loc'][0] if item['loc'] else 'block'}: {refusal(item)}" for item in error.errors())
        return [Check("fields", wrong, "correct them in the Prefect UI, Blocks")]


def _read(settings: Settings) -> tuple[list[Stored], list[str]]:
    """The blocks by type and name, and the types that Prefect does not know."""
    stored, missing = [], []
    with prefect_client(settings, request_seconds=REQUEST_SECONDS) as client:
        for block_type in BLOCK_TYPES:
            slug = block_type.get_block_type_slug()
            try:
                with answering(client):
                    client.read_block_type_by_slug(slug)
                    documents = client.read_block_documents_by_type(slug, include_secrets=True)
            except ObjectNotFound:
                missing.append(slug)
                continue
            named = sorted((one.name, dict(one.data)) for one in documents if one.name)
            stored += [Stored(block_type, name, fields) for name, fields in named]
    return stored, missing


def _unknown(called: str, stored: list[Stored]) -> list[Stored]:
    there = [one.called for one in stored]
    if not there:
        none = "there are no blocks yet: make one in the Prefect UI under Blocks"
        raise UsageError(f"--block {called[:100]!r}: {none}")
    raise UsageError(
        f"--block {called[:100]!r}: no such block.{did_you_mean(called, there)} There are: {', '.join(there)}"
    )
