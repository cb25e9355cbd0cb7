"""Many runs while parts of the room are killed at random, and an account of what became of each run.

`make soak` does it with 200 runs and 10 kills, then (`python -m tests.acceptance.faults.soak`)
with 1,000 runs and 50 kills, PostgreSQL and Prefect's server among the victims, and writes `benchmarks/soak.md`.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import psutil
import psycopg
from prefect.client.orchestration import SyncPrefectClient
from sqlalchemy.exc import SQLAlchemyError

from deployments.sync.verdicts import read_unpushed
from opsdb.database import connect
from opsdb.processes.find import RUN_ID_VARIABLE
from opsdb.processes.running import entered
from opsdb.states import STATUS_OF_PREFECT
from tests.acceptance.faults.lab import Effect, Lab, open_lab
from tests.acceptance.faults.soak_account import Account, Kill, report
from tests.support.commands import REPOSITORY
from tests.support.postgres import short_folder

REPORT = REPOSITORY / "benchmarks" / "soak.md"
WHOLE = ["first", "begin", "end", "last"]


class Soak:
    """One soak. `seed` makes its choices, though not their timing, repeatable."""

    def __init__(self, lab: Lab, *, runs: int, kills: int, servers_too: bool, seed: int) -> None:
        self._lab = lab
        self._runs = runs
        self._kills = kills
        self._servers_too = servers_too
        self._random = random.Random(seed)
        self._engine = connect(lab.settings, application="soak")
        self._made: list[UUID] = []
        self._lock = threading.Lock()

    def run(self, *, limit_seconds: float) -> Account:
        """Create the runs, kill meanwhile, wait until all are over, and take account."""
        began = time.time()
        deadline = time.monotonic() + limit_seconds
        with ThreadPoolExecutor(4) as pool:
            making = [pool.submit(self._make, part, seed) for part, seed in self._shares()]
            killed = self._kill_until_over(deadline)
            for made in making:
                made.result()
        return self._account(killed, seconds=time.time() - began)

    def _shares(self) -> Iterator[tuple[int, int]]:
        for number in range(3):
            yield self._runs // 3 + (number < self._runs % 3), self._random.randrange(2**32)

    def _make(self, number: int, seed: int) -> None:
        """Create runs, not many more than are executed. A request that fails is repeated with its key."""
        chance = random.Random(seed)
        with self._lab.client() as client:
            for _ in range(number):
                kind, lane = chance.choice(("once", "repeatable")), chance.choice("ab")
                manner = chance.choices(("ticking", "quiet", "printing", "escaping"), (4, 4, 4, 1))[0]
                parameters: dict[str, Any] = {
                    "ledger": str(self._lab.ledger),
                    "manner": manner,
                    "seconds": chance.choice((0, 0, 0, 2)),
                }
                run = _create(client, f"{kind}/{kind}-lane-{lane}", parameters)
                with self._lock:
                    self._made.append(run)
                while self._waiting() > 12:
                    time.sleep(0.2)

    def _waiting(self) -> int:
        try:
            return int(self._lab.rows("SELECT count(*) AS n FROM ops.runs WHERE status = 'queued'")[0]["n"])
        except Exception:  # the database was killed
            return 0

    def _kill_until_over(self, deadline: float) -> list[Kill]:
        killed: list[Kill] = []
        step = self._runs / (self._kills + 1)  # spread over the runs, not over the time
        while time.monotonic() < deadline:
            over, made = self._over(), len(self._made)
            if over == self._runs:
                break
            if len(killed) < self._kills and made > step * (len(killed) + 1):
                kill = self._kill_one()
                if kill is not None:
                    killed.append(kill)
            time.sleep(0.3)
        return killed

    def _over(self) -> int:
        """Of how many runs nothing more will come: one that died may be tried again once its host was looked at."""
        query = (
            "SELECT id FROM ops.runs WHERE finished_at < clock_timestamp() - interval '5 s' AND id = ANY(%s) "
            "AND NOT (status = 'failed' AND fenced_at IS NOT NULL AND reaped_at IS NULL AND claimed_by IS NOT NULL)"
        )
        with self._lock:
            made = list(self._made)
        try:
            with self._engine.connect() as db:
                pending = {telling.run_id for telling in read_unpushed(db)}
            return len({row["id"] for row in self._lab.rows(query, made)} - pending)
        except (SQLAlchemyError, psycopg.Error):  # the database was killed
            return -1

    def _kill_one(self) -> Kill | None:
        choices = ["process"] * 4 + ["worker"] * 3 + ["worker and its runs"] * 3
        what = self._random.choice(choices + ["postgres", "prefect"] * self._servers_too)
        lab, alive = self._lab, [p for _, p in entered(self._lab.settings) if p.alive]
        if what == "process":
            if not alive:
                return None
            victim = self._random.choice(alive)
            kill = Kill(what, time.time(), [victim.run_id])
            os.kill(victim.pid, signal.SIGKILL)
        elif what.startswith("worker"):
            name = self._random.choice(["worker", "worker2"])
            kill = Kill(what, time.time())
            lab.kill(name)
            if what != "worker":
                for process in alive:
                    if process.alive:
                        os.kill(process.pid, signal.SIGKILL)
                        kill.runs.append(process.run_id)
            time.sleep(self._random.uniform(0, 2))
            start_worker(lab, name)
        else:
            kill = Kill(what, time.time())
            if what == "postgres":
                lab.kill_postgres()
            else:
                lab.kill("prefect")
            time.sleep(self._random.uniform(3, 15))
            lab.start_postgres() if what == "postgres" else lab.start_prefect()
        return kill

    def _account(self, killed: list[Kill], *, seconds: float) -> Account:
        lab = self._lab
        rows = {str(r["id"]): r for r in lab.rows("SELECT * FROM ops.runs WHERE id = ANY(%s)", self._made)}
        with lab.client() as client:
            prefect = {str(run): client.read_flow_run(run).state_type for run in self._made}
        victims = {run for kill in killed for run in kill.runs}
        effects: dict[str, dict[int, list[Effect]]] = defaultdict(lambda: defaultdict(list))
        for effect in lab.effects():
            effects[effect.run][effect.attempt].append(effect)
        account = Account(
            runs=self._runs,
            kills=killed,
            seconds=seconds,
            statuses=defaultdict(int),
            retried=sum(row["attempt"] > 1 for row in rows.values()),
            found_seconds=self._found(killed),
            lost=[],
            failed_without_a_kill=[],
            twice_at_once=[],
            incomplete=[],
            after_the_verdict=self._after_the_verdict(effects),
            processes_left=_processes_of({str(run) for run in self._made}),
            files_left=[str(path) for path in _files_left(lab)],
        )
        for run in map(str, self._made):
            row, state = rows.get(run), prefect[run]
            status = row["status"] if row else "missing"
            account.statuses[status] += 1
            if row is None or row["finished_at"] is None or state is None or STATUS_OF_PREFECT[state.value] != status:
                account.lost.append(f"{run}: {status} in ops, {state} in Prefect; {self._history(run)}")
            elif status == "failed" and run not in victims:
                account.failed_without_a_kill.append(f"{run}: {row['error']}")
            attempts = [effects[run][number] for number in sorted(effects[run])]
            if any(max(e.at for e in a) > min(e.at for e in b) for a, b in itertools.pairwise(attempts)):
                account.twice_at_once.append(run)
            deeds = [[e.what for e in attempt if e.what != "tick"] for attempt in attempts]
            if any(len(set(done)) < len(done) for done in deeds):
                account.twice_at_once.append(f"{run}: {deeds}")
            if status == "succeeded" and (not deeds or deeds[-1] != WHOLE):
                account.incomplete.append(f"{run}: {deeds}")
        return account

    def _history(self, run: str) -> str:
        """The states that ops recorded of a run, and who said so."""
        query = "SELECT source, type, name FROM ops.run_states WHERE run_id = %s ORDER BY at"
        return ", ".join(f"{s['name']} ({s['type']}, {s['source']})" for s in self._lab.rows(query, run))

    def _found(self, killed: list[Kill]) -> list[float]:
        """How long after the kill the first state that says so was recorded. A run that had just ended has none."""
        query = (
            "SELECT min(extract(epoch FROM recorded_at)) AS at FROM ops.run_states "
            "WHERE run_id = %s AND type = 'CRASHED' AND recorded_at > to_timestamp(%s)"
        )
        found = [(kill, self._lab.rows(query, run, kill.at)[0]["at"]) for kill in killed for run in kill.runs]
        return sorted(float(at) - kill.at for kill, at in found if at is not None)

    def _after_the_verdict(self, effects: dict[str, dict[int, list[Effect]]]) -> list[str]:
        """Effects of a run after the room had declared it dead, unless it said that nobody confirmed the death."""
        query = (
            "SELECT run_id, extract(epoch FROM recorded_at) AS at FROM ops.run_states s WHERE source = 'room' "
            "AND run_id = ANY(%s) AND NOT EXISTS (SELECT 1 FROM ops.run_events e WHERE e.run_id = s.run_id "
            "AND e.message LIKE '%%No worker confirmed%%') AND s.type IN ('CRASHED', 'CANCELLED')"
        )
        late = []
        for row in self._lab.rows(query, self._made):
            attempts = effects[str(row["run_id"])]
            begun_before = [a for a in attempts.values() if min(e.at for e in a) < row["at"]]
            late += [f"{row['run_id']}: {e}" for a in begun_before for e in a if e.at > float(row["at"])]
        return late


def start_worker(lab: Lab, name: str) -> None:
    """Start one of the two workers, each with a port of its own."""
    port = lab.settings.health_port if name == "worker" else lab.second_health_port
    lab.start_worker(name, extra={"OPS_HEALTH_PORT": str(port)})


def _create(client: SyncPrefectClient, name: str, parameters: dict[str, Any]) -> UUID:
    key = str(uuid4())
    while True:
        try:
            deployment = client.read_deployment_by_name(name)
            return client.create_flow_run_from_deployment(deployment.id, parameters=parameters, idempotency_key=key).id
        except httpx.HTTPError:
            time.sleep(1)


def _processes_of(runs: set[str]) -> list[str]:
    left = []
    for process in psutil.process_iter(["environ", "cmdline"]):
        run = (process.info["environ"] or {}).get(RUN_ID_VARIABLE)
        if run in runs:
            left.append(f"{process.pid} of {run}: {process.info['cmdline']}")
    return left


def _files_left(lab: Lab) -> list[Path]:
    home = lab.settings.home
    return [p for folder in ("running", "journal") for p in (home / folder).rglob("*") if p.is_file()]


def main() -> None:
    """The long tier."""
    runs, kills = int(os.environ.get("SOAK_RUNS", "1000")), int(os.environ.get("SOAK_KILLS", "50"))
    with short_folder() as shared, open_lab(shared) as lab:
        for name in ("worker", "worker2"):
            start_worker(lab, name)
        lab.start("sync")
        seed = int(os.environ.get("SOAK_SEED", "3"))
        account = Soak(lab, runs=runs, kills=kills, servers_too=True, seed=seed).run(limit_seconds=5400)
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(report(account))
    print(report(account))
    for name, offenders in account.offenders.items():
        print(name, *offenders, sep="\n  ")
    raise SystemExit(bool(account.offenders) or any(seconds > 35 for seconds in account.found_seconds))


if __name__ == "__main__":
    main()
