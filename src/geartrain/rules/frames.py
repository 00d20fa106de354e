"""The words two channel ends say to each other, and how each is one frame.

    control   a msgpack array that opens with the word's number        Hello, WhoAreYou, Refused, Flow, ...
    data      DATA, flags, epoch, number of the first item, then one msgpack array of all items of a batch

A data frame is told apart by its first byte, 0xc1, which msgpack never uses. Items are encoded one by one as they are
sent and decoded all at once: `[first, second, ...]` is one call of a typed decoder.
"""

import struct
from typing import Annotated, TypeVar

import msgspec
from msgspec import Struct

from geartrain.errors import WireError, in_words

PROTOCOL = 1

# Counts, epochs, incarnations: far from what arithmetic on them could make too large to be sent.
Number = Annotated[int, msgspec.Meta(ge=0, le=2**62)]

# Past this a frame is refused before it is looked at: what a control frame may be at most.
CONTROL_MOST = 64 * 1024


class Word(Struct, frozen=True, array_like=True):
    """What all control frames have in common: nothing but their form."""


class Settings(Struct, frozen=True, array_like=True):
    """What both ends of a channel must agree on. `shape` is a hash of the item type's structure."""

    channel: str
    shape: str
    maxsize: Number
    max_bytes: Number
    policy: str
    ack: str
    keep: str


class Life(Struct, frozen=True, array_like=True):
    """An earlier life of a writer, and how many items it had accepted."""

    epoch: Number
    accepted: Number


class Hello(Word, frozen=True, tag=1):
    """Who I am. The writer's `epoch` names its life; a reader that has heard of one says how far it has come."""

    protocol: Number
    writes: bool
    incarnation: Number
    epoch: Number
    issued: bool
    type_name: str
    settings: Settings
    # The writer: its last stable item, and what is known of its earlier lives, the oldest first.
    stable: Number = 0
    lives: tuple[Life, ...] = ()
    # The reader: the item it expects next, its taken and stable, and up to where it grants. 0: it has heard nothing.
    expects: Number = 0
    taken: Number = 0
    granted: Number = 0


class WhoAreYou(Word, frozen=True, tag=2):
    """I have heard something from you, and do not know you: say Hello."""


class Refused(Word, frozen=True, tag=3):
    """No. `final` refusals are about what cannot change; the others may be tried again."""

    reason: str
    final: bool


class Flow(Word, frozen=True, tag=4):
    """The reader to the writer. All numbers are absolute, so that a lost or repeated one does no harm.

    `asks`: the reader has nothing, and waits for the next item.
    """

    epoch: Number
    taken: Number
    stable: Number
    granted: Number
    asks: bool = False


class Beat(Word, frozen=True, tag=5):
    """I am here. The writer says how far it has sent, so that a reader who missed the last frame finds out."""

    sent: Number = 0


class Again(Word, frozen=True, tag=6):
    """The reader to the writer: something is missing; go on from item `expects` of this epoch."""

    epoch: Number
    expects: Number


class Done(Word, frozen=True, tag=7):
    """The reader to the writer: I have closed, and want nothing more."""


class Bye(Word, frozen=True, tag=8):
    """Either to the other: I have heard your last word."""


Control = Hello | WhoAreYou | Refused | Flow | Beat | Again | Done | Bye

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Control)
_size_decoder = msgspec.msgpack.Decoder(list[int])
_raw_decoder = msgspec.msgpack.Decoder(list[msgspec.Raw])

# -- data -----------------------------------------------------------------------------------------------------------

DATA = 0xC1
REPEATED = 1  # every item of the frame may have been handed over before
LAST = 2  # the frame holds no item but takes a number: nothing comes after it
ABORTED = 4  # with LAST: the writer did not end by itself
SKIPPED = 8  # the frame holds no item but takes a number: the item was set aside
PAYLOAD = 16  # the frame holds the size of one item, which is the next message, as it is

_HEADER = struct.Struct("<BBQQ")
HEADER_BYTES = _HEADER.size
_ARRAY_32 = 0xDD
_COUNT = struct.Struct(">I")
_ITEMS_AT = HEADER_BYTES + 1 + _COUNT.size


class Data(Struct, frozen=True):
    """A data frame whose items are still encoded: `items` is a msgpack array of `count`, or so it says."""

    flags: int
    epoch: int
    first: int
    count: int
    items: memoryview


def new_batch() -> bytearray:
    """A data frame without items, to be appended to."""
    return bytearray(_ITEMS_AT)


def seal(batch: bytearray, *, flags: int, epoch: int, first: int, count: int) -> None:
    """Write what is known only when the batch is full."""
    _HEADER.pack_into(batch, 0, DATA, flags, epoch, first)
    batch[HEADER_BYTES] = _ARRAY_32
    _COUNT.pack_into(batch, HEADER_BYTES + 1, count)


def single(item: bytes | memoryview, *, flags: int, epoch: int, number: int) -> bytearray:
    """A sealed data frame around one encoded item, or around none when that was skipped."""
    batch = new_batch()
    batch += item
    seal(batch, flags=flags, epoch=epoch, first=number, count=int(not flags & SKIPPED))
    return batch


def split(batch: bytearray) -> list[bytes]:
    """The items of a sealed data frame, each encoded as it was."""
    return [bytes(item) for item in _raw_decoder.decode(memoryview(batch)[HEADER_BYTES:])]


def flags_of(batch: bytearray) -> int:
    return batch[1]


def mark_repeated(batch: bytearray) -> None:
    batch[1] |= REPEATED


def encode_size(size_bytes: int) -> bytes:
    """What a frame that announces a payload has in place of an item."""
    return msgspec.msgpack.encode(size_bytes)


def encode(word: Control) -> bytes:
    return _encoder.encode(word)


def is_data(frame: bytes | bytearray | memoryview) -> bool:
    return len(frame) > 0 and frame[0] == DATA


def decode(frame: bytes | bytearray | memoryview) -> Control | Data:
    """What a frame says. Anything that is not a frame is a `WireError`, whatever it is."""
    if is_data(frame):
        return decode_data(frame)
    if len(frame) > CONTROL_MOST:
        raise WireError(f"a frame of {len(frame)} bytes that is no data frame; {CONTROL_MOST} is the most for others")
    try:
        word: Control = _decoder.decode(frame)
    except (ValueError, RecursionError) as error:
        raise WireError(f"a frame of {len(frame)} bytes that is no word of protocol {PROTOCOL}: {error}") from error
    return word


def decode_data(frame: bytes | bytearray | memoryview) -> Data:
    if len(frame) < _ITEMS_AT:
        raise WireError(f"a data frame of {len(frame)} bytes; its header alone has {_ITEMS_AT}")
    _, flags, epoch, first = _HEADER.unpack_from(frame)
    items = memoryview(frame)[HEADER_BYTES:]
    if items[0] != _ARRAY_32:
        raise WireError(f"a data frame of {len(frame)} bytes whose items are no array")
    (count,) = _COUNT.unpack_from(items, 1)
    return Data(flags, epoch, first, count, items)


def is_payload(announced: Data, frame: bytes | bytearray | memoryview) -> bool:
    """Whether this is the message that was announced. No other is that long: the rest of it was lost if it is not."""
    return items_of(announced, _size_decoder) == [len(frame)]


T = TypeVar("T")


def items_of(data: Data, decoder: "msgspec.msgpack.Decoder[list[T]]") -> list[T]:
    """The items of a data frame, decoded and checked against the reader's type."""
    try:
        return decoder.decode(data.items)
    except Exception as error:
        # The item's own type may have its say (`__post_init__`), and may fail in any way it likes.
        raise WireError(f"the items from number {data.first} on do not decode: {in_words(error)}") from error
