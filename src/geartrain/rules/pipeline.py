"""The nouns of a pipeline: what may be said of a channel and its items."""

from typing import Literal, get_args

from msgspec import Struct

Policy = Literal["block", "latest", "drop_oldest", "drop_newest"]

POLICIES: tuple[Policy, ...] = get_args(Policy)


class Mark(Struct, frozen=True, order=True):
    """Which item was handed over last: from which life of the writer, its number there, and whether it is a repeat."""

    epoch: int
    sequence: int
    redelivered: bool = False
