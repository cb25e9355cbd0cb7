"""The inner names of Prefect that the lane worker stands on: an upgrade that breaks one fails here, by its name."""

from __future__ import annotations

import asyncio
import importlib
import inspect
from typing import Any
from unittest.mock import Mock
from uuid import uuid4

import prefect
import pytest
from prefect import flow_engine, results
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.events import related
from prefect.workers.base import BaseWorker

from deployments.worker import prefect_inner
from deployments.worker.lane_worker import LaneWorker

INNER: dict[str, tuple[str, ...]] = {
    # name: the parameters that we pass, by name or in this order
    "prefect._internal.control_listener._set_intent": ("value",),
    "prefect._internal.control_listener.get_intent": (),
    "prefect.engine.handle_engine_signals": ("flow_run_id",),
    "prefect.events.related.related_resources_from_run_context": ("client",),
    "prefect.flow_engine.observe_flow_run_suspension": ("flow_run_id", "suspension_request"),
    "prefect.flow_engine.run_flow": ("flow", "flow_run", "return_type", "error_logger"),
    "prefect.flows.load_flow_from_entrypoint": ("entrypoint", "use_placeholder_flow"),
    "prefect.logging.loggers.flow_run_logger": ("flow_run",),
    "prefect.results._read_server_default_result_storage_block_id": (),
    "prefect.settings.get_current_settings": (),
    "prefect.utilities.engine.propose_state": ("client", "state", "flow_run_id"),
    "prefect.workers.base.BaseWorker._submit_run": ("self", "flow_run"),
    "prefect.workers.base.BaseWorker._cancel_run": ("self", "flow_run_id"),
    "prefect.workers.base.BaseWorker._get_scheduled_flow_runs": ("self",),
    "prefect.workers.base.BaseWorker._sync_and_initialize": ("self",),
    "prefect.workers.base.BaseWorker._release_limit_slot": ("self", "flow_run_id"),
    "prefect.workers.base.BaseWorker.get_and_submit_flow_runs": ("self",),
    "prefect.workers.base.BaseWorker.setup": ("self",),
}


def look_up(name: str) -> Any:
    """What stands under a dotted name; AttributeError or ModuleNotFoundError."""
    parts: list[str] = []
    module = name
    while True:
        try:
            found = importlib.import_module(module)
            break
        except ModuleNotFoundError:
            module, _, part = module.rpartition(".")
            if not module:
                raise
            parts.insert(0, part)
    for part in parts:
        found = getattr(found, part)
    return found


def complaint(name: str, parameters: tuple[str, ...]) -> str | None:
    """What a version of Prefect has broken, in words, or None."""
    broken = f"Prefect {prefect.__version__} broke {name}, which the lane worker needs"
    try:
        found = look_up(name)
    except (AttributeError, ModuleNotFoundError) as error:
        return f"{broken}: it is gone ({error})"
    missing = set(parameters) - set(inspect.signature(found).parameters)
    return f"{broken}: it no longer takes {sorted(missing)}" if missing else None


@pytest.mark.parametrize("name", INNER)
def test_prefect_still_has_what_the_lane_worker_uses(name: str) -> None:
    assert complaint(name, INNER[name]) is None


def test_names_that_the_worker_says_it_uses_are_all_looked_at() -> None:
    listed = {name.rpartition(".")[2] for name in INNER if ".BaseWorker." in name}
    assert set(prefect_inner.WORKER_METHODS) <= listed


@pytest.mark.parametrize("name", prefect_inner.WORKER_METHODS)
def test_methods_that_we_override_are_still_called_by_prefect(name: str) -> None:
    source = inspect.getsource(inspect.getmodule(BaseWorker))  # type: ignore[arg-type]
    uses = source.count(f"self.{name}") + source.count(f"worker.{name}")
    message = f"Prefect {prefect.__version__} no longer calls BaseWorker.{name}: our override would do nothing"
    assert uses, message


@pytest.mark.parametrize("name", prefect_inner.WORKER_ATTRIBUTES)
def test_attributes_that_we_read_are_still_there(name: str) -> None:
    worker = LaneWorker("lane-a")
    missing = f"Prefect {prefect.__version__} broke BaseWorker.{name}: the attribute is gone"
    # one of them is set by setup(), which needs a server
    assert hasattr(worker, name) or f"self.{name} =" in inspect.getsource(BaseWorker.setup), missing


def test_prefect_still_lets_its_heartbeat_be_switched_off() -> None:
    flows = importlib.import_module("prefect.settings").get_current_settings().flows
    broken = f"Prefect {prefect.__version__} broke settings.flows.heartbeat_frequency"
    assert hasattr(flows, "heartbeat_frequency"), broken


def test_mark_cancelled_is_what_the_engine_asks_for() -> None:
    listener = importlib.import_module("prefect._internal.control_listener")
    try:
        prefect_inner.mark_cancelled()
        assert listener.get_intent() == "cancel", f"Prefect {prefect.__version__} broke control_listener._set_intent"
    finally:
        listener.clear_intent()


def test_what_the_worker_knows_is_not_asked_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(related, "RESOURCE_CACHE", {})
    for module, name in (
        (results, "_read_server_default_result_storage_block_id"),
        (flow_engine, "observe_flow_run_suspension"),
    ):
        monkeypatch.setattr(module, name, lambda *_: 1 / 0)
    ids = {kind: uuid4() for kind in ("flow", "deployment", "work-queue", "work-pool")}
    prefect_inner._spare_questions(
        [prefect_inner.Related(kind, thing, f"the {kind}", ("a tag",)) for kind, thing in ids.items()]
    )
    flow_run = FlowRun(
        id=uuid4(),
        flow_id=ids["flow"],
        deployment_id=ids["deployment"],
        work_queue_id=ids["work-queue"],
        work_pool_name="the work-pool",
    )
    context = FlowRunContext.model_construct(flow_run=flow_run)  # type: ignore[call-arg]
    monkeypatch.setattr(FlowRunContext, "get", classmethod(lambda _cls: context))
    broken = f"Prefect {prefect.__version__} asks the server for what its worker knows"
    client = Mock(**{f"read_{kind.replace('-', '_')}.side_effect": AssertionError(broken) for kind in ids})
    named = asyncio.run(related.related_resources_from_run_context(client))
    assert {resource.name for resource in named} >= {f"the {kind}" for kind in ids}, broken
    assert results._read_server_default_result_storage_block_id() is None
    assert "_read_server_default_result_storage_block_id()" in inspect.getsource(results), broken
    with vars(flow_engine)["observe_flow_run_suspension"](uuid4(), Mock()):
        pass


def test_complaint_names_the_version_and_the_name() -> None:
    said = complaint("prefect.engine.gone", ())
    assert said is not None
    assert "prefect.engine.gone" in said
    assert prefect.__version__ in said
    assert "no longer takes ['colour']" in str(complaint("prefect.flow_engine.run_flow", ("flow", "colour")))
