"""The words two channel ends say to each other, and how each is one frame.

    control   a msgpack array that opens with the word's number        Hello, WhoAreYou, Refused, Flow, ...
    data      DATA, flags, epoch, number of the first item, then one msgpack array of all items of a batch

A data frame is told apart by its first byte, 0xc1, which msgpack never uses. Items are encoded one by one as they are
sent and decoded all at once: `[first, second, ...]` is one call of a typed decoder.
"""

import struct
from typing import TypeVar

import msgspec
from msgspec import Struct

from geartrain.errors import WireError

PROTOCOL = 1

# Past this a frame is refused before it is looked at: what a control frame may be at most.
CONTROL_MOST = 64 * 1024


class Word(Struct, frozen=True, array_like=True):
    """What all control frames have in common: nothing but their form."""


class Settings(Struct, frozen=True, array_like=True):
    """What both ends of a channel must agree on. `shape` is a hash of the item type's structure."""

    channel: str
    shape: str
    maxsize: int
    policy: str
    ack: str
    keep: str


class Hello(Word, frozen=True, tag=1):
    """Who I am. The writer's `epoch` names its life; a reader that has heard of one says how far it has come."""

    protocol: int
    writes: bool
    incarnation: int
    epoch: int
    issued: bool
    type_name: str
    settings: Settings
    # The writer: its last stable item, and how many items its predecessor had accepted, where that is known.
    stable: int = 0
    accepted_before: int | None = None
    # The reader: the item it expects next, its taken and stable, and up to where it grants. 0: it has heard nothing.
    expects: int = 0
    taken: int = 0
    granted: int = 0


class WhoAreYou(Word, frozen=True, tag=2):
    """I have heard something from you, and do not know you: say Hello."""


class Refused(Word, frozen=True, tag=3):
    """No. `final` refusals are about what cannot change; the others may be tried again."""

    reason: str
    final: bool


class Flow(Word, frozen=True, tag=4):
    """The reader to the writer. All numbers are absolute, so that a lost or repeated one does no harm."""

    epoch: int
    taken: int
    stable: int
    granted: int


class Beat(Word, frozen=True, tag=5):
    """I am here. The writer says how far it has sent, so that a reader who missed the last frame finds out."""

    sent: int = 0


class Again(Word, frozen=True, tag=6):
    """The reader to the writer: something is missing; go on from item `expects` of this epoch."""

    epoch: int
    expects: int


class Done(Word, frozen=True, tag=7):
    """The reader to the writer: I have closed, and want nothing more."""


class Bye(Word, frozen=True, tag=8):
    """The writer to the reader: I have heard that you are done."""


Control = Hello | WhoAreYou | Refused | Flow | Beat | Again | Done | Bye

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Control)

# -- data -----------------------------------------------------------------------------------------------------------

DATA = 0xC1
REPEATED = 1  # every item of the frame may have been handed over before
LAST = 2  # the frame holds no item but takes a number: nothing comes after it
ABORTED = 4  # with LAST: the writer did not end by itself

_HEADER = struct.Struct("<BBQQ")
HEADER_BYTES = _HEADER.size
_ARRAY_32 = 0xDD
_COUNT = struct.Struct(">I")
_ITEMS_AT = HEADER_BYTES + 1 + _COUNT.size


class Data(Struct, frozen=True):
    """A data frame whose items are still encoded: `items` is a msgpack array."""

    flags: int
    epoch: int
    first: int
    items: memoryview


def new_batch() -> bytearray:
    """A data frame without items, to be appended to."""
    return bytearray(_ITEMS_AT)


def seal(batch: bytearray, *, flags: int, epoch: int, first: int, count: int) -> None:
    """Write what is known only when the batch is full."""
    _HEADER.pack_into(batch, 0, DATA, flags, epoch, first)
    batch[HEADER_BYTES] = _ARRAY_32
    _COUNT.pack_into(batch, HEADER_BYTES + 1, count)


def mark_repeated(frame: bytearray) -> None:
    frame[1] |= REPEATED


def encode(word: Control) -> bytes:
    return _encoder.encode(word)


def decode(frame: bytes | bytearray | memoryview) -> Control | Data:
    """What a frame says. Anything that is not a frame is a `WireError`, whatever it is."""
    if len(frame) and frame[0] == DATA:
        return _data(memoryview(frame))
    if len(frame) > CONTROL_MOST:
        raise WireError(f"a frame of {len(frame)} bytes that is no data frame; {CONTROL_MOST} is the most for others")
    try:
        word: Control = _decoder.decode(frame)
    except (ValueError, RecursionError) as error:
        raise WireError(f"a frame of {len(frame)} bytes that is no word of protocol {PROTOCOL}: {error}") from error
    return word


def _data(frame: memoryview) -> Data:
    if len(frame) < _ITEMS_AT:
        raise WireError(f"a data frame of {len(frame)} bytes; its header alone has {_ITEMS_AT}")
    _, flags, epoch, first = _HEADER.unpack_from(frame)
    return Data(flags, epoch, first, frame[HEADER_BYTES:])


T = TypeVar("T")


def items_of(data: Data, decoder: "msgspec.msgpack.Decoder[list[T]]") -> list[T]:
    """The items of a data frame, decoded and checked against the reader's type."""
    try:
        items = decoder.decode(data.items)
    except (ValueError, RecursionError) as error:
        raise WireError(f"the items from number {data.first} on do not decode: {error}") from error
    return items
