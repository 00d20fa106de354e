"""How many items went through each channel of a run, also when the processes at its ends have died and come again.

    EndCounts    one end, as it counts itself    ->   Ledger   ->    ChannelCounts    the channel, since the start

Both ends count by absolute numbers within a life of the writer, so a reader that is started again knows how far its
predecessor was; and a writer that is started again knows how many items each earlier life had accepted. What only one
end ever knew (dropped, redelivered) is remembered as it was last heard before the death of that end.
"""

from collections.abc import Iterator

import msgspec
from msgspec import Struct

from geartrain.rules.frames import Life
from geartrain.rules.pipeline import ChannelSpec, PipelineSpec, Policy
from geartrain.rules.planes import PlaneSnapshot
from geartrain.rules.session import Loss


class EndCounts(Struct, frozen=True, kw_only=True):
    """One end of a channel. `incarnation` is this end and no other of the channel, whoever opened it."""

    channel: str
    sends: bool
    incarnation: int
    # Of the writer: its life. Of the reader: the first that it has met, or 0.
    epoch: int
    accepted: int
    taken: int
    stable: int
    dropped: int = 0
    redelivered: int = 0
    set_aside: int = 0
    # What the writer knows of its earlier lives, and what the reader has missed of them.
    lives: tuple[Life, ...] = ()
    losses: tuple[Loss, ...] = ()


class ChannelCounts(Struct, frozen=True, kw_only=True):
    """A channel since the start of the run. `fill` is how many items are in it; `lost` died with a writer."""

    channel: str
    writer: str
    reader: str
    policy: Policy
    maxsize: int
    fill: int
    accepted: int
    taken: int
    stable: int
    dropped: int
    redelivered: int
    set_aside: int
    lost: int
    # Of one that may go stale: how long ago something came, and whether that is too long.
    age_s: float | None = None
    stale: bool | None = None


def judged(counts: ChannelCounts, plane: PlaneSnapshot) -> ChannelCounts:
    """The channel with what its plane says."""
    age_s = None if plane.age_ns < 0 else round(plane.age_ns / 1e9, 3)
    return msgspec.structs.replace(counts, age_s=age_s, stale=plane.stale)


class Ledger:
    """Remembers what the ends of all channels have said of themselves."""

    def __init__(self, spec: PipelineSpec) -> None:
        self._accounts = {channel.name: _Account(channel) for channel in spec.channels}

    def hear(self, counts: EndCounts) -> None:
        self._accounts[counts.channel].hear(counts)

    def rows(self) -> tuple[ChannelCounts, ...]:
        """Every channel, in the order of the file."""
        return tuple(account.row() for account in self._accounts.values())


class _Side:
    """One end, through all of its incarnations."""

    def __init__(self) -> None:
        self.now: EndCounts | None = None
        self._dropped = 0
        self._redelivered = 0

    def hear(self, counts: EndCounts) -> None:
        former = self.now
        if former is not None and former.incarnation != counts.incarnation:
            self._dropped += former.dropped
            self._redelivered += former.redelivered
        self.now = counts

    @property
    def dropped_before(self) -> int:
        return self._dropped

    @property
    def dropped(self) -> int:
        return self._dropped + (0 if self.now is None else self.now.dropped)

    @property
    def redelivered(self) -> int:
        return self._redelivered + (0 if self.now is None else self.now.redelivered)


class _Account:
    """One channel."""

    def __init__(self, channel: ChannelSpec) -> None:
        self._channel = channel
        self._writer = _Side()
        self._reader = _Side()
        self._lost: dict[int, int] = {}

    def hear(self, counts: EndCounts) -> None:
        (self._writer if counts.sends else self._reader).hear(counts)
        self._lost |= {loss.epoch: loss.lost or 0 for loss in counts.losses}

    def row(self) -> ChannelCounts:
        channel, writer, reader = self._channel, self._writer, self._reader
        assert channel.writer is not None
        assert channel.reader is not None
        sent, got = writer.now, reader.now
        lives = () if sent is None else sent.lives
        accepted = sum(life.accepted for life in lives) + (0 if sent is None else sent.accepted) + writer.dropped_before
        taken = stable = 0
        # A reader that has met nobody yet knows less than the writer does of its predecessor.
        if (seen := got if got is not None and got.epoch else sent) is not None:
            before = sum(self._passed(life) for life in lives if life.epoch < seen.epoch)
            before = max(0, before - (0 if seen is sent else reader.dropped_before))
            taken, stable = before + seen.taken, before + seen.stable
        # A writer that does not answer has sent at least what has come.
        accepted = max(accepted, taken)
        set_aside = 0 if sent is None else sent.set_aside
        dropped = writer.dropped + reader.dropped
        lost = sum(self._lost.values())
        return ChannelCounts(
            channel=channel.name,
            writer=channel.writer.daemon,
            reader=channel.reader.daemon,
            policy=channel.policy,
            maxsize=channel.maxsize,
            # Every item is somewhere; the ends are asked one after the other, so it may seem to be nowhere, or twice.
            fill=min(channel.maxsize, max(0, accepted - taken - dropped - set_aside - lost)),
            accepted=accepted,
            taken=taken,
            stable=stable,
            dropped=dropped,
            redelivered=reader.redelivered,
            set_aside=set_aside,
            lost=lost,
        )

    def _passed(self, life: Life) -> int:
        """How many items of an earlier life of the writer have come to a reader."""
        return life.accepted - self._lost.get(life.epoch, 0)


class Rate(Struct, frozen=True, kw_only=True):
    """How fast items went through a channel, in items per second."""

    channel: str
    interval_s: float
    accepted_hz: float
    taken_hz: float
    dropped_hz: float
    fill: int
    age_s: float | None = None
    stale: bool | None = None


def rates(before: tuple[ChannelCounts, ...], after: tuple[ChannelCounts, ...], interval_s: float) -> Iterator[Rate]:
    """What happened between two looks. What must be taken once more is not taken twice, and never less than nothing."""
    for first, last in zip(before, after, strict=True):
        yield Rate(
            channel=last.channel,
            interval_s=round(interval_s, 3),
            accepted_hz=_per_second(last.accepted - first.accepted, interval_s),
            taken_hz=_per_second(last.taken - first.taken, interval_s),
            dropped_hz=_per_second(last.dropped - first.dropped, interval_s),
            fill=last.fill,
            age_s=last.age_s,
            stale=last.stale,
        )


def _per_second(count: int, interval_s: float) -> float:
    return round(max(0, count) / interval_s, 3)
