"""A template file becomes a runbook's parts: checked, its parameters found, its commands made safe."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from flows.template.command import (
    CommandError,
    check_syntax,
    programs,
    references,
    spellings,
    unset_variables,
)
from flows.template.known_parameters import FormParameter
from flows.template.model import Approval, Parameter, PlainStep, RetryPolicy, SecretSource, Step, Template
from flows.template.parameters import Place, form_parameter
from flows.template.schedule import TemplateSchedule
from flows.template.scheduled_parameters import schedule_mistakes
from flows.template.shell_text import document_marks
from flows.template.unsafe_places import UnsafePlaces, secrets_shown
from flows.template.words import PREFIX, check_parameter_name, obeyed
from opsdb.kinds.subjects import REFERENCE
from opsdb.kinds.template_files import TemplateError, read_content
from opsdb.near_names import did_you_mean
from opsdb.refusals import refusal


@dataclass(frozen=True, slots=True)
class ReadTemplate:
    """A template that can run."""

    path: Path
    template: Template
    parameters: tuple[FormParameter, ...]
    """Those of the form, in the order of the file."""
    secrets: Mapping[str, SecretSource]
    variables: Mapping[str, tuple[str, ...]]
    """By parameter or secret, the variables by which each step has it."""
    carriers: frozenset[str]
    """All variables of the steps that hold a parameter's value, and the words that end their here-documents."""
    programs: tuple[str, ...]
    """What must be on the PATH."""

    def folder_of(self, step: PlainStep) -> Path:
        """The absolute folder that a step runs in."""
        return self.path.parent / (step.working_dir or ".")


def read_template(path: Path) -> ReadTemplate:
    """Read a file. Raises TemplateError with a line for each thing that is wrong: file, step, field."""
    path = path.absolute()
    content = read_content(path)
    content.pop("$schema", None)  # by which editors find the schema
    try:
        template = Template.model_validate(content)
    except ValidationError as error:
        # a number that is neither integer nor float is wrong in two ways, which are one to the reader
        raise _error(path, list(dict.fromkeys(_line(item, content) for item in error.errors()))) from None
    wanted, unclear = _wanted(template)
    problems = [*_mistakes(template), *(line for lines in unclear.values() for line in lines)]
    secrets = {name: one.secret for name, one in (template.params or {}).items() if one.secret is not None}
    commands = [step.command for _, step in template.all_steps]
    variables = {name: tuple(spellings(name, commands)) for name in wanted}
    carrying = [key for _, step in template.all_steps for key, text in step.env.items() if REFERENCE.search(text)]
    marks = {mark for command in commands for mark in document_marks(command)}
    carriers = frozenset([*carrying, *marks, *(variable for one in variables.values() for variable in one)])
    parameters, wrong = _parameters(template, [name for name in wanted if name not in secrets], carriers)
    problems += wrong
    if not unclear:
        problems += schedule_mistakes(template, parameters, secrets=secrets)
    missing = template.exclusive in secrets or (template.exclusive not in wanted and not unclear)
    if template.exclusive is not None and missing:
        known = ", ".join(one.name for one in parameters) or "there are none"
        problems.append(f"exclusive: {template.exclusive!r} is not a parameter of the form: {known}")
    if not unclear:
        problems += _of_subject(template, [one.name for one in parameters], secrets=secrets)
    for where, step in template.all_steps:
        if where in unclear:
            continue
        if shown := secrets.keys() & references(_question(step)):
            problems.append(f"{where}: approval: question: {min(shown)} is secret, and everybody reads a question")
        problems += [
            f"{where}: command: {reason}"
            for reason in _reasons(step, parameters, secrets=secrets, variables=variables, template=template)
        ]
    if problems:
        raise _error(path, problems)
    return ReadTemplate(path, template, tuple(parameters), secrets, variables, carriers, _programs(template))


def _error(path: Path, lines: Iterator[str] | Sequence[str]) -> TemplateError:
    return TemplateError("\n".join(f"{path}: {' '.join(line.split())}" for line in lines))


def _mistakes(template: Template) -> Iterator[str]:
    seen: set[str] = set()
    for where, step in template.all_steps:
        if step.name in seen:
            yield f"{where}: name: another step has that name: each needs its own"
        seen.add(step.name)
    bound = ""
    for step in template.steps:
        if step.approval is not None and bound:
            yield (
                f"step {step.name}: approval: cannot come after step {bound}, which must run again: a run that waits "
                "ends its attempt, and what that step made"
            )
        bound = bound or (step.name if step.must_run_again else "")
    for name, declared in (template.params or {}).items():
        if declared.secret is not None:
            if (declared.secret.block is None) == (declared.secret.env is None):
                yield f"param {name}: secret: expected either `block` or `env`"
            others = sorted(declared.model_fields_set - {"secret", "description"})
            if others:
                yield f"param {name}: {others[0]}: is not for a secret, which takes secret and description"


def _wanted(template: Template) -> tuple[list[str], dict[str, list[str]]]:
    """The names of all parameters, and by step what is wrong with how it names them."""
    found = dict.fromkeys(template.params or {})
    unclear: dict[str, list[str]] = {}
    for where, step in template.all_steps:
        problems: list[str] = []
        named: list[tuple[str, str]] = []
        field = "command"
        try:
            named += [(field, name) for name in _check_command(step)]
            for key, value in step.env.items():
                field = f"env {key}"
                if obeyed(key) and REFERENCE.search(value):
                    problems.append(f"{where}: {field}: programs obey this variable: no parameter may say what they do")
                named += [(field, name) for name in references(value)]
            field = "approval: question"
            named += [(field, name) for name in references(_question(step))]
        except CommandError as error:
            problems.append(f"{where}: {field}: {error}")
        for field, name in named:
            if template.params is not None and name not in template.params:
                meant = did_you_mean(name, template.params)
                meant = f".{meant}" if meant else ": declare it, or leave out `params` altogether"
                problems.append(f"{where}: {field}: {name} is not among the declared params{meant}")
            elif template.params is None:
                try:
                    found[check_parameter_name(name)] = None
                except ValueError as error:
                    problems.append(f"{where}: {field}: ${{params.{name}}}: {error}")
        if problems:
            unclear[where] = problems
    return list(found), unclear


def _of_subject(template: Template, names: Sequence[str], *, secrets: Mapping[str, SecretSource]) -> Iterator[str]:
    """What is wrong with what its runs are called."""
    for name in REFERENCE.findall(template.subject or ""):
        if name in secrets:
            yield f"subject: {name} is secret, and everybody reads what a run is called"
        elif name not in names:
            known = ", ".join(names) or "there are none"
            yield f"subject: {name!r} is not a parameter of the form: {known}"


def _question(step: PlainStep) -> str:
    return step.approval.question if isinstance(step, Step) and step.approval else ""


def _check_command(step: PlainStep) -> list[str]:
    """The parameters that a command names, by `${params.x}` or as a variable that nothing else sets."""
    check_syntax(step.command)
    given = [name.lower() for name in re.findall(rf"\$\{{?{PREFIX}([A-Z0-9_]+)", step.command)]
    unset = [name.lower() for name in unset_variables(step.command, own=step.env) if not name.startswith(PREFIX)]
    return list(dict.fromkeys([*references(step.command), *given, *unset]))


def _parameters(
    template: Template, names: list[str], carriers: frozenset[str]
) -> tuple[list[FormParameter], list[str]]:
    found, problems = [], []
    declared: Mapping[str, Parameter] = template.params or {}
    commands = [step.command for _, step in template.all_steps]
    in_text = {name for command in commands for name in REFERENCE.findall(command)}
    text = "\n".join(commands)
    for name in names:
        named = any(re.search(rf"\$\{{?{variable}\b", text) for variable in spellings(name, commands))
        where: Any = "command" if name in in_text else "argument" if named else "environment"
        try:
            found.append(form_parameter(name, declared.get(name), Place(where, carriers)))
        except ValueError as error:
            problems.append(f"param {name}: {error}")
    return found, problems


def _reasons(
    step: PlainStep,
    parameters: list[FormParameter],
    *,
    secrets: Mapping[str, SecretSource],
    variables: Mapping[str, tuple[str, ...]],
    template: Template,
) -> list[str]:
    """Why the command of a step is refused."""
    plain = {one.name for one in parameters if one.plain}
    listed = {name for name, one in (template.params or {}).items() if one.enum is not None} - plain
    texts = {one: name in listed for name in variables.keys() - plain - secrets.keys() for one in variables[name]}
    secret = {one: name for name in secrets for one in variables[name]}
    for key, text in step.env.items():
        texts.pop(key, None)
        secret.pop(key, None)
        named = references(text)
        if hidden := sorted(secrets.keys() & set(named)):
            secret[key] = hidden[0]
        if set(named) - secrets.keys() and not (named[0] in plain and text == f"${{params.{named[0]}}}"):
            texts[key] = False
    places = UnsafePlaces(variables=texts, listed=listed, plain=plain | secrets.keys())
    return list(dict.fromkeys([*secrets_shown(step.command, secret), *places.evaluated(step.command)]))


def _programs(template: Template) -> tuple[str, ...]:
    if template.preflight is not None:
        return tuple(template.preflight)
    steps = [step for _, step in template.all_steps if "PATH" not in step.env]
    return tuple(dict.fromkeys(program for step in steps for program in programs(step.command)))


def _line(item: Any, content: Mapping[str, Any]) -> str:
    """One of pydantic's errors in the words of the file."""
    words, fields, here = [], _fields(Template), content
    where = list(item["loc"])
    # a default may be of other types as well, and has a line for each
    no_number = item["type"] in ("int_type", "float_type") and where[-1] in ("int", "float") and "default" not in where
    while where:
        part = where.pop(0)
        if part in ("steps", "on_failure") and where and isinstance(where[0], int):
            number = where.pop(0)
            step = _at(_at(here, part), number)
            name = _at(step, "name")
            shown = name if isinstance(name, str) and name else f"{number + 1}"
            words.append(f"{'' if part == 'steps' else 'on_failure '}step {shown}")
            here, fields = step, _fields(Step if part == "steps" else PlainStep)
        elif part == "params" and where:
            name = where.pop(0)
            words.append(f"param {name}")
            here, fields = _at(_at(here, part), name), _fields(Parameter)
        elif (
            part == "[key]"
            or (no_number and not where)
            or (isinstance(part, str) and part.startswith(("function-", "constrained-")))
        ):
            continue
        else:
            words.append(str(part))
            parts: dict[str, type[BaseModel]] = {
                "secret": SecretSource,
                "retry_policy": RetryPolicy,
                "approval": Approval,
                "schedule": TemplateSchedule,
            }
            fields = _fields(parts[part]) if part in parts else fields
    message = refusal(item)
    if item["type"] == "extra_forbidden":
        message = f"no such field.{did_you_mean(words[-1], fields)} There are: {', '.join(fields)}"
    elif no_number:
        of_what = " of seconds" if words[-1].endswith(("timeout", "seconds")) else ""
        message = f"expected a number{of_what}, not {item['input']!r:.40}"
    elif item["type"] == "string_type" and isinstance(item.get("input"), (bool, int, float)):
        message = f"expected text: put quotes around {item['input']!r}"
    return ": ".join([*words, message])


def _fields(model: type[BaseModel]) -> list[str]:
    return list(model.model_fields)


def _at(value: Any, key: Any) -> Any:
    try:
        return value[key]
    except (KeyError, IndexError, TypeError):
        return None
