"""One end of a channel in a process of its own, that may be stopped and killed any time.

    python peer.py asyncio '{"role": "writer", "address": ..., "ledger": ..., "bind": false, "options": {...}}'

A writer sends 1, 2, 3 ... for ever, or up to `count`. A reader takes for ever, until the end, or `count` items and
keeps the last in hand. The ledger gets a line for each item, and as its last the error that ended it, if there was one.
"""

import json
import os
import sys
from typing import Any

import anyio
import msgspec

from geartrain import open_receive, open_send
from geartrain.engine.remote import RemoteReceive, RemoteSend
from geartrain.errors import EndOfStream, GeartrainError


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What the process is to do."""

    role: str
    address: str
    ledger: str
    bind: bool
    count: int | None = None
    item_bytes: int | None = None
    options: dict[str, Any]

    @property
    def item_type(self) -> type[Any]:
        return int if self.item_bytes is None else bytes

    def item(self, number: int) -> int | bytes:
        return number if self.item_bytes is None else number.to_bytes(8, "big").ljust(self.item_bytes, b".")

    def number(self, item: int | bytes) -> int:
        return item if isinstance(item, int) else int.from_bytes(item[:8], "big")


class Ledger:
    """Lines that outlive the process that wrote them."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(self, *words: object) -> None:
        os.write(self._file, (" ".join(str(word) for word in words) + "\n").encode())


async def write(order: Order, ledger: Ledger) -> None:
    out: RemoteSend[Any]
    async with open_send(order.address, order.item_type, bind=order.bind, **order.options) as out:
        ledger.note("open")
        number = 0
        while order.count is None or number < order.count:
            number += 1
            await out.send(order.item(number))
            ledger.note(number)


async def read(order: Order, ledger: Ledger) -> None:
    incoming: RemoteReceive[Any]
    async with open_receive(order.address, order.item_type, bind=order.bind, **order.options) as incoming:
        ledger.note("open")
        await incoming.wait_connected()
        ledger.note("met")
        taken = 0
        while order.count is None or taken < order.count:
            try:
                item = await incoming.receive()
            except EndOfStream:
                return
            taken += 1
            mark = incoming.mark
            ledger.note(mark.epoch, mark.sequence, int(mark.redelivered), order.number(item))
        await anyio.sleep_forever()


async def main(order: Order) -> int:
    ledger = Ledger(order.ledger)
    try:
        await (write if order.role == "writer" else read)(order, ledger)
    except GeartrainError as error:
        ledger.note(f"{type(error).__name__}: {error}")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(anyio.run(main, msgspec.convert(json.loads(sys.argv[2]), Order), backend=sys.argv[1]))
