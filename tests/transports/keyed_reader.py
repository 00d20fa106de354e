"""A reader with keys in a process of its own: reads numbers, and prints their sum when the writer has closed."""

import sys

import anyio
import msgspec

from geartrain import Curve, open_receive


async def main(address: str, curve: Curve) -> None:
    async with open_receive(address, int, curve=curve) as numbers:
        print(sum([number async for number in numbers]))  # noqa: T201 - this is its answer


if __name__ == "__main__":
    # Not on the command line, which everybody on this host may read.
    curve = msgspec.json.decode(sys.stdin.readline(), type=Curve)
    anyio.run(main, sys.argv[2], curve, backend=sys.argv[1])
