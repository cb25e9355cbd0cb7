"""`ops deploy`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.text import errors, say
from opsdb.errors import UsageError
from opsdb.kinds.kinds import registered_entrypoints
from opsdb.settings import Settings, load_settings
from opsdb.start_signal import await_start

if TYPE_CHECKING:
    from blocks.form_words import Offer
    from deployments.server.api import PrefectApi
    from deployments.server.declared import FileDeployment
    from deployments.server.unchanged import Deployed
    from flows.own.catalogue import OwnRunbook
    from flows.template.catalogue import CataloguedTemplate
    from flows.template.reading import ReadTemplate


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Parts of the room: `ops up` runs them")(deploy)


def deploy(
    skip_broken: Annotated[bool, typer.Option("--skip-broken", help="Name invalid runbooks, but end with 0.")] = False,
    reset: Annotated[
        list[str],
        typer.Option(
            "--reset", metavar="NAME", help="Reset this deployment to the values of the file. May be repeated."
        ),
    ] = [],  # noqa: B006  # Typer needs a plain value
) -> None:
    """Apply the lanes, prefect.yaml, templates, the team's own runbooks and the types of blocks to Prefect.

    Repeating it changes nothing. Invalid runbooks are named and left as they were deployed. What somebody
    set in Prefect (a schedule's time, its parameters, a pause) stays and is named. Workers execute new and changed
    runbooks from then on, without a restart.

    Example: ops deploy --reset nightly_backup/nightly-backup
    """
    from deployments.server import access, unchanged
    from deployments.server.api import PrefectApi

    settings = load_settings()
    _warn_of_other_settings(settings)
    last = None if reset else unchanged.last_deployed(settings)
    if last is None or last.read != unchanged.digest_of_what_is_read(settings):
        _load(settings)
    await_start()
    api = PrefectApi(access.ui_url(settings), access.read_secrets(settings).prefect_auth_string, seconds=10)
    offers = _offers(settings)
    before = _look(settings, api, offers)
    if before is not None and last is not None and unchanged.same(last, before):
        for line in (*last.said, "all of it as at the last deploy"):
            say(line)
        return
    said: list[str] = []

    def say_and_keep(line: str) -> None:
        said.append(line)
        say(line)

    clean = _deploy(settings, skip_broken=skip_broken, reset=reset, offers=offers, tell=say_and_keep)
    # what wrote nothing may be left out next time, and said again; what warned is looked at again
    if clean and before is not None and _look(settings, api, offers) == before:
        unchanged.note(settings, replace(before, said=tuple(said)))


def _warn_of_other_settings(settings: Settings) -> None:
    from deployments.room.report import differing_runbooks

    if differs := differing_runbooks(settings):
        say(
            f"warning: {differs}: what is deployed here is not what its workers execute, and its next start deploys "
            "what it says itself. Hint: write the setting into ops.toml of OPS_HOME, which both read, and start the "
            "room again (docs/settings-file.md)",
            style="yellow",
            to=errors,
        )


def _load(settings: Settings) -> None:
    """Import what comparing everything takes, so that the room's start need not wait for it."""
    from deployments.server import access

    access.use(settings)
    names = ["deployments.server.check", "deployments.server.deploy", "flows.template.catalogue", "flows.own.catalogue"]
    with suppress(Exception, SystemExit):  # what cannot be imported is named with its reason when it is needed
        for name in [*names, *(one.rpartition(".")[0] for one in registered_entrypoints(settings.prefect_yaml))]:
            import_module(name)


def _offers(settings: Settings) -> dict[Offer, list[str]]:
    """What the forms name. Deploying does not depend on a database server that does not answer."""
    from blocks.form_words import Offer
    from flows.backup.odoo_databases import find_odoo_databases

    databases = find_odoo_databases(settings.odoo_url)
    found = {Offer.BACKUP_FOLDER: [str(settings.backups)]}
    return found if databases is None else found | {Offer.DATABASES: databases}


def _look(settings: Settings, api: PrefectApi, offers: Mapping[Offer, list[str]]) -> Deployed | None:
    """What exists, in short; None when that is unknown, also where nothing answers: Prefect reports that."""
    import httpx
    import psycopg

    from deployments.server import unchanged

    try:
        return unchanged.look(settings, api, offers)
    except (httpx.HTTPError, psycopg.Error, ValueError, KeyError, TypeError):
        return None


def _deploy(
    settings: Settings,
    *,
    skip_broken: bool,
    reset: Collection[str],
    offers: Mapping[Offer, list[str]],
    tell: Callable[[str], None],
) -> bool:
    """Compare everything, and write what differs. Returns whether nothing was to be warned of."""
    from deployments.server import access

    access.use(settings)
    from deployments.server.check import check_parameters
    from deployments.server.deploy import deploy_everything
    from flows.template.missing_variables import missing_variables

    found = read_files(settings)
    warned = [line for one in found.templates if one.read for line in missing_variables(one.read)]
    for line in warned:
        say(line, style="yellow", to=errors)
    broken = found.errors
    broken += deploy_everything(
        settings,
        files=found.deployments,
        all_read=not found.errors,
        say=tell,
        offers=offers,
        reset=reset,
    )
    for check in (checks := check_parameters(settings)):
        say(f"warning: {check.subject}: {check.found} {check.advice}", style="yellow", to=errors)
    if broken and not skip_broken:
        raise UsageError("everything else was deployed, but these runbooks are invalid:\n" + "\n".join(broken))
    for error in broken:
        say(f"warning: runbook left out: {error}", to=errors)
    return not (warned or checks or broken)


@dataclass(frozen=True)
class Files:
    """What is a runbook without standing in prefect.yaml."""

    templates: list[CataloguedTemplate]
    own: list[OwnRunbook]

    @property
    def errors(self) -> list[str]:
        """Why some of them cannot run, each reason once."""
        found = [*(one.error for one in self.templates), *(one.error for one in self.own)]
        return list(dict.fromkeys(filter(None, found)))

    @property
    def deployments(self) -> list[FileDeployment]:
        """What Prefect has to have of those that can run."""
        from deployments.server.declared import FileDeployment
        from opsdb.kinds.runbook_files import PACKAGE

        own = [FileDeployment(one.kind, None, None, package=PACKAGE) for one in self.own if one.flow and one.kind]
        return template_deployments(self.templates) + own


def read_files(settings: Settings) -> Files:
    """Read the templates, and import the team's own runbooks. Raises as `registered_kinds`."""
    from flows.own import catalogue as own
    from flows.template import catalogue as templates

    return Files(templates.catalogue(settings), own.catalogue(settings))


def template_deployments(found: Collection[CataloguedTemplate]) -> list[FileDeployment]:
    """What Prefect has to have of the templates that can run."""
    from deployments.server.declared import FileDeployment

    return [
        FileDeployment(
            one.kind,
            one.lane,
            one.definition[:12],
            schedule=_schedule_entry(read) if one.schedule else None,
            rules=one.schedule.rules if one.schedule else None,
        )
        for read, one in ((template.read, template.read.template) for template in found if template.read is not None)
    ]


def _schedule_entry(read: ReadTemplate) -> dict[str, Any]:
    """With all parameters: the form of a schedule shows what the schedule itself sets, and no defaults."""
    assert read.template.schedule is not None  # noqa: S101
    entry = read.template.schedule.entry
    defaults = {one.name: one.default for one in read.parameters if one.has_default and one.default != ""}
    return {**entry, "parameters": {**defaults, **entry["parameters"]}}
