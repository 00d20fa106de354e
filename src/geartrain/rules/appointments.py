"""What daemons ask the clock of a pipeline for and what it tells them, and how an appointment is kept across deaths.

    a daemon     Begin(life, pending)                        ------>   the clock      forgets any former life
                 Schedule(life, appointment), Cancel(number) ------>
                 <------ Hello(life)                                                  a new clock: what is pending?
                 <------ Rang(life, number, slot)                                     its time has come

The truth is with the daemon: its `Diary` has every appointment that it has not been told of yet, and gives them to each
new life of the clock. So the clock may tell of one twice, and the diary hands it over once; and may die with all it
knows. A periodic appointment lies on an absolute grid, and goes on from the first slot that was not handed over.
"""

from typing import Literal, get_args

import msgspec
from msgspec import Struct

from geartrain.rules import grid
from geartrain.rules.pipeline import ChannelSpec

# What becomes of the slots of a grid that had passed before they could be told: counted, or told one after another.
Missed = Literal["skip", "burst"]

MISSED: tuple[Missed, ...] = get_args(Missed)


class Appointment(Struct, frozen=True, array_like=True):
    """Something to be told of at a time, or with a period from slot to slot of a grid: what `cancel` takes."""

    number: int
    name: str
    epoch_ns: int
    period_ns: int = 0
    slot: int = 0
    missed: Missed = "skip"

    @property
    def due_ns(self) -> int:
        return self.epoch_ns + self.slot * self.period_ns


class Fired(Struct, frozen=True):
    """A deadline has come. `late_ns` is how much later than due the clock told of it.

    `missed` slots of a periodic one have passed besides, and are not told of any more.
    """

    name: str
    due_ns: int
    fired_ns: int
    late_ns: int
    missed: int
    number: int


class PlaneChange(Struct, frozen=True, tag="plane"):
    """A channel has gone stale, or is fresh again. `seq` is how often something had come, `age_ns` how long ago."""

    channel: str
    stale: bool
    age_ns: int
    at_ns: int
    seq: int


# -- words ------------------------------------------------------------------------------------------------------------


class Begin(Struct, frozen=True, tag="begin"):
    """All that is pending in this life of a daemon, and whether it wants to hear of planes."""

    life: int
    pending: tuple[Appointment, ...] = ()
    wants_planes: bool = False


class Schedule(Struct, frozen=True, tag="schedule"):
    """One appointment more."""

    life: int
    appointment: Appointment


class Cancel(Struct, frozen=True, tag="cancel"):
    """One less."""

    life: int
    number: int


class Hello(Struct, frozen=True, tag="hello"):
    """The clock lives, maybe once more, and knows of nothing yet."""

    life: int


class Rang(Struct, frozen=True, tag="rang"):
    """The time of this slot of an appointment has come, and so many after it have passed already."""

    life: int
    number: int
    slot: int
    fired_ns: int
    missed: int = 0


Asked = Begin | Schedule | Cancel
Told = Hello | Rang | PlaneChange


# -- what the clock decides -------------------------------------------------------------------------------------------


def rang(life: int, appointment: Appointment, now_ns: int) -> tuple[Rang, Appointment | None]:
    """What is told of an appointment that is due, and what is left of it."""
    if not appointment.period_ns:
        return Rang(life, appointment.number, 0, now_ns), None
    slot = appointment.slot
    following = slot + 1
    if appointment.missed == "skip":
        following = grid.next_slot(appointment.epoch_ns, appointment.period_ns, slot, now_ns)
    left = msgspec.structs.replace(appointment, slot=following)
    return Rang(life, appointment.number, slot, now_ns, following - slot - 1), left


def together(untold: Rang, newer: Rang) -> Rang:
    """One word for two slots of an appointment, where nobody has taken the first: the second counts as missed."""
    return msgspec.structs.replace(untold, missed=newer.slot + newer.missed - untold.slot)


# -- what a daemon remembers ------------------------------------------------------------------------------------------


class DeadlineStats(Struct, frozen=True):
    """What became of the appointments of one daemon. `repeated` ones were told once more than they were handed over."""

    scheduled: int
    pending: int
    fired: int
    late: int
    cancelled: int
    repeated: int


# From here on a deadline counts as late.
LATE_NS = 1_000_000


class Diary:
    """The appointments of one daemon in its present life: those that have not come yet."""

    def __init__(self, life: int) -> None:
        self.life = life
        self._number = 0
        self._pending: dict[int, Appointment] = {}
        self._fired = self._late = self._cancelled = self._repeated = 0

    def once(self, due_ns: int, name: str) -> Appointment:
        """The next appointment. Until `add` nothing has happened."""
        return Appointment(self._number + 1, name, due_ns)

    def periodic(self, now_ns: int, period_ns: int, name: str, missed: Missed) -> Appointment:
        """The next, every period from now on, first after one."""
        return Appointment(self._number + 1, name, now_ns, period_ns, 1, missed)

    def add(self, appointment: Appointment) -> Schedule:
        self._number = appointment.number
        self._pending[appointment.number] = appointment
        return Schedule(self.life, appointment)

    def cancel(self, number: int) -> Cancel | None:
        """None when it is not pending any more."""
        if self._pending.pop(number, None) is None:
            return None
        self._cancelled += 1
        return Cancel(self.life, number)

    def is_pending(self, number: int) -> bool:
        return number in self._pending

    def hear(self, word: Rang) -> Fired | None:
        """What is handed over; None for what was handed over before, or cancelled, or of a former life."""
        appointment = self._pending.get(word.number)
        following = word.slot + word.missed + 1
        if word.life != self.life or appointment is None or following <= appointment.slot:
            self._repeated += 1
            return None
        if appointment.period_ns:
            self._pending[word.number] = msgspec.structs.replace(appointment, slot=following)
        else:
            del self._pending[word.number]
        # Some of the slots may have been handed over before, or none of those before this one.
        slot = max(word.slot, appointment.slot)
        due_ns = appointment.epoch_ns + slot * appointment.period_ns
        late_ns = word.fired_ns - due_ns
        self._fired += 1
        self._late += late_ns > LATE_NS
        missed = following - appointment.slot - 1
        return Fired(appointment.name, due_ns, word.fired_ns, late_ns, missed, word.number)

    def begin(self, *, wants_planes: bool = False) -> Begin:
        """For a clock that knows nothing."""
        return Begin(self.life, tuple(self._pending.values()), wants_planes)

    def begin_life(self) -> None:
        """The daemon is made anew: what its former life asked for concerns nobody."""
        self.life += 1
        self._pending.clear()

    def stats(self) -> DeadlineStats:
        return DeadlineStats(
            scheduled=self._number,
            pending=len(self._pending),
            fired=self._fired,
            late=self._late,
            cancelled=self._cancelled,
            repeated=self._repeated,
        )


# -- on the wire ------------------------------------------------------------------------------------------------------


def clock_halves(channel: ChannelSpec) -> tuple[ChannelSpec, ChannelSpec]:
    """The two channels that an entry between a daemon and the clock stands for: of what it asks, and what it is told.

    Both keep an item only until it is taken: what dies with a clock or with a daemon after that, the diary has, or it
    concerns nobody. So they are no cycle that waits for itself, and keep no input of the daemon from becoming stable.
    """
    asks = msgspec.structs.replace(channel, keep="taken", max_deliveries=None)
    return asks, channel.back("told")
