"""What a daemon asks for, as data: its ports and its config.

class Detector(Daemon):
    def __init__(self, frames: ReceiveStream[Frame],     a port that receives Frame
                 tap: SendStream[Frame] | None = None,    an optional one that sends it
                 geo: Caller[Place, Point],               one that calls with Place for Point
                 deadlines: Deadlines,                    one that the clock of the pipeline serves
                 threshold: float = 0.5): ...             config
"""

from collections.abc import Callable
from typing import Any, Literal

from msgspec import Struct


class ItemType(Struct, frozen=True, kw_only=True):
    """The type of a port's items. Two types meet when their shapes are equal.

    A type with a `variable` is any type, the same at all ports of the daemon that name the variable. `stays_because`
    says why items cannot leave their process, when they cannot.
    """

    text: str
    shape: str
    type: Any = None
    variable: str | None = None
    stays_because: str | None = None


# One that asks the clock of the pipeline, for deadlines or for planes, or the arbiter, for leases; and one of a clock,
# or of an arbiter, which serves them.
ClockPort = Literal["deadlines", "planes", "clients", "leases", "lease_clients"]


_DOES: dict[ClockPort, str] = {
    "deadlines": "has deadlines",
    "planes": "hears of planes",
    "clients": "is a clock",
    "leases": "holds leases",
    "lease_clients": "is an arbiter",
}


class Port(Struct, frozen=True, kw_only=True):
    """One parameter that is a stream, or with `many` a list of them.

    With a `reply` it is a call port: the one that `sends` requests gets a reply to each. With `clock` it is one between
    a daemon and the clock, or the arbiter.
    """

    name: str
    sends: bool
    item: ItemType
    many: bool = False
    optional: bool = False
    reply: ItemType | None = None
    clock: ClockPort | None = None

    @property
    def asks_clock(self) -> bool:
        """Whether the pipeline connects it to a clock by itself."""
        return self.clock in ("deadlines", "planes")

    @property
    def asks_arbiter(self) -> bool:
        """Whether the pipeline connects it to an arbiter of leases by itself."""
        return self.clock == "leases"

    @property
    def does(self) -> str:
        if self.clock is not None:
            return _DOES[self.clock]
        if self.reply is not None:
            return f"{'calls' if self.sends else 'is called'} with {self.item.text} for {self.reply.text}"
        return f"{'sends' if self.sends else 'expects'} {self.item.text}"


class ConfigField(Struct, frozen=True, kw_only=True):
    """One parameter that is config. `decode` gives its value for what the file says, or raises `BadValue` in words."""

    name: str
    type_name: str
    required: bool
    decode: Callable[[Any], Any]


class Signature(Struct, frozen=True, kw_only=True):
    """The ports and the config of one kind of daemon, in the order they are written.

    `boards` are the parameters that are given all planes of the pipeline; `memories` those that are given what the run
    writes down of itself.
    """

    ports: tuple[Port, ...] = ()
    config: tuple[ConfigField, ...] = ()
    boards: tuple[str, ...] = ()
    memories: tuple[str, ...] = ()

    def port(self, name: str) -> Port | None:
        return next((port for port in self.ports if port.name == name), None)
