"""What is wrong with processes and daemons, or was since the look before, as symptoms of faults.

Poll -> symptoms                    errors, overruns, deaths; held, hung, stale, dead; a writer that waits
Poll, Poll ... -> Storms, Hands     what shows only over some time: too many restarts, one item in hand too long
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator

from msgspec import Struct

from geartrain.rules.faults import FaultCode, FaultKey, Symptom
from geartrain.rules.health import Limits, has_died, is_hung, is_stale
from geartrain.rules.readings import DaemonReading, EndReading, Held, Phase, Poll, SlotState


def symptoms(poll: Poll, now_ns: int, limits: Limits) -> Iterator[Symptom]:
    """What one look shows of one process."""
    yield from _of_process(poll, now_ns, limits)
    for slot in poll.daemons:
        yield from _of_daemon(poll, slot, now_ns, limits)
    yield from _blocked(poll, now_ns, limits)


def _of_process(poll: Poll, now_ns: int, limits: Limits) -> Iterator[Symptom]:
    process = poll.process

    def found(code: FaultCode, said: str, *, total: int = 0, lasts: bool = False, mark: int = 0) -> Symptom:
        return Symptom(key=FaultKey(process.process, code), frame=process, said=said, total=total, lasts=lasts,
                       mark=mark)  # fmt: skip

    dead = has_died(poll)
    if dead or process.deaths:
        how = "had died, and lives again" if process.alive else f"has died ({_how(process.exit_code)})"
        # A life dies once, also while nobody has counted that yet.
        yield found(
            FaultCode.PROCESS_DEAD, f"the process {how}", total=process.deaths, lasts=dead, mark=process.generation
        )
    if is_stale(process, now_ns, limits):
        late_s = (now_ns - process.heartbeat_ns) / 1e9
        said = f"its loop has not turned for {late_s:.3g} s"
        yield found(FaultCode.PROCESS_STALE, said, lasts=True, mark=process.heartbeat_ns)
    if process.alive and process.fault_since_ns:
        said = f"a body took {_ms(process.fault_took_ns)}, and may take {_ms(process.budget_ns)} in this process"
        yield found(FaultCode.EXECUTOR_BUDGET_EXCEEDED, said, lasts=True, mark=process.fault_since_ns)
    if process.dropped:
        said = f"{_times(process.dropped)} there was no slot for a daemon: what it does cannot be seen from outside"
        yield found(FaultCode.SLOTS_EXHAUSTED, said, total=process.dropped)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _how(exit_code: int | None) -> str:
    if exit_code is None:
        return "nobody has seen how"
    return f"by signal {-exit_code}" if exit_code < 0 else f"with exit code {exit_code}"


def _of_daemon(poll: Poll, slot: DaemonReading, now_ns: int, limits: Limits) -> Iterator[Symptom]:
    failed = slot.state == SlotState.ERROR
    if failed or slot.errors:
        how = "has failed" if failed else "had failed, and was made anew"
        said = f"the daemon {how}, {_times(slot.errors)} in all"
        yield Symptom(key=FaultKey(slot.daemon, FaultCode.APP_ERROR), frame=slot, said=said, total=slot.errors,
                      lasts=failed)  # fmt: skip
    held = slot.held == Held.OVER_BUDGET
    if held or slot.overruns:
        took_ns = slot.held_took_ns or slot.last_ns
        said = f"its body took {_ms(took_ns)}, and may take {_ms(slot.budget_ns)}"
        yield Symptom(key=FaultKey(slot.daemon, FaultCode.TASK_BUDGET_EXCEEDED), frame=slot, said=said,
                      total=slot.overruns, lasts=held)  # fmt: skip
    if poll.process.alive and is_hung(slot, now_ns, limits):
        said = f"its body runs since {(now_ns - slot.in_body_since_ns) / 1e9:.3g} s"
        yield Symptom(key=FaultKey(slot.daemon, FaultCode.APP_HUNG), frame=slot, said=said, lasts=True,
                      mark=slot.in_body_since_ns)  # fmt: skip


def _ms(took_ns: int) -> str:
    return f"{took_ns / 1e6:.3g} ms"


def _blocked(poll: Poll, now_ns: int, limits: Limits) -> Iterator[Symptom]:
    """Writers that wait, while nothing moves at their end. Of a daemon the one that waits longest stands for all."""
    waiting = (end for end in poll.ends if end.sends and end.waits and poll.process.alive)
    too_long = (end for end in waiting if now_ns - end.still_since_ns > limits.blocked_ns)
    longest: dict[str, EndReading] = {}
    for end in sorted(too_long, key=lambda end: end.still_since_ns):
        longest.setdefault(end.daemon, end)
    for daemon, end in longest.items():
        waits_s = (now_ns - end.still_since_ns) / 1e9
        said = f"it waits since {waits_s:.3g} s for room in channel {end.channel!r}, of which nothing is taken"
        yield Symptom(key=FaultKey(daemon, FaultCode.WRITER_BLOCKED), frame=end, said=said, lasts=True,
                      mark=end.still_since_ns)  # fmt: skip


# -- over some time ---------------------------------------------------------------------------------------------------


class _Restarts(Struct, frozen=True):
    at_ns: int
    count: int


class Storms:
    """Which processes are started again and again, or make their daemons anew again and again."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[_Restarts]] = {}

    def look(self, poll: Poll, now_ns: int, limits: Limits) -> Iterator[Symptom]:
        process = poll.process
        if not process.pid:
            return
        seen = self._seen.setdefault(process.process, deque())
        count = process.restarts + sum(slot.restarts for slot in poll.daemons)
        if not seen or seen[-1].count != count:
            seen.append(_Restarts(now_ns, count))
        # The last one before the window tells how many there were when it began.
        while len(seen) > 1 and now_ns - seen[1].at_ns > limits.storm_ns:
            seen.popleft()
        within = count - seen[0].count
        if within > limits.storm:
            said = f"{within} restarts in {limits.storm_ns / 1e9:.3g} s"
            yield Symptom(key=FaultKey(process.process, FaultCode.RESTART_STORM), frame=process, said=said, lasts=True)


class _InHand(Struct, frozen=True):
    epoch: int
    number: int
    since_ns: int


class Hands:
    """Which daemons have had the same item in hand for too long.

    One that has cycles is judged by them: it may keep an item as long as it likes. So may one that waits elsewhere.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], _InHand] = {}

    def look(self, poll: Poll, now_ns: int, limits: Limits, but: Collection[str]) -> Iterator[Symptom]:
        """`but` are channels whose items nobody has in hand: those that carry replies."""
        ends: dict[str, list[EndReading]] = {}
        for end in poll.ends:
            ends.setdefault(end.daemon, []).append(end)
        for slot in poll.daemons:
            its = ends.get(slot.daemon, [])
            longest: EndReading | None = None
            since_ns = now_ns
            for end in its:
                if end.sends or end.channel in but:
                    continue
                begun_ns = self._since(end, now_ns)
                if begun_ns < since_ns:
                    longest, since_ns = end, begun_ns
            works = poll.process.alive and slot.phase == Phase.RUN and not slot.period_ns
            if works and longest is not None and now_ns - since_ns > limits.hang_ns and not _waits(its):
                said = f"it has item {longest.in_hand} of channel {longest.channel!r} in hand since "
                said += f"{(now_ns - since_ns) / 1e9:.3g} s"
                yield Symptom(key=FaultKey(slot.daemon, FaultCode.APP_HUNG), frame=longest, said=said, lasts=True,
                              mark=longest.in_hand)  # fmt: skip

    def _since(self, end: EndReading, now_ns: int) -> int:
        """Since when this item is in hand, as far as is known; now, if none is."""
        where = (end.channel, end.daemon)
        if not end.in_hand or end.closed:
            self._seen.pop(where, None)
            return now_ns
        seen = self._seen.get(where)
        if seen is None or (seen.epoch, seen.number) != (end.epoch, end.in_hand):
            seen = self._seen[where] = _InHand(end.epoch, end.in_hand, now_ns)
        return seen.since_ns


def _waits(ends: Iterable[EndReading]) -> bool:
    """Whether a daemon waits in one of its ends. Who has an item in hand has gone on since it waited for that."""
    return any(end.waits and not (end.in_hand and not end.sends) for end in ends)
