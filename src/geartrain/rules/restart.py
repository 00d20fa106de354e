"""Whether a daemon that has died is started again, and how soon.

Only deaths within the last `within_s` seconds count, so a healthy stretch forgives: the delay starts
again at `base_s`. More than `max_retries` of them in that time is a crash loop, and it is over.

    deaths      x     x        x                        x
    delay       base  base*f   base*f*f   (healthy)     base
                0     base     base*f     (healthy)     0           with first_at_once
"""

import math
from collections import deque
from typing import Generic, TypeVar

from msgspec import Struct

from geartrain.errors import BadValue
from geartrain.rules.checks import number, whole


class RestartPolicy(Struct, frozen=True):
    """How often and how soon a failed daemon is started again. Times are in seconds of the daemon's clock."""

    base: float = 0.1
    factor: float = 2.0
    cap: float = 5.0
    max_retries: int | None = None
    within: float | None = None
    jitter: float = 0.0
    first_at_once: bool = False

    def __post_init__(self) -> None:
        number("RestartPolicy base", self.base, least=0)
        number("RestartPolicy factor", self.factor, least=0)
        number("RestartPolicy cap", self.cap, least=0)
        number("RestartPolicy jitter", self.jitter, least=0, most=1)
        if self.max_retries is not None:
            whole("RestartPolicy max_retries", self.max_retries, least=0)
        if self.within is not None and number("RestartPolicy within", self.within, least=0) == 0:
            raise BadValue("RestartPolicy within must be more than 0 seconds, or None to count every failure")


Cause = TypeVar("Cause")


class Again(Struct, frozen=True):
    delay_s: float


class GiveUp(Struct, frozen=True):
    deaths: int


class History(Generic[Cause]):
    """The deaths that still count, and the cause of the first of them."""

    def __init__(self, within_s: float | None) -> None:
        self._within_ns = None if within_s is None or within_s == math.inf else max(1, round(within_s * 1e9))
        self._counted: deque[tuple[int, Cause]] = deque()
        self._more = 0

    def add(self, now_ns: int, cause: Cause) -> int:
        """Note a death; how many count now, this one included."""
        if self._within_ns is None and self._counted:
            # All count for ever, and of those only the first is asked for again.
            self._more += 1
            return 1 + self._more
        self._counted.append((now_ns, cause))
        while self._within_ns is not None and self._counted[0][0] <= now_ns - self._within_ns:
            self._counted.popleft()
        return len(self._counted)

    @property
    def first_cause(self) -> Cause:
        return self._counted[0][1]


def decide(policy: RestartPolicy, deaths: int, roll: float) -> Again | GiveUp:
    """The verdict after a death, when `deaths` of them count. `roll`, from 0 to 1, is drawn by the caller."""
    if policy.max_retries is not None and deaths > policy.max_retries:
        return GiveUp(deaths)
    grown = deaths - 1 - policy.first_at_once
    if policy.base == 0 or grown < 0:
        return Again(0.0)
    try:
        grown_s = policy.base * float(policy.factor) ** grown
    except OverflowError:
        grown_s = policy.cap
    spread = 1.0 + policy.jitter * (2.0 * roll - 1.0)
    return Again(min(grown_s * spread, policy.cap) if spread else 0.0)
