"""What a process under virtual time and the one that knows the time say to each other.

    process   --- Quiet, Last, Failed   -->   authority
              <-- Brief, Grant          ---

What is said to another process travels within these: a frame for each process and microstep, opened only where it is
heard.
"""

from typing import Any

import msgspec
from msgspec import Struct

from geartrain.rules.barrier import Order, Report
from geartrain.rules.effects import Effect
from geartrain.rules.microsteps import LIMIT


class Brief(Struct, frozen=True, kw_only=True):
    """What a process is started for: `main`, an async function, is called with its outpost and the arguments."""

    process: str
    main: str
    arguments: tuple[Any, ...] = ()
    backend: str = "asyncio"
    seed: int = 0
    limit: int = LIMIT
    path: tuple[str, ...] = ()


class Quiet(Struct, frozen=True, array_like=True, tag="quiet"):
    """Nothing is left to do in this microstep."""

    report: Report
    said: dict[str, bytes]


class Last(Struct, frozen=True, array_like=True, tag="last"):
    """All is done here: what there is still to say, and what `main` has returned."""

    report: Report
    said: dict[str, bytes]
    result: Any


class Failed(Struct, frozen=True, array_like=True, tag="failed"):
    """`main` has failed, with an error of this name."""

    kind: str
    error: str
    trace: str


class Grant(Struct, frozen=True, array_like=True):
    """What is to be done now, what is heard, and who will never say anything again."""

    order: Order
    heard: tuple[bytes, ...] = ()
    gone: tuple[str, ...] = ()


encode = msgspec.msgpack.Encoder().encode
brief_of = msgspec.msgpack.Decoder(Brief).decode
grant_of = msgspec.msgpack.Decoder(Grant).decode
word_of = msgspec.msgpack.Decoder(Quiet | Last | Failed).decode
effects_of = msgspec.msgpack.Decoder(list[Effect]).decode
