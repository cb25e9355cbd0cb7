"""The time limits by which the processes of a room judge each other, in one value."""

from __future__ import annotations

from dataclasses import dataclass, fields

_KILLING_SECONDS = 1.0
"""What killing and saying so takes at most, on whatever scale: the kernel, and a few statements."""
_TELLING_SECONDS = 3.0
"""What a run process needs after its step's end, on whatever scale: it reports to Prefect, and Python ends."""


@dataclass(frozen=True, kw_only=True)
class Timings:
    """All in seconds. The defaults are the room's; a test scales all of them, so that their proportions stay.

    What others take (a download, a request, a fork, a step) is not part of this: it does not shrink with a scale.
    """

    heartbeat: float = 5.0
    """Between two heartbeats of a run."""
    lost: float = 30.0
    """A running run without a heartbeat for so long is lost."""
    lease_margin: float = 4.0
    """How long before it may be called lost a process stops whose run may be given to another."""
    claim: float = 60.0
    """A claimed run that has not started for so long is failed."""
    look: float = 1.0
    """Between two looks of a run process, or of a worker, at what the ops database says of its runs."""
    sure: float = 8.0
    """For how long an answer of the ops database counts: a process that was stopped meanwhile asks again."""
    unsure: float = 5.0
    """How long a step waits to know whether the run is still ours, while the database is silent."""
    retry: float = 1.0
    """Before a run process asks again what the ops database or Prefect did not answer."""
    patience: float = 5.0
    """How long a run process that ends waits for what the ops database has not yet taken."""
    statement: float = 10.0
    """How long a statement of a run process may take."""
    silent: float = 3.0
    """How much longer than a statement may take a client waits for the answer of the server."""
    sweep: float = 1.0
    """Between two sweeps for lost runs."""
    poll: float = 3.0
    """Between two polls by which the sync closes gaps in the events."""
    journals: float = 2.0
    """Between two looks of the sync for records that their processes could not deliver."""
    backoff: float = 10.0
    """The longest pause of the sync while its work fails; the shortest is a twentieth of it."""
    prefect_outage: float = 15.0
    """When Prefect did not answer for longer, the limit for runs that wait for it starts again."""
    outcome: float = 10.0
    """How long a run process may take to tell Prefect of an outcome that it recorded, before the room does."""
    exit: float = 10.0
    """How long the process of a run that is over may take to end."""
    cancel: float = 5.0
    """How long a run's own worker has to cancel it: as long as its step has between TERM and KILL."""
    put_back: float = 180.0
    """How long a run that is cancelled may take, beyond that, to put back what it must not leave half done."""
    grace: float = 5.0
    """Between TERM and KILL, for the processes of a run."""
    report: float = 45.0
    """How long a worker tries to tell Prefect how a run ended. After that it is the sweeper's to say."""
    report_every: float = 2.0
    """Between two of these tries."""
    drain: float = 30.0
    """How long a stopping worker lets its runs continue before it stops them."""
    close: float = 5.0
    """How long a worker that ends waits for its own loops."""
    beat: float = 5.0
    """Between two signs of life of a worker."""
    online: float = 30.0
    """How long a worker may have been silent and still counts as there."""

    unanswered: float = 20.0
    """A server that answers none of three requests within so long is killed and started again."""

    @property
    def lease(self) -> float:
        """How long a process whose run may be given to another continues without an answer of the ops database."""
        return self.lost - self.lease_margin

    @property
    def room_stop(self) -> float:
        """How long a room may take to stop: every part has its own limit, after which it is killed."""
        return 105.0 + self.drain

    @property
    def outage(self) -> float:
        """When nobody swept for longer, nobody could write heartbeats: an outage and the beats around it stay below
        `lost`."""
        return self.sweep + self.lost / 3

    @property
    def reap(self) -> float:
        """How long a fenced run's worker has to say that its processes are gone, after it has looked."""
        return self.look + _KILLING_SECONDS

    @property
    def stop(self) -> float:
        """How long a run process may take to end its step (TERM, the grace, KILL) before it is killed itself."""
        return self.grace + _TELLING_SECONDS

    def scaled(self, factor: float) -> Timings:
        """All of them, multiplied."""
        return Timings(**{field.name: getattr(self, field.name) * factor for field in fields(self)})
