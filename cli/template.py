"""The commands about templates: what a file means, and which there are."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from cli.columns import Columns
from cli.options import JsonOption
from cli.text import errors, moment, print_json, safe_line, safe_text, say, value_text
from cli.text import show as show_columns
from opsdb.errors import OpsError
from opsdb.settings import Settings, load_settings


def register(app: typer.Typer) -> None:
    """Add the commands."""
    template = typer.Typer(help="Runbooks that are files.", no_args_is_help=True)
    for name, command in (("check", check), ("list", list_), ("schema", schema)):
        template.command(name)(command)
    app.add_typer(template, name="template", rich_help_panel="Runs")


def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILES...", help="JSON or YAML.", show_default=False)],
    *,
    as_json: JsonOption = False,
) -> None:
    """Check templates. Report everything that is wrong with them, or what they mean: their parameters, and what their
    steps execute.

    bash reads each command, and ShellCheck says what it would write otherwise, which is advice and never refuses.
    Works without a room. Ends with 2 when a template is invalid. With --json several files are a list.

    Example: ops template check flows/templates/disk_space.yaml
    """
    from opsdb.kinds.template_files import TemplateError, problems_of

    documents, wrong = [], []
    for path in files:
        try:
            documents.append(_checked(path.absolute(), load_settings()))
        except TemplateError as error:
            documents.append({"file": str(path.absolute()), "valid": False, "errors": problems_of(error)})
            wrong.append(str(error))
    if as_json:
        print_json(documents[0] if len(documents) == 1 else documents)
    else:
        for one in documents:
            if one["valid"]:
                _print(one)
    if wrong and as_json:
        raise typer.Exit(2)
    if wrong:
        raise TemplateError("\n".join(wrong))


def _checked(path: Path, settings: Settings) -> dict[str, Any]:
    """What was understood of the file. Raises TemplateError."""
    from cli.shellcheck import advice
    from flows.template.catalogue import check_kind, read_whole
    from flows.template.missing_variables import missing_variables
    from opsdb.kinds.kinds import registered_kinds
    from opsdb.kinds.template_files import template_files, template_folders

    read = read_whole(path)
    taken = registered_kinds(settings.prefect_yaml)
    # a file that lies elsewhere may be the next version of one in the folders
    beside = template_files(settings) if path.parent in template_folders(settings) else []
    check_kind(read.template.kind, path, beside, taken=taken)
    return {**document(read), "advice": advice(read), "changes": missing_variables(read)}


def list_(*, as_json: JsonOption = False) -> None:
    """List the templates in the folders: whether each can run, how many versions of it ran, and its last run.

    Works without a room, which then cannot say what ran.

    Example: ops template list --json
    """
    from flows.template.catalogue import catalogue
    from opsdb.kinds.template_files import template_folders

    settings = load_settings()
    found = catalogue(settings)
    records = _records(settings, [one.kind for one in found])
    documents = [
        {
            "kind": one.kind,
            "file": str(one.path),
            "valid": one.error is None,
            "errors": (one.error or "").splitlines(),
            "lane": one.read.template.lane if one.read else None,
            "definition": one.read.template.definition if one.read else None,
            "versions": record.versions if record else None,
            "last_run_at": record.last_run_at if record else None,
            "last_status": record.last_status if record else None,
        }
        for one, record in zip(found, records, strict=True)
    ]
    if as_json:
        print_json(documents)
    elif documents:
        show_columns(_table(documents))
        for one in found:
            if one.error:
                say(one.error, to=errors)
    else:
        folders = " and ".join(str(folder) for folder in template_folders(settings))
        errors.print(f"No templates in {folders}.", markup=False)


def schema() -> None:
    """Print the JSON Schema of templates, with which editors complete and check them.

    Example: ops template schema > template.schema.json
    """
    from flows.template.model import template_schema

    typer.echo(json.dumps(template_schema(), indent=2))


def document(read: Any) -> dict[str, Any]:
    """What was understood of a template (a ReadTemplate), for programs."""
    from flows.template.known_parameters import REQUIRED
    from flows.template.parameters import schema_of

    template = read.template
    forms = schema_of(read.parameters)

    def step(one: Any) -> dict[str, Any]:
        return {
            "name": one.name,
            "command": one.command,
            "timeout_seconds": one.timeout,
            "environment": dict(one.env),
            "working_dir": str(read.folder_of(one)),
        }

    return {
        "file": str(read.path),
        "valid": True,
        "errors": [],
        "kind": template.kind,
        "lane": template.lane,
        "definition": template.definition,
        "timeout_seconds": template.steps_seconds,
        "requeue": template.requeue,
        "exclusive": template.exclusive,
        "schedule": template.schedule.model_dump(mode="json", exclude_none=True) if template.schedule else None,
        "preflight": list(read.programs),
        "params": [
            {
                "name": one.name,
                "type": one.type,
                "required": one.default is REQUIRED,
                "default": None if one.default is REQUIRED else one.default,
                "description": one.description,
                "schema": forms[one.name],
            }
            for one in read.parameters
        ],
        "variables": {name: list(variables) for name, variables in read.variables.items()},
        "secrets": {
            name: {"block": source.block} if source.block else {"env": source.env}
            for name, source in read.secrets.items()
        },
        "steps": [
            {
                **step(one),
                "tries": 1 + template.retries_of(one),
                "approval": one.approval.question if one.approval else None,
                "must_run_again": one.must_run_again,
                "on_failure": [step(after) for after in one.on_failure],
            }
            for one in template.steps
        ],
        "on_failure": [step(one) for one in template.on_failure],
    }


def _records(settings: Settings, kinds: list[str | None]) -> list[Any]:
    from opsdb.runs.lookup import reading
    from opsdb.runs.template_versions import read_record

    try:
        with reading(settings) as db:
            return [read_record(db, kind=kind or "") for kind in kinds]
    except OpsError as error:
        errors.print(f"What ran is not known: {safe_line(str(error), width=300)}", markup=False)
        return [None] * len(kinds)


def _table(documents: list[dict[str, Any]]) -> Columns:
    table = Columns.of("kind", "lane", "valid", ">versions", "last run", "file")
    for one in documents:
        now = datetime.now(UTC)
        last = f"{one['last_status']}, {moment(one['last_run_at'], now)}" if one["last_run_at"] else ""
        table.add(
            safe_line(one["kind"] or "?"),
            one["lane"] or "all",
            Text("yes", style="green") if one["valid"] else Text("no", style="bold red"),
            "" if one["versions"] is None else str(one["versions"]),
            last,
            safe_line(one["file"], width=500),
        )
    return table


def _print(found: dict[str, Any]) -> None:
    lane = f"lane {found['lane']}" if found["lane"] else "every lane"
    tries = f", started up to {found['requeue']} times" if found["requeue"] > 1 else ""
    alone = f", alone for its {found['exclusive']}" if found["exclusive"] else ""
    say(f"{found['kind']}: {lane}, at most {found['timeout_seconds']:g} s{tries}{alone}")
    if found["schedule"]:
        say(f"schedule: {', '.join(f'{name} {value_text(value)}' for name, value in found['schedule'].items())}")
    say(f"programs: {', '.join(found['preflight']) or 'none'}")
    parameters = Columns.of("parameter", "type", "default", "rule", "meaning")
    for one in found["params"]:
        default = "required" if one["required"] else json.dumps(one["default"], ensure_ascii=False)
        cells = (one["name"], one["type"], default, _rule(one["schema"]), one["description"])
        parameters.add(*(safe_line(cell, width=500) for cell in cells))
    for name, source in found["secrets"].items():
        where = f"Secret block {source['block']}" if "block" in source else f"variable {source['env']} of the worker"
        parameters.add(name, "secret", "", "", safe_line(where))
    if parameters.rows:
        show_columns(parameters)
    for one in found["steps"]:
        tries = f", {one['tries']} tries" if one["tries"] > 1 else ""
        _print_step(one, f"step {one['name']}{tries}")
        for after in one["on_failure"]:
            _print_step(after, f"after a failure of {one['name']}: {after['name']}")
    for one in found["on_failure"]:
        _print_step(one, f"after any failure: {one['name']}")
    for line in found["advice"]:
        say(f"advice: {line}")
    for line in found["changes"]:
        say(line, style="yellow", to=errors)


def _print_step(step: dict[str, Any], title: str) -> None:
    """A step with its command and environment, as they are: what would run is neither cut nor broken."""
    say(f"{title}, at most {step['timeout_seconds']:g} s", style="bold")
    if question := step.get("approval"):
        say(f"    asks first: {safe_line(question)}", style="yellow")
    for line in safe_text(step["command"].rstrip()).splitlines():
        say(f"    {line}")
    for name, value in step["environment"].items():
        say(f"    {name}={safe_line(value)}", style="cyan")
    say(f"    in {step['working_dir']}", style="dim")


def _rule(schema: dict[str, Any]) -> str:
    rules = {**schema, **schema.get("items", {})}
    shown = [f"{word} {rules[word]}" for word in ("enum", "pattern", "minimum", "maximum") if word in rules]
    return ", ".join(shown)
