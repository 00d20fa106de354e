"""A daemon in the middle, in a process of its own: hands on what it gets, until its writer closes or it is killed."""

import sys

import anyio

from geartrain import open_receive, open_send
from geartrain.engine.hands import Hands


async def main(source: str, target: str, maxsize: int) -> None:
    async with (
        open_receive(source, int, maxsize=maxsize, heartbeat_s=0.2, lost_after_s=None) as numbers,
        open_send(target, int, maxsize=maxsize, heartbeat_s=0.2, lost_after_s=None, close_within=30) as out,
    ):
        Hands([numbers], [out])
        async for number in numbers:
            await out.send(number)


if __name__ == "__main__":
    anyio.run(main, sys.argv[2], sys.argv[3], int(sys.argv[4]), backend=sys.argv[1])
