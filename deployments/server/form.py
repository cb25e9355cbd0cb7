"""The form of a runbook in the Prefect UI: the schema of its parameters, with what exists named in the descriptions.

Prefect makes the forms of a run and of a schedule from this schema, and checks what was filled in by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from blocks.form_words import MAY_BE_NULL, OFFERS, Offer
from opsdb.shown import shown

Offers = Mapping[Offer, Sequence[str]]
"""What exists now. It lacks what could not be found out."""
NOTHING_KNOWN: Offers = MappingProxyType({})
NAMED = 20
"""Names in one description."""
LEADS = {Offer.DATABASES: "On the server now", Offer.BACKUP_FOLDER: "That is now"}


def form_of(schema: Mapping[str, Any], offers: Offers, before: Mapping[str, Any] | None) -> dict[str, Any]:
    """The schema of a form, from that of a runbook's parameters, both as JSON.

    Where it is not known what exists, the form names what the one `before` named.
    """
    named = (before or {}).get("properties") or {}
    fields = {
        name: _field(field, offers, named.get(name) or {}) for name, field in (schema.get("properties") or {}).items()
    }
    return {**schema, "properties": fields}


def _field(field: Mapping[str, Any], offers: Offers, before: Mapping[str, Any]) -> dict[str, Any]:
    made = {name: value for name, value in field.items() if name not in (OFFERS, MAY_BE_NULL)}
    # where there is nothing to show: without a default Prefect takes a null as well
    if made.get("default") in ("", {}) or MAY_BE_NULL in field:
        made.pop("default", None)
    if OFFERS in field:
        what = Offer(field[OFFERS])
        examples = list(offers[what] if what in offers else before.get("examples") or [])
        if what in offers or examples:
            made["examples"] = examples  # also when there is none yet: `ops run` knows by it what is to exist
        if examples:
            made |= {"description": f"{made.get('description', '')} {_sentence(what, examples)}"}
    return made


def _sentence(what: Offer, names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{LEADS[what]}: {', '.join(shown(str(name)) for name in names[:NAMED])}{more}."
