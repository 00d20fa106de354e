"""Slots: what a process writes down of itself while it runs, in a file that outlives it.

    who starts it    SlotFile.make(path, about)      and hands it the descriptor; writes who it is, and how it ended
    the process      Slots(fd).daemon("camera")      one writer for each slot, no lock, nothing allocated that stays
    who looks        SlotReader(path).poll()         at any time; asks nobody, and disturbs nobody

The file is allocated before the process lives, so that a full disk is met here and not there. A reader copies it and
never maps it: who reads a mapped file that somebody makes shorter is killed for it.
"""

import mmap
import os
import sys
import time
from array import array
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from geartrain.errors import PlaceRefused, SlotsUnreadable
from geartrain.ports.process import Exit
from geartrain.ports.process_table import Identity, is_alive, look_at
from geartrain.rules import slots
from geartrain.rules.grid import Cycle
from geartrain.rules.readings import Held, Phase, Poll, ProcessReading, SlotState, Up
from geartrain.rules.slots import DAEMON, DAEMON_FIELDS, END, END_FIELDS, WORD_BYTES, About, Shape

# So many daemons may come while a process runs.
SPARE_DAEMONS = 4

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


class SlotFile:
    """The file of one life of a process, as who starts the process has it."""

    def __init__(self, about: About, fd: int, words: "memoryview[int]") -> None:
        self.about = about
        # For the process. Closed here once it has it.
        self.fd: int | None = fd
        self._words = words

    @classmethod
    def make(cls, path: Path | None, about: About, *, generation: int, former: "SlotFile | None" = None) -> "SlotFile":
        """A new file; without a path one that is seen by this process and its own. Counters of daemons go on."""
        text = msgspec.json.encode(about)
        daemons, ends = len(about.daemons) + SPARE_DAEMONS, len(about.ends)
        size = slots.size_bytes(daemons, ends, text)
        fd = _new_file(path, size)
        os.pwrite(fd, text, slots.about_at(daemons, ends) * WORD_BYTES)
        words = _mapped(fd)
        words[slots.LAYOUT_AT] = slots.LAYOUT
        words[slots.DAEMONS_AT], words[slots.ENDS_AT], words[slots.ABOUT_AT] = daemons, ends, len(text)
        words[slots.GENERATION_AT] = generation
        made = cls(about, fd, words)
        if former is not None:
            made._go_on_from(former)
        words[slots.MAGIC_AT] = slots.MAGIC
        return made

    def _go_on_from(self, former: "SlotFile") -> None:
        known = {name: index for index, name in enumerate(former.about.daemons)}
        for at in (slots.RESTARTS_AT, slots.DEATHS_AT, slots.DROPPED_AT):
            self._words[at] = former._words[at]
        for index, name in enumerate(self.about.daemons):
            if name in known:
                _carry_over(former._words, slots.daemon_at(known[name]), self._words, slots.daemon_at(index))

    def born(self, pid: int) -> None:
        """This is the process."""
        words, entry = self._words, look_at(pid)
        words[slots.STARTED_AT] = 0 if entry is None else entry.started_ticks
        words[slots.BORN_AT] = time.monotonic_ns()
        words[slots.PID_AT] = pid

    def handed_over(self) -> None:
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None

    def ended(self, exit_: Exit) -> None:
        self._words[slots.EXIT_AT] = -exit_.signal if exit_.signal is not None else exit_.code or 0
        self._words[slots.ENDED_AT] = time.monotonic_ns()

    def died(self) -> None:
        """Nobody wanted it to end."""
        self._words[slots.DEATHS_AT] += 1

    def comes_again(self) -> None:
        self._words[slots.RESTARTS_AT] += 1

    @property
    def generation(self) -> int:
        return self._words[slots.GENERATION_AT]

    @property
    def heartbeat_ns(self) -> int:
        """When its loop turned last; 0 when it has not yet."""
        return self._words[slots.HEARTBEAT_AT]

    def daemon(self, index: int) -> "DaemonSlot":
        """For a process that has no slots of its own: a foreign program."""
        return DaemonSlot(self._words, slots.daemon_at(index))


def _new_file(path: Path | None, size: int) -> int:
    """One of this size, all of it there already; where there is no room for it, nothing."""
    with ExitStack() as failing:
        try:
            fd = os.memfd_create("slots") if path is None else os.open(path, _NEW, 0o600)
            failing.callback(os.close, fd)
            if path is not None:
                failing.callback(path.unlink)
            os.posix_fallocate(fd, 0, size)
        except OSError as error:
            raise PlaceRefused(f"the slot file {path} of {size} bytes cannot be made: {error.strerror}") from error
        failing.pop_all()
        return fd


def _carry_over(old: "memoryview[int]", from_: int, new: "memoryview[int]", to: int) -> None:
    bank = slots.published(old, from_, DAEMON)
    if bank is None:
        return
    record = array("q", bank)
    forgotten = () if record[_STATE] == SlotState.STOPPED else ("state",)
    for field in (*forgotten, "phase", "in_body_since_ns", "held", "held_since_ns", "held_took_ns"):
        record[DAEMON_FIELDS.index(field)] = 0
    start = slots.bank_at(DAEMON, to, 0)
    new[start : start + DAEMON.bank_words] = record
    there, here = slots.buckets_at(from_), slots.buckets_at(to)
    new[here : here + slots.BUCKETS] = old[there : there + slots.BUCKETS]


# -- the process ------------------------------------------------------------------------------------------------------


class Slots:
    """The slots of this process."""

    def __init__(self, fd: int) -> None:
        self._words = words = _mapped(fd)
        self._daemons, self._ends = words[slots.DAEMONS_AT], words[slots.ENDS_AT]
        at = slots.about_at(self._daemons, self._ends) * WORD_BYTES
        about = slots.about_in(os.pread(fd, words[slots.ABOUT_AT], at))
        os.close(fd)
        assert isinstance(about, About)
        self._about = about
        self._next = len(about.daemons)
        self._late: dict[str, DaemonSlot | None] = {}
        words[slots.UP_AT] = Up.NOT_YET

    def strike(self) -> None:
        """The loop goes round."""
        words = self._words
        words[slots.HEARTBEATS_AT] += 1
        words[slots.HEARTBEAT_AT] = time.monotonic_ns()

    def become(self, up: Up) -> None:
        self._words[slots.UP_AT] = up

    def has_budget(self, budget_ns: int) -> None:
        self._words[slots.BUDGET_AT] = budget_ns

    def is_over_budget(self, since_ns: int, took_ns: int) -> None:
        """A body of one of its daemons took longer than that; with zeros, it has been cleared."""
        self._words[slots.FAULT_SINCE_AT], self._words[slots.FAULT_TOOK_AT] = since_ns, took_ns

    def daemon(self, name: str) -> "DaemonSlot | None":
        """The slot of this daemon. One that nobody knew of takes one to spare; None, and counted, when none is left."""
        if name in self._about.daemons:
            return DaemonSlot(self._words, slots.daemon_at(self._about.daemons.index(name)))
        if name not in self._late:
            self._late[name] = self._take_spare(name)
        if self._late[name] is None:
            self._words[slots.DROPPED_AT] += 1
        return self._late[name]

    def _take_spare(self, name: str) -> "DaemonSlot | None":
        if self._next == self._daemons:
            return None
        slot = slots.daemon_at(self._next)
        self._next += 1
        self._words[slots.name_at(slot)] = array("q", slots.name_bytes(name))
        return DaemonSlot(self._words, slot)

    def end(self, channel: str, *, sends: bool) -> "EndSlot":
        """The slot of this end."""
        (index,) = (n for n, end in enumerate(self._about.ends) if (end.channel, end.sends) == (channel, sends))
        return EndSlot(self._words, slots.end_at(self._daemons, index))


_ALL = slice(None)


class _Slot:
    """One record, and the two places where it is published in turn."""

    __slots__ = ("_banks", "_number", "_record", "_sequence")

    def __init__(self, words: "memoryview[int]", slot: int, shape: Shape) -> None:
        starts = [slots.bank_at(shape, slot, sequence) for sequence in (0, 1)]
        self._banks = [words[start : start + shape.bank_words] for start in starts]
        self._sequence = words[slot : slot + 1]
        self._number = self._sequence[0]
        self._record = array("q", self._banks[self._number & 1])

    def _publish(self) -> None:
        # The number comes last: who sees it sees the bank whole. x86 keeps the order of two stores.
        number = self._number = self._number + 1
        self._banks[number & 1][_ALL] = self._record
        self._sequence[0] = number


(
    _STATE, _PHASE, _RESTARTS, _STARTS, _STOPS, _ERRORS, _EXECUTIONS, _IN_BODY, _LAST, _EWMA, _MIN, _MAX, _CYCLE,
    _PERIOD, _ACTUAL, _JITTER, _MAX_JITTER, _LATENESS, _MAX_LATENESS, _SKIPPED, _BUDGET, _OVERRUNS, _HELD,
    _HELD_SINCE, _HELD_TOOK, _CHANGED,
) = range(len(DAEMON_FIELDS))  # fmt: skip


class DaemonSlot(_Slot):
    """What one daemon does. Everything is written by the loop of its process.

    What a cycle needs of its predecessors is kept beside the record: an attribute is read faster than a word.
    """

    __slots__ = ("_buckets", "_ewma_ns", "_executions", "_max_jitter_ns", "_max_lateness_ns", "_max_ns", "_min_ns")

    def __init__(self, words: "memoryview[int]", slot: int) -> None:
        super().__init__(words, slot, DAEMON)
        start = slots.buckets_at(slot)
        self._buckets = words[start : start + slots.BUCKETS]
        record = self._record
        self._executions, self._ewma_ns = record[_EXECUTIONS], record[_EWMA]
        self._min_ns, self._max_ns = record[_MIN], record[_MAX]
        self._max_jitter_ns, self._max_lateness_ns = record[_MAX_JITTER], record[_MAX_LATENESS]

    def starts(self, attempt: int, now_ns: int) -> None:
        """`on_start` is about to be called."""
        record = self._record
        record[_STARTS] += 1
        record[_RESTARTS] += attempt > 0
        record[_STATE] = SlotState.RUNNING
        self.enters(Phase.ON_START, now_ns)

    def enters(self, phase: Phase, now_ns: int) -> None:
        self._record[_PHASE] = phase
        self._record[_CHANGED] = now_ns
        self._publish()

    def fails(self, now_ns: int) -> None:
        record = self._record
        record[_ERRORS] += 1
        record[_STATE] = SlotState.ERROR
        record[_IN_BODY] = 0
        record[_CHANGED] = now_ns
        self._publish()

    def is_well(self, now_ns: int) -> None:
        """It is in service again."""
        self._record[_STATE] = SlotState.RUNNING
        self._record[_CHANGED] = now_ns
        self._publish()

    def stops(self, now_ns: int) -> None:
        """It has ended, and is not started again. One that failed stays failed."""
        record = self._record
        record[_STOPS] += 1
        if record[_STATE] == SlotState.RUNNING:
            record[_STATE] = SlotState.STOPPED
        record[_IN_BODY] = 0
        record[_PHASE] = Phase.NONE
        record[_CHANGED] = now_ns
        self._publish()

    def begins_body(self, at_ns: int) -> None:
        self._record[_IN_BODY] = at_ns
        self._publish()

    def ends_body(self, at_ns: int, took_ns: int, *, is_all: bool = True) -> None:
        """Not `is_all`: what is told next, of the same cycle, is published with it."""
        record = self._record
        record[_IN_BODY] = 0
        if not self._executions:
            self._ewma_ns = self._min_ns = self._max_ns = record[_MIN] = record[_MAX] = took_ns
        else:
            self._ewma_ns += (took_ns >> 3) - (self._ewma_ns >> 3)
            if took_ns < self._min_ns:
                self._min_ns = record[_MIN] = took_ns
            elif took_ns > self._max_ns:
                self._max_ns = record[_MAX] = took_ns
        self._executions += 1
        record[_EXECUTIONS] = self._executions
        record[_LAST] = took_ns
        record[_EWMA] = self._ewma_ns
        record[_CHANGED] = at_ns + took_ns
        self._buckets[slots.bucket_of(took_ns)] += 1
        if is_all:
            self._publish()

    def cycled(self, cycle: Cycle) -> None:
        record = self._record
        record[_CYCLE] = cycle.index
        record[_PERIOD] = cycle.period_ns
        if cycle.skipped_slots:
            record[_SKIPPED] += cycle.skipped_slots
        late = record[_LATENESS] = cycle.lateness_ns
        if late > self._max_lateness_ns:
            self._max_lateness_ns = record[_MAX_LATENESS] = late
        jitter = cycle.jitter_ns
        if jitter is not None:
            record[_ACTUAL] = cycle.actual_period_ns or 0
            record[_JITTER] = jitter
            if jitter > self._max_jitter_ns:
                self._max_jitter_ns = record[_MAX_JITTER] = jitter
        self._publish()

    def has_budget(self, budget_ns: int) -> None:
        self._record[_BUDGET] = budget_ns
        self._publish()

    def overruns(self) -> None:
        """A body took longer than it may."""
        self._record[_OVERRUNS] += 1
        self._publish()

    @property
    def held(self) -> int:
        return self._record[_HELD]

    def is_free(self) -> None:
        """Its body is entered again. How long the one took by which it was held stays, to be told with its count."""
        self.is_held(Held.NOT, 0, self._record[_HELD_TOOK])

    def is_held(self, held: Held, since_ns: int, took_ns: int) -> None:
        """Its body is not entered from now on; or is again."""
        record = self._record
        record[_HELD], record[_HELD_SINCE], record[_HELD_TOOK] = held, since_ns, took_ns
        self._publish()


_IN_HAND, _MAY_HAVE, _STILL_SINCE = map(END_FIELDS.index, ("in_hand", "may_have", "still_since_ns"))


class EndSlot(_Slot):
    """One end of a channel."""

    __slots__ = ()

    def __init__(self, words: "memoryview[int]", slot: int) -> None:
        super().__init__(words, slot, END)

    def holds(self, in_hand: int, may_have: int) -> None:
        """The reader has just taken this item, and takes none beyond `may_have` before it says so again."""
        self._record[_IN_HAND] = in_hand
        self._record[_MAY_HAVE] = may_have
        self._publish()

    def tell(self, fields: tuple[int, ...], now_ns: int) -> None:
        """How the end is: an `EndReading` from `incarnation` on, without the last field. Written if it is new."""
        record = self._record
        told = array("q", fields)
        if told != record[:_STILL_SINCE]:
            record[:_STILL_SINCE] = told
            record[_STILL_SINCE] = now_ns
            self._publish()


# -- who looks --------------------------------------------------------------------------------------------------------


class SlotReader:
    """One file, looked at again and again. What cannot be read is refused in words with `SlotsUnreadable`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.about = _about_in(path)
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        # Of a writer that is faster than we are, what was seen last.
        self._known: dict[int, bytes] = {}

    def close(self) -> None:
        os.close(self._file)

    def poll(self) -> Poll:
        """Everything, as it is now."""
        first, second = self._copy(), self._copy()
        names, last = self.about.daemons, first[slots.DAEMONS_AT]
        late = ((index, slots.late_name(first, index)) for index in range(len(names), last))
        daemons = (*enumerate(names), *((index, name) for index, name in late if name))
        return Poll(
            process=self._process(second),
            daemons=tuple(
                slots.daemon_reading(self._bank(first, second, slots.daemon_at(index), DAEMON), name)
                for index, name in daemons
            ),
            ends=tuple(
                slots.end_reading(self._bank(first, second, slots.end_at(last, index), END), end)
                for index, end in enumerate(self.about.ends)
            ),
        )

    def buckets(self) -> dict[str, tuple[int, ...]]:
        """How long the bodies of each daemon took: how many fell into each bucket (`rules/slots.py`)."""
        words = self._copy()
        starts = {name: slots.buckets_at(slots.daemon_at(index)) for index, name in enumerate(self.about.daemons)}
        return {name: tuple(words[start : start + slots.BUCKETS]) for name, start in starts.items()}

    def _copy(self) -> "memoryview[int]":
        size = os.fstat(self._file).st_size
        words = memoryview(os.pread(self._file, size // WORD_BYTES * WORD_BYTES, 0)).cast("q")
        _refuse_unreadable(self.path, words, size)
        return words

    def _bank(self, first: "memoryview[int]", second: "memoryview[int]", slot: int, shape: Shape) -> bytes:
        """Between two copies nearly every slot has stood still. The others are looked at by themselves."""
        sequence = first[slot]
        if second[slot] == sequence:
            start = slots.bank_at(shape, slot, sequence)
            bank = bytes(first[start : start + shape.bank_words])
        else:
            found = slots.published(_InFile(self._file), slot, shape)
            bank = found if found is not None else self._known.get(slot, bytes(shape.bank_words * WORD_BYTES))
        self._known[slot] = bank
        return bank

    def _process(self, words: "memoryview[int]") -> ProcessReading:
        pid, ended_ns = words[slots.PID_AT], words[slots.ENDED_AT]
        return ProcessReading(
            process=self.about.process,
            generation=words[slots.GENERATION_AT],
            pid=pid,
            alive=not ended_ns and pid > 0 and is_alive(Identity(pid, words[slots.STARTED_AT], self.about.boot)),
            up=words[slots.UP_AT],
            born_ns=words[slots.BORN_AT],
            heartbeat_ns=words[slots.HEARTBEAT_AT],
            heartbeats=words[slots.HEARTBEATS_AT],
            ended_ns=ended_ns,
            exit_code=words[slots.EXIT_AT] if ended_ns else None,
            restarts=words[slots.RESTARTS_AT],
            deaths=words[slots.DEATHS_AT],
            dropped=words[slots.DROPPED_AT],
            budget_ns=words[slots.BUDGET_AT],
            fault_since_ns=words[slots.FAULT_SINCE_AT],
            fault_took_ns=words[slots.FAULT_TOOK_AT],
        )


class _InFile:
    """The words of a file, each read when it is asked for."""

    def __init__(self, file: int) -> None:
        self._file = file

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return os.pread(self._file, (at.stop - at.start) * WORD_BYTES, at.start * WORD_BYTES)
        return int.from_bytes(os.pread(self._file, WORD_BYTES, at * WORD_BYTES), sys.byteorder, signed=True)


def _about_in(path: Path) -> About:
    try:
        with open(path, "rb", opener=_without_links) as file:
            text = file.read()
    except OSError as error:
        raise SlotsUnreadable(f"{path} cannot be read: {error.strerror}") from error
    words = memoryview(text[: len(text) // WORD_BYTES * WORD_BYTES]).cast("q")
    _refuse_unreadable(path, words, len(text))
    start = slots.about_at(words[slots.DAEMONS_AT], words[slots.ENDS_AT]) * WORD_BYTES
    about = slots.about_in(text[start : start + words[slots.ABOUT_AT]])
    if not isinstance(about, About):
        raise SlotsUnreadable(f"{path} is not read: {about}")
    return about


def _refuse_unreadable(path: Path, words: "memoryview[int]", size: int) -> None:
    if (why := slots.why_unreadable(words, size)) is not None:
        raise SlotsUnreadable(f"{path} is not read: {why}")


def _without_links(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)


def _mapped(file: int) -> "memoryview[int]":
    size = os.fstat(file).st_size
    return memoryview(mmap.mmap(file, size))[: size // WORD_BYTES * WORD_BYTES].cast("q")
