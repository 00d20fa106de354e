"""What can be said of a channel over a link, and what its two ends must say alike."""

import os
import time
from os import PathLike
from typing import Any, TypedDict

from msgspec import Struct

from geartrain.engine.shape import name_of, shape_of
from geartrain.errors import BadValue
from geartrain.ports.transport import LinkSettings
from geartrain.rules.checks import number, one_of, whole
from geartrain.rules.frames import Settings
from geartrain.rules.keys import Curve
from geartrain.rules.meeting import Self
from geartrain.rules.pipeline import ACKS, KEEPS, MAX_BYTES, MAX_DELIVERIES, MAXSIZE, POLICIES, Ack, Keep, Policy
from geartrain.rules.session import LOSSY


class ChannelOptions(Struct, frozen=True, kw_only=True):
    """All that can be said of a channel over a link. Both ends must say the same of the first six."""

    name: str = ""
    maxsize: int | None = None
    policy: Policy = "block"
    ack: Ack = "batch"
    keep: Keep = "stable"
    max_bytes: int = MAX_BYTES
    retain: int | None = None
    max_deliveries: int | None = MAX_DELIVERIES
    aside: str | PathLike[str] | None = None
    counter: str | PathLike[str] | None = None
    heartbeat_s: float = 5.0
    lost_after_s: float | None = 30.0
    connect_within: float | None = None
    close_within: float = 5.0
    curve: Curve | None = None
    insecure: bool = False
    # Somebody above knows who is alive: a newcomer takes over at once, and an end that fails leaves without a word.
    supervised: bool = False

    def __post_init__(self) -> None:
        one_of("policy", self.policy, POLICIES)
        if self.maxsize is not None:
            whole("maxsize", self.maxsize, least=0)
        one_of("ack", self.ack, ACKS)
        one_of("keep", self.keep, KEEPS)
        whole("max_bytes", self.max_bytes, least=1)
        if number("heartbeat_s", self.heartbeat_s, least=0) == 0:
            raise BadValue("heartbeat_s must be more than 0")
        number("close_within", self.close_within, least=0)
        if self.retain is not None:
            whole("retain", self.retain, least=max(1, self.window))
        if self.max_deliveries is not None:
            # After a first death nobody knows yet which item it was.
            whole("max_deliveries", self.max_deliveries, least=2)
        for what in ("lost_after_s", "connect_within"):
            if getattr(self, what) is not None:
                number(what, getattr(self, what), least=0)
        if self.policy == "latest" and self.window > 1:
            raise BadValue(
                f"policy 'latest' keeps exactly one item, so maxsize must be 1 or left out, got {self.maxsize}"
            )
        if self.policy in LOSSY and self.window == 0:
            raise BadValue(f"policy {self.policy!r} over a link needs a maxsize of at least 1")

    @property
    def window(self) -> int:
        """How many items may be accepted and not yet taken."""
        if self.policy == "latest":
            return self.maxsize or 1
        return MAXSIZE if self.maxsize is None else self.maxsize

    def me(self, item_type: Any, address: str, *, binds: bool) -> Self:
        shape = shape_of(item_type)
        settings = Settings(self.name, shape, self.window, self.max_bytes, self.policy, self.ack, self.keep)
        return Self(
            label=f"channel {self.name!r} at {address}" if self.name else f"the channel at {address}",
            settings=settings,
            type_name=name_of(item_type),
            incarnation=new_number(),
            epoch=time.clock_gettime_ns(time.CLOCK_BOOTTIME),
            issued=self.supervised,
            binds=binds,
            heartbeat_ns=_ns(self.heartbeat_s),
            lost_after_ns=None if self.lost_after_s is None else _ns(self.lost_after_s),
            connect_within_ns=None if self.connect_within is None else _ns(self.connect_within),
        )

    @property
    def kept(self) -> int:
        """How many items the writer keeps at most until they are stable."""
        return 2 * max(self.window, 1) + 2 if self.retain is None else self.retain

    @property
    def link(self) -> LinkSettings:
        return LinkSettings(self.max_bytes, self.insecure, self.curve)


def new_number() -> int:
    """One that nobody else has. `secrets` makes the same, and brings much of a cryptography library with it."""
    return int.from_bytes(os.urandom(8), "big") >> 2


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


class Said(TypedDict, total=False):
    """The options of a channel, as keyword arguments."""

    name: str
    maxsize: int | None
    policy: Policy
    ack: Ack
    keep: Keep
    max_bytes: int
    retain: int | None
    max_deliveries: int | None
    aside: str | PathLike[str] | None
    counter: str | PathLike[str] | None
    heartbeat_s: float
    lost_after_s: float | None
    connect_within: float | None
    close_within: float
    curve: Curve | None
    insecure: bool
