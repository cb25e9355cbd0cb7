"""`ops deploy`."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated

import typer

from cli.text import errors, say
from opsdb.errors import UsageError
from opsdb.settings import load_settings

if TYPE_CHECKING:
    from deployments.server.declared import TemplateDeployment
    from flows.template.catalogue import CataloguedTemplate


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Parts of the room: `ops up` runs them")(deploy)


def deploy(
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Name templates that are not right, and end with 0 all the same.")
    ] = False,
) -> None:
    """Apply the lanes, the deployments of prefect.yaml, the templates and the types of blocks to Prefect.

    Repeating it changes nothing. Templates that are not right are named and left as they were deployed.
    """
    from deployments.server import access

    settings = load_settings()
    access.use(settings)
    from deployments.server.check import check_parameters
    from deployments.server.deploy import deploy_everything
    from flows.template.catalogue import catalogue
    from flows.template.missing_variables import missing_variables

    found = catalogue(settings)
    for line in [line for one in found if one.read for line in missing_variables(one.read)]:
        say(line, style="yellow", to=errors)
    broken = [template.error for template in found if template.error]
    deploy_everything(
        settings,
        templates=template_deployments(found),
        all_read=not broken,
        say=say,
    )
    for check in check_parameters(settings):
        say(f"warning: {check.subject}: {check.found} {check.advice}", style="yellow", to=errors)
    if broken and not skip_broken:
        raise UsageError("everything else was deployed, but these templates are not right:\n" + "\n".join(broken))
    for error in broken:
        say(f"warning: template left out: {error}", to=errors)


def template_deployments(found: Collection[CataloguedTemplate]) -> list[TemplateDeployment]:
    """What Prefect has to have of those that can run."""
    from deployments.server.declared import TemplateDeployment

    return [
        TemplateDeployment(
            one.kind,
            one.lane,
            one.definition[:12],
            schedule=one.schedule.entry if one.schedule else None,
            rules=one.schedule.rules if one.schedule else None,
        )
        for one in (template.read.template for template in found if template.read is not None)
    ]
