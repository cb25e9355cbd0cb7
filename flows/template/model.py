"""What a template may say: the fields of the file. Everything about what its words mean stands elsewhere."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr

from flows.shell.environment import check_text
from flows.template.schedule import TemplateSchedule
from flows.template.words import check_parameter_name, check_variable_name
from opsdb.errors import UsageError
from opsdb.kinds.template_files import KIND
from opsdb.tables import Lane

LONGEST_SECONDS = 7 * 24 * 3600

Word = Annotated[str, Field(min_length=1, max_length=100_000)]
Text = Annotated[StrictStr, Field(max_length=2_000)]
Seconds = Annotated[StrictInt | StrictFloat, Field(gt=0, le=LONGEST_SECONDS)]
Scalar = StrictBool | StrictInt | StrictFloat | StrictStr
ParameterName = Annotated[str, AfterValidator(check_parameter_name)]
VariableName = Annotated[str, AfterValidator(check_variable_name)]
Program = Annotated[str, Field(pattern=r"^[A-Za-z0-9_/][A-Za-z0-9_./+-]*$", max_length=200)]


def _no_control_characters(text: str) -> str:
    if any(ord(character) < 32 and character not in "\t\n" for character in text):
        raise ValueError("holds a control character")
    return text


def _carried(text: str) -> str:
    try:
        check_text("the value", text)
    except UsageError as error:
        raise ValueError(str(error)) from None
    return text


EnvironmentValue = Annotated[StrictStr, Field(max_length=100_000), AfterValidator(_carried)]
Command = Annotated[Word, AfterValidator(_no_control_characters)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SecretSource(_Part):
    """Where a secret comes from: exactly one of these."""

    block: str | None = Field(
        None, pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=100, description="Name of a Secret block in Prefect."
    )
    env: VariableName | None = Field(None, description="Environment variable of the worker.")


class Parameter(_Part):
    """What a run may be given under one name. One without any field takes what the room knows of that name."""

    type: Literal["string", "integer", "number", "boolean", "list"] | None = Field(
        None, description="Default: string. A list holds texts, which reach the commands with commas between them."
    )
    description: Text = Field("", description="Stands in the form, and in errors.")
    pattern: str | None = Field(
        None,
        max_length=1_000,
        description="Regular expression for the whole text, or each item of a list; without backreferences and "
        "lookaround. A text that a command names as `${params.x}` keeps to its letters as well.",
    )
    words: Text = Field(
        "", description="What the pattern takes, in words for the form and for errors, as in `an absolute path`."
    )
    enum: list[Scalar] | None = Field(None, min_length=1, max_length=200, description="All allowed values.")
    minimum: StrictInt | StrictFloat | None = Field(None, description="Smallest number.")
    maximum: StrictInt | StrictFloat | None = Field(None, description="Largest number.")
    min_length: StrictInt | None = Field(
        None, ge=0, le=100_000, description="Characters of the text. Default: 1, so that it must not be empty."
    )
    max_length: StrictInt | None = Field(
        None, ge=1, le=100_000, description="Characters of the text, or of each item. Default: 1,000."
    )
    existing: Literal["folder", "file"] | None = Field(
        None, description="The text, or each item, is the path of such a one, which must exist in the preflight."
    )
    default: Scalar | list[StrictStr] | None = Field(None, description="Without one the parameter must be given.")
    secret: SecretSource | None = Field(
        None, description="No parameter of the form: the value is fetched when the run starts, and masked in output."
    )


class RetryPolicy(_Part):
    """How often a step that failed is tried again."""

    retries: StrictInt = Field(0, ge=0, le=20, description="Further tries of each step that names none itself.")
    delay_seconds: Annotated[StrictInt | StrictFloat, Field(ge=0, le=3600)] = Field(
        5, description="Pause before each further try."
    )


class PlainStep(_Part):
    """One shell command. It runs in bash, with `set -euo pipefail`."""

    name: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$", description="Unique in the template.")
    command: Command = Field(
        description="Shell text. `${params.x}` is replaced by the value, which holds nothing that means anything to a "
        "shell; `$PARAM_X` is any text, by the environment."
    )
    timeout: Seconds = Field(description="Seconds after which it is stopped, and counts as failed.")
    env: dict[VariableName, EnvironmentValue] = Field(
        default_factory=dict,
        description="Environment of this step alone. `${params.x}` is replaced by the value; no shell reads the rest.",
    )
    working_dir: Word | None = Field(
        None, description="Folder it runs in; a relative one is below the template's own folder, which is the default."
    )


class Approval(_Part):
    """A person is asked before the step: `ops approve`."""

    question: Annotated[StrictStr, Field(min_length=1, max_length=500)] = Field(
        description="What is asked. `${params.x}` is replaced by the value."
    )
    timeout: Seconds = Field(3600, description="Seconds after which the run fails when nobody answered.")


class Step(PlainStep):
    """One shell command of the runbook."""

    approval: Approval | None = Field(
        None, description="Ask a person before this step. The run ends its process meanwhile, and takes no slot."
    )
    retries: StrictInt | None = Field(None, ge=0, le=20, description="Further tries. Default: that of `retry_policy`.")
    must_run_again: StrictBool = Field(
        False,
        description="Whether another attempt takes it again though it succeeded: what it makes ends with its attempt.",
    )
    on_failure: list[PlainStep] = Field(
        default_factory=list, max_length=50, description="Run when this step has failed for good, before the run fails."
    )


class Template(_Part):
    """A runbook of the Ops Control Room as a file, in JSON or YAML."""

    model_config = ConfigDict(title="Template of the Ops Control Room")

    kind: str = Field(pattern=KIND, description="Name under which it is started: `ops run KIND`.")
    description: Text = Field("", description="What it does, for the Prefect UI.")
    subject: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")] | None = Field(
        None,
        description="What a run is called, in lists, alerts and Prefect: `${params.x}` is replaced by the value. "
        "Default: the parameters that must be given, and the kind.",
    )
    lane: Lane | None = Field(None, description="The only lane that it is deployed to. Default: all four.")
    params: dict[ParameterName, Parameter] | None = Field(
        None,
        description="Its parameters. Without this field they are those that the commands name: `${params.x}`, and each "
        "`${NAME}` that nothing sets.",
    )
    timeout_seconds: Seconds | None = Field(
        None, description="Seconds that all steps may take together. Default: what their timeouts and tries add up to."
    )
    retry_policy: RetryPolicy = RetryPolicy()
    requeue: StrictInt = Field(
        1, ge=1, le=10, description="Times that a run is started in all when its process or host dies. Default: once."
    )
    exclusive: str | None = Field(
        None,
        description="Name of a parameter: runs with the same value of it, of whatever runbook, exclude each other.",
    )
    preflight: list[Program] | None = Field(
        None, max_length=100, description="Programs that must be there. Default: those that the commands call."
    )
    schedule: TemplateSchedule | None = Field(
        None, description="When the room runs it by itself; it needs `lane`. Default: when somebody starts it."
    )
    steps: list[Step] = Field(min_length=1, max_length=200, description="Run one after another.")
    on_failure: list[PlainStep] = Field(
        default_factory=list, max_length=50, description="Run when a step has failed for good, before the run fails."
    )

    @property
    def definition(self) -> str:
        """SHA-256 of what the file means, in hex: layout and order of fields make no difference."""
        canonical = json.dumps(self.document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def document(self) -> dict[str, Any]:
        """What it does, without what is left to defaults, as JSON.

        When it does that, what its runs are called, and how a pattern is explained, is not part of it.
        """
        no_part: dict[str, Any] = {"schedule": True, "subject": True, "params": {"__all__": {"words"}}}
        return self.model_dump(mode="json", exclude_defaults=True, exclude=no_part)

    @property
    def all_steps(self) -> list[tuple[str, PlainStep]]:
        """Every step with the words that name it in an error."""
        found: list[tuple[str, PlainStep]] = []
        for step in self.steps:
            found.append((f"step {step.name}", step))
            found += [(f"step {step.name}: on_failure step {one.name}", one) for one in step.on_failure]
        return found + [(f"on_failure step {one.name}", one) for one in self.on_failure]

    def retries_of(self, step: Step) -> int:
        """How often the step is tried again."""
        return self.retry_policy.retries if step.retries is None else step.retries

    @property
    def steps_seconds(self) -> float:
        """The longest that the steps may take, with all their tries."""
        if self.timeout_seconds is not None:
            return self.timeout_seconds
        delay = self.retry_policy.delay_seconds
        return math.fsum(
            step.timeout * (tries + 1) + delay * tries for step in self.steps for tries in [self.retries_of(step)]
        )

    @property
    def most_tries(self) -> int:
        """How many commands a run executes at most."""
        after = max(len(step.on_failure) for step in self.steps) + len(self.on_failure)
        return sum(1 + self.retries_of(step) for step in self.steps) + after

    @property
    def on_failure_seconds(self) -> float:
        """The longest that the steps after a failure may take."""
        longest = max(math.fsum(one.timeout for one in step.on_failure) for step in self.steps)
        return longest + math.fsum(one.timeout for one in self.on_failure)


def template_schema() -> dict[str, Any]:
    """The JSON Schema of template files, for editors."""
    schema = Template.model_json_schema()
    schema["properties"]["$schema"] = {"type": "string", "description": "Where editors find the schema."}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
