"""The inner names of Prefect that the lane worker stands on: an upgrade that breaks one fails here, by its name."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import prefect
import pytest
from prefect.workers.base import BaseWorker

from deployments import prefect_inner
from deployments.lane_worker import LaneWorker

INNER: dict[str, tuple[str, ...]] = {
    # name: the parameters that we pass, by name or in this order
    "prefect._internal.control_listener._set_intent": ("value",),
    "prefect._internal.control_listener.get_intent": (),
    "prefect.context.refresh_global_settings_context": (),
    "prefect.engine.handle_engine_signals": ("flow_run_id",),
    "prefect.flow_engine.run_flow": ("flow", "flow_run", "return_type", "error_logger"),
    "prefect.flows.load_flow_from_entrypoint": ("entrypoint", "use_placeholder_flow"),
    "prefect.logging.loggers.flow_run_logger": ("flow_run",),
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


def test_complaint_names_the_version_and_the_name() -> None:
    said = complaint("prefect.engine.gone", ())
    assert said is not None
    assert "prefect.engine.gone" in said
    assert prefect.__version__ in said
    assert "no longer takes ['colour']" in str(complaint("prefect.flow_engine.run_flow", ("flow", "colour")))
