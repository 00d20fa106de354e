"""Channels of items of many types over ipc and tcp, in a process in which nobody may unpickle or unmarshal anything.

The interpreter itself tells the hook: it cannot be gone round by an import that came before.
"""

import datetime
import decimal
import marshal
import pickle
import secrets
import socket
import sys
import uuid
from enum import Enum
from typing import Any

import anyio
import msgspec

from geartrain import Curve, open_receive, open_send
from geartrain_zmq import generate_keys

heard: list[str] = []
called: list[str] = []


def hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("pickle.find_class", "marshal.loads"):
        heard.append(event)


def tell_calls(module: Any, name: str) -> None:
    original = getattr(module, name)

    def told(*arguments: Any, **named: Any) -> Any:
        called.append(name)
        return original(*arguments, **named)

    setattr(module, name, told)


class Colour(Enum):
    RED = "red"


class Point(msgspec.Struct, tag="point"):
    x: float
    seen: datetime.datetime
    colour: Colour


Many = Point | int | float | str | None | bool | list[int]

ITEMS: list[tuple[Any, list[Any]]] = [
    (Many, [1, 2.5, "s", None, True, [1, 2], Point(1.0, datetime.datetime(2026, 1, 1), Colour.RED)]),
    (dict[str, float], [{"a": 1.0}]),
    (decimal.Decimal, [decimal.Decimal("1.5")]),
    (uuid.UUID, [uuid.UUID(int=7)]),
    (tuple[int, str], [(1, "one")]),
    (frozenset[int], [frozenset((1, 2))]),
    (bytes, [bytes(100_000), pickle.dumps(Colour.RED), marshal.dumps([1])]),
    (Any, [{"any": [1, b"2", None]}]),
]


async def carry(address: str, item_type: Any, items: list[Any], mine: Curve | None, its: Curve | None) -> None:
    async with (
        open_receive(address, item_type, curve=its) as received,
        open_send(address, item_type, curve=mine) as sent,
    ):
        await sent.wait_connected()
        for item in items:
            await sent.send(item)
            assert await received.receive() == item
        await received.aclose()


def free_tcp() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


async def main(folder: str) -> None:
    writer, reader = generate_keys(), generate_keys()
    mine, its = Curve(writer, reader.public), Curve(reader, writer.public)
    for item_type, items in ITEMS:
        await carry(f"ipc://{folder}/{secrets.token_hex(4)}", item_type, items, None, None)
        await carry(free_tcp(), item_type, items, mine, its)


if __name__ == "__main__":
    backend, folder = sys.argv[1:]
    sys.addaudithook(hook)
    for name in ("loads", "load", "dumps", "dump", "Unpickler", "Pickler"):
        tell_calls(pickle, name)
    # Importing reads compiled files, which is unmarshalling: the first round imports, the second one counts.
    anyio.run(main, folder, backend=backend)
    heard.clear()
    assert not called, called
    anyio.run(main, folder, backend=backend)
    assert (heard, called) == ([], [])
    assert pickle.loads(pickle.dumps(Colour.RED)) is Colour.RED  # noqa: S301 - to see that it would have been heard
    marshal.loads(marshal.dumps([1]))
    assert heard == ["pickle.find_class", "marshal.loads"]
    assert called == ["dumps", "loads"]
