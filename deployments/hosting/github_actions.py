"""A workflow of GitHub's that deploys workers of the room. Judged by actionlint and zizmor."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from deployments.hosting.do_app import Branch
from deployments.hosting.programs import absent, find_program, judged, run_program, write_files
from deployments.hosting.template import Files, Template, Verdict
from deployments.hosting.values import RelativePath, Slug, Split, Values, matching

AppId = Annotated[
    str,
    matching(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", "the id of the app, a UUID: `doctl apps list` shows it"),
]
Pattern = Annotated[
    str, matching(r"(?!/)(?!(?:.*/)?\.\.(?:/|\Z))[A-Za-z0-9._/*-]+", "paths of the repository, with * and **")
]
Patterns = Annotated[tuple[Pattern, ...], BeforeValidator(Split)]


class GithubActionsValues(Values):
    """What the workflow takes."""

    app_id: AppId = Field(description="Id of the app on DigitalOcean's App Platform: `doctl apps list` shows it.")
    spec: RelativePath = Field("do-app.yaml", description="Path of the app's spec in the repository.")
    branch: Branch = Field("main", description="Branch whose pushes deploy.")
    paths: Patterns = Field(
        (
            "blocks/**",
            "cli/**",
            "deployments/**",
            "exporter/**",
            "flows/**",
            "opsdb/**",
            "constraints.txt",
            "prefect.yaml",
        ),
        min_length=1,
        description="Paths whose changes deploy.",
    )
    environment: Slug = Field("production", description="Environment on GitHub that holds the secrets.")
    timeout_minutes: int = Field(30, ge=5, le=120, description="Time that a deployment may take.")

    @property
    def all_paths(self) -> tuple[str, ...]:
        """The paths, that of the spec among them."""
        return tuple(dict.fromkeys([*self.paths, self.spec]))


def check_actionlint(files: Files) -> Verdict:
    """Let actionlint read the workflow."""
    program = find_program("actionlint")
    if program is None:
        return absent("actionlint", "actionlint is not installed here")
    return judged("actionlint", run_program([program, "-no-color", "-"], text="".join(files.values())), silent=True)


def check_zizmor(files: Files) -> Verdict:
    """Let zizmor look for what would let somebody in; it asks nobody."""
    program = find_program("zizmor")
    if program is None:
        return absent("zizmor", "zizmor is not installed here: pip install zizmor")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / ".github/workflows"
        folder.mkdir(parents=True)
        paths = write_files(files, folder)
        command = [program, "--offline", "--no-progress", "--persona", "pedantic", "--color", "never"]
        return judged("zizmor", run_program([*command, *map(str, paths)]))


GITHUB_ACTIONS = Template(
    name="github-actions",
    about="A workflow that deploys workers once per push, and waits for that deployment.",
    values=GithubActionsValues,
    files={"deploy-workers.yml": "github-actions.yml.j2"},
    checks=(check_actionlint, check_zizmor),
)
