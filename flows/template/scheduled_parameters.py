"""Whether the schedule of a template gives its runs the parameters that they need."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from pydantic import TypeAdapter, ValidationError

from flows.template.known_parameters import REQUIRED, FormParameter
from flows.template.model import Template
from opsdb.refusals import refusal


def schedule_mistakes(
    template: Template, parameters: Sequence[FormParameter], *, secrets: Collection[str]
) -> Iterator[str]:
    """What is wrong with a template's schedule, beside the form of its fields."""
    schedule = template.schedule
    if schedule is None:
        return
    if template.lane is None:
        yield "schedule: needs `lane`, the lane in which it runs"
    known = {one.name: one for one in parameters}
    for name, value in schedule.parameters.items():
        where = f"schedule: parameters: {name}"
        if name in secrets:
            yield f"{where}: is secret: its value is fetched when a run starts"
        elif name not in known:
            yield f"{where}: is not a parameter of the template: {', '.join(known) or 'it has none'}"
        else:
            try:
                TypeAdapter(known[name].annotation).validate_python(value)
            except ValidationError as error:
                yield f"{where}: {refusal(error.errors()[0])}"
    missing = [one.name for one in parameters if one.default is REQUIRED and one.name not in schedule.parameters]
    if missing:
        yield f"schedule: parameters: {', '.join(missing)} must be given: nobody is there to do it when it runs"
