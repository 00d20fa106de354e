"""An item of a channel as it is shown to somebody who only looks, and a place that keeps few and counts the rest.

The side path of a tap may lose items at each of its stations, but never without saying so: what was not shown is told
with the next item that is.
"""

from collections import deque

import msgspec
from msgspec import Struct

from geartrain.rules.frames import PAYLOAD, REPEATED, Data

# A larger item is shown by its size alone.
SHOWN_MOST_BYTES = 16 * 1024

NOTHING = msgspec.Raw(b"null")

_raw_items = msgspec.msgpack.Decoder(list[msgspec.Raw])
_sizes = msgspec.msgpack.Decoder(list[int])


class Shown(Struct, frozen=True, kw_only=True):
    """One item as JSON; null when it is too large, or has no form in JSON. So many before it were `missed`."""

    epoch: int
    number: int
    redelivered: bool
    size_bytes: int
    item: msgspec.Raw
    missed: int = 0


class Few(Struct):
    """The first so many items since somebody has last looked; those that come too soon after them are counted."""

    most: int
    most_bytes: int
    missed: int = 0
    _kept: deque[Shown] = msgspec.field(default_factory=deque)
    _bytes: int = 0

    def __bool__(self) -> bool:
        return bool(self._kept)

    @property
    def is_full(self) -> bool:
        return len(self._kept) >= self.most or self._bytes >= self.most_bytes

    def put(self, shown: Shown) -> None:
        size = len(bytes(shown.item))
        if self.is_full:
            self.missed += 1 + shown.missed
            return
        self._kept.append(msgspec.structs.replace(shown, missed=shown.missed + self.missed) if self.missed else shown)
        self._bytes += size
        self.missed = 0

    def take(self) -> tuple[Shown, ...]:
        """What is there. What has been missed since is told with the next one."""
        found = tuple(self._kept)
        self._kept.clear()
        self._bytes = 0
        return found


def put_items(data: Data, few: Few) -> None:
    """Show the items of a data frame. Nobody has checked them yet against anything."""
    repeated = bool(data.flags & REPEATED)
    if data.flags & PAYLOAD:
        for size in _sizes.decode(data.items):
            few.put(Shown(epoch=data.epoch, number=data.first, redelivered=repeated, size_bytes=size, item=NOTHING))
        return
    items = _raw_items.decode(data.items)
    for number, raw in enumerate(items, data.first):
        if few.is_full:
            few.missed += len(items) - (number - data.first)
            return
        size = len(bytes(raw))
        few.put(Shown(epoch=data.epoch, number=number, redelivered=repeated, size_bytes=size, item=_as_json(raw)))


def _as_json(item: msgspec.Raw) -> msgspec.Raw:
    if len(bytes(item)) > SHOWN_MOST_BYTES:
        return NOTHING
    try:
        text = msgspec.json.encode(msgspec.msgpack.decode(item))
    except (ValueError, TypeError, RecursionError):
        return NOTHING
    return msgspec.Raw(text) if len(text) <= SHOWN_MOST_BYTES else NOTHING
