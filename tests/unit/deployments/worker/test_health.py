"""What `/health` says."""

from __future__ import annotations

from deployments.worker.health import MEMORY_LIMIT_BYTES, Memory, answered_hosts, report

MEGABYTE = 1024 * 1024


def test_health_of_a_good_worker_has_the_fields_of_the_seed() -> None:
    status, body = report(
        worker_id="host-1",
        uptime_seconds=12.5,
        memory=Memory(used=120 * MEGABYTE, peak=200 * MEGABYTE),
        database_error=None,
    )
    assert status == 200
    assert body == {
        "status": "ok",
        "uptime": 12.5,
        "memory": {"heapUsed": "120MB", "heapTotal": "200MB"},
        "worker_id": "host-1",
    }


def test_health_is_degraded_from_500_megabytes_on() -> None:
    for used, expected in ((MEMORY_LIMIT_BYTES - 1, (200, "ok")), (MEMORY_LIMIT_BYTES, (503, "degraded"))):
        memory = Memory(used=used, peak=used)
        status, body = report(worker_id="w", uptime_seconds=1, memory=memory, database_error=None)
        assert (status, body["status"]) == expected


def test_health_without_the_database_is_the_error_whatever_the_memory() -> None:
    memory = Memory(used=MEMORY_LIMIT_BYTES * 2, peak=MEMORY_LIMIT_BYTES * 2)
    answer = report(worker_id="w", uptime_seconds=1, memory=memory, database_error="connection refused")
    assert answer == (503, {"status": "unhealthy", "error": "connection refused"})


def test_health_answers_to_any_host_name_beyond_loopback_alone() -> None:
    """A platform's probe asks by the address of a container, which nobody knows before."""
    known = {"ops.example.org"}
    assert (answered_hosts("127.0.0.1", known), answered_hosts("::1", known)) == (known, known)
    assert (answered_hosts("10.0.0.5", known), answered_hosts("fd00::2", known)) == (None, None)
