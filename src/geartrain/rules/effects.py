"""What the two ends of a channel say to each other in virtual time, and in which order it is heard.

    writing end   ---  Item, Withdrawal, End    --->   reading end
                  <--  Taken, Answer, Closed    ---

An effect is said in one microstep and heard in the next. Numbers are counted from the first item on and absolute; an
end numbers its effects, so that where they are gathered from does not matter.
"""

from msgspec import Struct

FORWARD = 0
BACKWARD = 1


class Item(Struct, frozen=True, tag="item", array_like=True):
    """An item, frozen as it was when it was sent."""

    sequence: int
    payload: bytes


class Withdrawal(Struct, frozen=True, tag="withdrawal", array_like=True):
    """The writer of a rendezvous waits no longer, and wants this item back."""

    sequence: int


class End(Struct, frozen=True, tag="end", array_like=True):
    """No more will come."""


class Taken(Struct, frozen=True, tag="taken", array_like=True):
    """So many were taken, so many thrown away, and so many of those taken are stable."""

    taken: int
    dropped: int
    stable: int


class Answer(Struct, frozen=True, tag="answer", array_like=True):
    """Whether the item was withdrawn; else the reader had taken it."""

    sequence: int
    withdrawn: bool


class Closed(Struct, frozen=True, tag="closed", array_like=True):
    """No more is wanted."""


Said = Item | Withdrawal | End | Taken | Answer | Closed


class Effect(Struct, frozen=True, array_like=True):
    """One word of one end: the `order`-th that goes this way over this channel."""

    channel: str
    direction: int
    order: int
    said: Said

    @property
    def turn(self) -> tuple[str, int, int]:
        """Of all effects of a microstep the least is heard first."""
        return (self.channel, self.direction, self.order)
