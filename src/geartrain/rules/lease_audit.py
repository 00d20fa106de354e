"""What is worth knowing about leases and changes none: who was refused and why, who wanted work halted or begun.

It is a line of JSON for each, dated by a wall clock, in a log that may lose some: nothing is ever decided by it.
"""

import msgspec
from msgspec import Struct

from geartrain.rules.lease_words import Audit


class Audited(Struct, frozen=True):
    """One thing, and when it was."""

    wall_ns: int
    audit: Audit


def line_of(audited: Audited) -> bytes:
    return _encoder.encode(audited) + b"\n"


def audited_in(text: bytes) -> tuple[Audited, ...]:
    """All that can be read. A line that its writer did not finish, and one of another version, is passed over.

    Lines end at a newline byte and nowhere else: other separators may stand in a label as they are.
    """
    found = []
    for line in text.split(b"\n"):
        try:
            found.append(_decoder.decode(line))
        except (ValueError, RecursionError):
            continue
    return tuple(found)


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Audited)
