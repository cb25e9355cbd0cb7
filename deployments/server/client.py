"""Prefect's own client of the room's server: connecting, reading in pages, and errors that say what to do."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from opsdb.errors import RoomUnreachableError, UsageError
from opsdb.settings import Settings

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse

T = TypeVar("T")

REQUEST_SECONDS = 10.0
PAGE = 200


@contextmanager
def prefect_client(settings: Settings, *, request_seconds: float = REQUEST_SECONDS) -> Iterator[SyncPrefectClient]:
    """Prefect's own client of this room's server.

    Raises RoomUnreachableError without a server, or when what listens on its port belongs to another user.
    """
    from deployments.server import access

    if not access.use(settings):
        raise RoomUnreachableError(
            f"the room is not running: nobody listens on {access.ui_url(settings)}. Start it with `ops up`"
        )
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    where = PREFECT_API_URL.value()
    if not where:
        raise RoomUnreachableError  # Prefect would quietly start a server of its own, with nothing in it
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 1}):  # 5 retries of 10 s keep a person waiting for minutes
        client = get_client(httpx_settings={"timeout": request_seconds}, sync_client=True)
        try:
            with answering(client):
                client.__enter__()
        except RuntimeError as error:  # how the client reports that it could not read the server's version
            raise _unreachable(where, error.__cause__ or error) from error
        try:
            yield client
        finally:
            client.__exit__(None, None, None)


@contextmanager
def answering(client: SyncPrefectClient) -> Iterator[None]:
    """Turn a failed request into one line: RoomUnreachableError, or UsageError for what Prefect refuses."""
    where = str(client.api_url)
    try:
        yield
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise RoomUnreachableError(
                f"Prefect at {where} refuses this user ({status}): OPS_HOME must be that of the room that runs there"
            ) from error
        if status in (408, 429) or status >= 500:
            raise _unreachable(where, error) from error
        raise UsageError(f"Prefect refuses that: {_detail(error.response)}") from error
    except httpx.TransportError as error:
        raise _unreachable(where, error) from error


def pages(read: Callable[..., list[T]], **filters: Any) -> Iterator[T]:
    """All that Prefect's server has of something, which it gives out in pages."""
    for offset in itertools.count(0, PAGE):
        page = read(**filters, limit=PAGE, offset=offset)
        yield from page
        if len(page) < PAGE:
            return


def runbook_deployments(client: SyncPrefectClient) -> Iterator[tuple[str, DeploymentResponse]]:
    """Each deployment of a runbook that the server has, with the kind, which is the name of its flow."""
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags

    from opsdb.runs.prefect_runs import RUNBOOK_TAG

    runbooks = DeploymentFilter(tags=DeploymentFilterTags(all_=[RUNBOOK_TAG]))
    kinds = {flow.id: flow.name for flow in pages(client.read_flows, deployment_filter=runbooks)}
    for deployment in pages(client.read_deployments, deployment_filter=runbooks):
        if deployment.flow_id in kinds:
            yield kinds[deployment.flow_id], deployment


def _unreachable(where: str, error: BaseException) -> RoomUnreachableError:
    if isinstance(error, httpx.TimeoutException):  # the supervisor holds the port while its server starts
        return RoomUnreachableError(
            f"Prefect at {where} takes connections, but does not answer: its server is starting, or overloaded. "
            "`ops status` shows it; try again in a minute."
        )
    reason = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
    return RoomUnreachableError(
        f"Prefect at {where} does not answer ({reason}). `ops status` shows what runs; `ops up` starts the room."
    )


def _detail(response: httpx.Response) -> str:
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = response.text
    return " ".join(str(detail).split())[:300] or str(response.status_code)
