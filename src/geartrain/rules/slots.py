"""Where each word of a slot file stands, and how it is read while its process goes on writing, or after it was killed.

    header      who this is, when its loop turned last, how it ended                      words by themselves
    daemon      sequence | bank 0 | bank 1 | how long its bodies took | its name          for each, and some to spare
    end         sequence | bank 0 | bank 1                                                for each end of a channel
    about       JSON: the names of all that, written before the process lives

A writer fills the bank that is not published and then publishes it by adding one to the sequence. A killed writer
leaves a whole record: the last or the one before. A reader copies the published bank and takes it only if the
sequence is still the same. All words are native: others are stored byte by byte, and tear.
"""

import struct
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from geartrain.rules.readings import DaemonReading, EndReading

WORD_BYTES = 8
MAGIC = 0x676561727472_0001
LAYOUT = 2

# Eight words are a line of memory: what one writer writes often shares none with what others read.
_LINE = 8

HEADER_WORDS = 3 * _LINE
(
    MAGIC_AT, LAYOUT_AT, DAEMONS_AT, ENDS_AT, ABOUT_AT, GENERATION_AT, PID_AT, STARTED_AT,
    BORN_AT, HEARTBEAT_AT, HEARTBEATS_AT, UP_AT, DROPPED_AT, ENDED_AT, EXIT_AT,
    RESTARTS_AT, DEATHS_AT, BUDGET_AT, FAULT_SINCE_AT, FAULT_TOOK_AT,
) = range(20)  # fmt: skip


def _lines(words: int) -> int:
    return -(-words // _LINE) * _LINE


DAEMON_FIELDS = DaemonReading.__struct_fields__[1:]
END_FIELDS = EndReading.__struct_fields__[4:]

# Durations fall into buckets of 256 ns, and from 1 us on four to every doubling: the last begins at 19 minutes.
BUCKETS = 128
_FINEST_BITS = 8
# A daemon that comes late has no place in `about`, and so much room for its name.
_NAME_WORDS = _LINE


class Shape(Struct, frozen=True):
    """Where the parts of one kind of slot stand."""

    fields: int
    after: int = 0

    @property
    def bank_words(self) -> int:
        return _lines(self.fields)

    @property
    def after_at(self) -> int:
        return _LINE + 2 * self.bank_words

    @property
    def words(self) -> int:
        return self.after_at + self.after


DAEMON = Shape(len(DAEMON_FIELDS), BUCKETS + _NAME_WORDS)
END = Shape(len(END_FIELDS))

# A writer that publishes between all of so many pairs of looks has no time for anything else.
TRIES = 8


class Unreadable(StrEnum):
    """Why a file is not read as slots."""

    TRUNCATED = "it is shorter than its header says"
    FOREIGN = "it is no slot file"
    OTHER_LAYOUT = "it was written by another version"
    NAMELESS = "what it is about cannot be read"


class EndAbout(Struct, frozen=True):
    """Which end of which channel a slot is of."""

    channel: str
    daemon: str
    sends: bool
    maxsize: int


class About(Struct, frozen=True, kw_only=True):
    """What a file is about: said by who made it, and never changed. Wall time goes with `born_ns` of the header."""

    process: str
    daemons: tuple[str, ...]
    ends: tuple[EndAbout, ...] = ()
    boot: str = ""
    born_wall_ns: int = 0


class Words(Protocol):
    """Native words, as a mapped file gives them."""

    def __getitem__(self, at: Any, /) -> Any: ...


def daemon_at(index: int) -> int:
    return HEADER_WORDS + index * DAEMON.words


def end_at(daemons: int, index: int) -> int:
    return daemon_at(daemons) + index * END.words


def buckets_at(slot: int) -> int:
    return slot + DAEMON.after_at


def name_at(slot: int) -> slice:
    start = buckets_at(slot) + BUCKETS
    return slice(start, start + _NAME_WORDS)


def bank_at(shape: Shape, slot: int, sequence: int) -> int:
    """The word at which the bank begins that this sequence publishes."""
    return slot + _LINE + (sequence & 1) * shape.bank_words


def about_at(daemons: int, ends: int) -> int:
    return end_at(daemons, ends)


def size_bytes(daemons: int, ends: int, about: bytes) -> int:
    return about_at(daemons, ends) * WORD_BYTES + len(about)


def bucket_of(took_ns: int) -> int:
    finest = took_ns >> _FINEST_BITS
    bits = finest.bit_length()
    bucket = finest if bits < 3 else ((bits - 2) << 2) + ((finest >> (bits - 3)) & 3)
    return bucket if bucket < BUCKETS else BUCKETS - 1


def bucket_ends_ns(bucket: int) -> int:
    """What is shorter than this fell into this bucket or one before."""
    if bucket < 4:
        return (bucket + 1) << _FINEST_BITS
    octave, quarter = divmod(bucket, 4)
    return (5 + quarter) << (octave - 1 + _FINEST_BITS)


def quantile_ns(counts: Sequence[int], part: float) -> int | None:
    """What so much of the durations did not exceed, to a quarter of an octave; None of none."""
    wanted = part * sum(counts)
    if not wanted:
        return None
    so_far = 0
    for bucket, count in enumerate(counts):
        so_far += count
        if so_far >= wanted:
            return bucket_ends_ns(bucket)
    return bucket_ends_ns(len(counts) - 1)


# -- reading ----------------------------------------------------------------------------------------------------------


def why_unreadable(words: "memoryview[int]", size: int) -> Unreadable | None:
    """`words` are the whole ones of a file of so many bytes."""
    if len(words) < HEADER_WORDS:
        return Unreadable.TRUNCATED
    if words[MAGIC_AT] != MAGIC:
        return Unreadable.FOREIGN
    if words[LAYOUT_AT] != LAYOUT:
        return Unreadable.OTHER_LAYOUT
    if min(words[DAEMONS_AT], words[ENDS_AT], words[ABOUT_AT]) < 0:
        return Unreadable.FOREIGN
    needed = about_at(words[DAEMONS_AT], words[ENDS_AT]) * WORD_BYTES + words[ABOUT_AT]
    return Unreadable.TRUNCATED if size < needed else None


def about_in(text: bytes) -> About | Unreadable:
    try:
        return msgspec.json.decode(text, type=About)
    except msgspec.MsgspecError:
        return Unreadable.NAMELESS


_DAEMON_BANK = struct.Struct(f"@{DAEMON.fields}q")
_END_BANK = struct.Struct(f"@{END.fields}q")


def daemon_reading(bank: bytes, name: str) -> DaemonReading:
    return DaemonReading(name, *_DAEMON_BANK.unpack_from(bank))


def end_reading(bank: bytes, end: EndAbout) -> EndReading:
    return EndReading(end.channel, end.daemon, end.sends, end.maxsize, *_END_BANK.unpack_from(bank))


def published(words: Words, slot: int, shape: Shape) -> bytes | None:
    """The whole record of this slot; None if its writer published at every try: the last one seen holds.

    It is copied as bytes, and understood when nobody can change it.
    """
    for _ in range(TRIES):
        sequence = words[slot]
        start = bank_at(shape, slot, sequence)
        bank = bytes(words[start : start + shape.bank_words])
        if words[slot] == sequence:
            return bank
    return None


def late_name(words: Words, index: int) -> str:
    """The name of a daemon that came when the file was made already; empty when the slot is still to spare."""
    return bytes(words[name_at(daemon_at(index))]).rstrip(b"\0").decode(errors="replace")


def name_bytes(name: str) -> bytes:
    """As much of a name as there is room for, and no broken letter."""
    most = _NAME_WORDS * WORD_BYTES
    return name.encode()[:most].decode(errors="ignore").encode().ljust(most, b"\0")
