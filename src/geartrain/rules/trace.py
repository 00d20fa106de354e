"""What a simulated run did, so that two of them can be compared: a digest, a trace in a file, the first difference.

    a reading end takes an item  ->  Taken(t, k, channel, number, payload)
                                         |-> Digest: one hash a channel, and one of them all
                                         `-> a line of the trace        first_difference(trace, trace)

Each channel is hashed for itself, where it is read: so nobody needs to know the order of all that happened everywhere.
Lines of one instant are compared in the order of their channels, for the same reason.
"""

import hashlib
import struct
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby, zip_longest
from typing import Any

import msgspec
from msgspec import Struct

from geartrain.errors import BadValue

VERSION = 1

_PLACE = struct.Struct(">QIQI")


class Taken(Struct, frozen=True, order=True):
    """An item was taken from a channel, in microstep `k` of the instant `t_ns`. `payload` is its encoding."""

    t_ns: int
    k: int
    channel: str
    number: int
    payload: bytes

    @property
    def item(self) -> Any:
        """The item as plain data; its bytes, where they are nothing that could be decoded."""
        try:
            return msgspec.msgpack.decode(self.payload)
        except (msgspec.DecodeError, ValueError):
            return self.payload

    def __str__(self) -> str:
        return f"t={self.t_ns / 1e9:.9f} k={self.k} {self.channel} #{self.number} {_shown(self.item)}"


class Digest:
    """The hash of a run, which two runs have alike when every channel carried the same at the same time."""

    def __init__(self) -> None:
        self._channels: dict[str, Any] = {}

    def note(self, taken: Taken) -> None:
        """Those of one channel in the order in which they were taken."""
        whole = self._channels.get(taken.channel)
        if whole is None:
            whole = self._channels[taken.channel] = hashlib.sha256()
        whole.update(_PLACE.pack(taken.t_ns, taken.k, taken.number, len(taken.payload)))
        whole.update(taken.payload)

    def channels(self) -> dict[str, bytes]:
        """The hash of each channel, for `digest_of`."""
        return {name: whole.digest() for name, whole in self._channels.items()}


def digest_of(channels: Mapping[str, bytes]) -> str:
    """64 hex digits for the hashes of all channels, wherever each was read."""
    whole = hashlib.sha256()
    for name, part in sorted(channels.items()):
        whole.update(msgspec.msgpack.encode((name, part)))
    return whole.hexdigest()


# -- the file -------------------------------------------------------------------------------------------------------


class Head(Struct, frozen=True, kw_only=True):
    """The first line: of which run this is the trace."""

    geartrain_trace: int = VERSION
    pipeline: str
    seed: int


class _Line(Struct, frozen=True, omit_defaults=True):
    """`item` is for people and their tools; `bytes` is there only where it does not come to the same bytes again."""

    t_ns: int
    k: int
    channel: str
    number: int
    item: msgspec.Raw = msgspec.Raw(b"null")
    bytes: str | None = None


_lines = msgspec.json.Decoder(_Line)


def line_of(taken: Taken) -> bytes:
    """Without the end of the line."""
    shown = _json(taken.item)
    is_exact = _again(shown) == taken.payload
    kept = None if is_exact else b64encode(taken.payload).decode()
    return msgspec.json.encode(_Line(taken.t_ns, taken.k, taken.channel, taken.number, msgspec.Raw(shown), kept))


def head_of(line: bytes, file: str) -> Head:
    """The first line; `BadValue` when this is no trace."""
    try:
        head = msgspec.json.decode(line, type=Head)
    except msgspec.DecodeError as error:
        said = f"its first line should name the run it is of, and does not ({error})"
        raise BadValue(f"{file} is no trace: {said}; make one with geartrain run FILE --sim --trace {file}") from None
    if head.geartrain_trace != VERSION:
        raise BadValue(f"{file} is a trace of form {head.geartrain_trace}, expected {VERSION}: make it anew")
    return head


def taken_in(lines: Iterable[bytes], file: str) -> Iterator[Taken]:
    """What the lines after the first say. `BadValue` names the first that cannot be read."""
    for number, text in enumerate(lines, 2):
        try:
            line = _lines.decode(text)
            kept = line.bytes
            payload = _again(bytes(line.item)) if kept is None else b64decode(kept, validate=True)
        except (msgspec.DecodeError, ValueError) as error:
            raise BadValue(f"{file}, line {number}: not a line of a trace: {error}") from None
        yield Taken(line.t_ns, line.k, line.channel, line.number, payload)


def _json(item: object) -> bytes:
    try:
        return msgspec.json.encode(item)
    except (TypeError, ValueError, RecursionError):
        return b"null"


def _again(shown: bytes) -> bytes:
    return msgspec.msgpack.encode(msgspec.json.decode(shown))


# -- two of them ----------------------------------------------------------------------------------------------------


class Difference(Struct, frozen=True):
    """The first place where two traces part: what the one says there, and the other. None: it has ended."""

    first: Taken | None
    second: Taken | None
    # So many were the same before.
    same: int

    @property
    def said(self) -> str:
        """What is different, in a few words."""
        if self.first is None or self.second is None:
            return f"only the {'second' if self.first is None else 'first'} goes on"
        if (self.first.channel, self.first.number) != (self.second.channel, self.second.number):
            return "another channel comes next"
        if (self.first.t_ns, self.first.k) != (self.second.t_ns, self.second.k):
            return "the same item, at another time" if self.first.payload == self.second.payload else "time and payload"
        return "the payload"


def first_difference(first: Iterable[Taken], second: Iterable[Taken]) -> Difference | None:
    """None when they are alike. Each must come in the order of time."""
    for same, (one, other) in enumerate(zip_longest(_in_order(first), _in_order(second))):
        if one != other:
            return Difference(one, other, same)
    return None


def _in_order(taken: Iterable[Taken]) -> Iterator[Taken]:
    """Within an instant the order in which daemons ran means nothing."""
    for _, together in groupby(taken, key=lambda one: (one.t_ns, one.k)):
        yield from sorted(together)


def _shown(item: object) -> str:
    text = repr(item) if isinstance(item, bytes) else _json(item).decode()
    return text if len(text) <= 2_000 else f"{text[:2_000]}... ({len(text)} characters)"
