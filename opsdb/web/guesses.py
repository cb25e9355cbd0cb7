"""How many wrong passwords are looked at. docs/decisions/0019-wrong-passwords-are-limited.md says what that is for."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network

from opsdb.web.bursts import Burst

log = logging.getLogger(__name__)

FROM_ONE = 10
IN_ALL = 20
MINUTE = 60.0
ADDRESSES = 1024
"""How many addresses are remembered; the one that guessed longest ago is forgotten first."""


@dataclass
class _Bucket:
    """So many guesses at once, and as many again in each minute."""

    limit: int
    left: float
    at: float

    def refill(self, now: float) -> None:
        self.left = min(self.limit, self.left + (now - self.at) * self.limit / MINUTE)
        self.at = now

    def wait_seconds(self) -> int:
        return 0 if self.left >= 1 else math.ceil((1 - self.left) * MINUTE / self.limit)


class Guesses:
    """Counts guesses, those of each address and all. Threads may share one."""

    def __init__(self, of_what: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._of_what = of_what
        self._clock = clock
        self._lock = threading.Lock()
        self._all = _Bucket(IN_ALL, IN_ALL, clock())
        self._of: OrderedDict[str, _Bucket] = OrderedDict()
        self._burst = Burst(clock=clock)

    def take(self, address: str) -> int:
        """Note a guess. Returns 0 when it may be looked at, else the seconds after which one may be again."""
        with self._lock:
            now = self._clock()
            own = self._bucket(_place(address), now)
            own.refill(now)
            self._all.refill(now)
            wait = max(own.wait_seconds(), self._all.wait_seconds())
            if wait == 0:
                own.left -= 1
                self._all.left -= 1
            elif self._burst.begins():
                log.warning("wrong passwords of %s, more than are looked at; the last from %s", self._of_what, address)
            return wait

    def _bucket(self, place: str, now: float) -> _Bucket:
        bucket = self._of.setdefault(place, _Bucket(FROM_ONE, FROM_ONE, now))
        self._of.move_to_end(place)
        if len(self._of) > ADDRESSES:
            self._of.popitem(last=False)
        return bucket


def _place(address: str) -> str:
    """Where a client is: a network of IPv6 that one customer gets counts as one address."""
    try:
        ip = ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, IPv6Address):
        return str(ip.ipv4_mapped or ip_network((int(ip), 64), strict=False))
    return str(ip)
