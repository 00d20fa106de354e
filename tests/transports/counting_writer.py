"""A writer in a process of its own that counts in a file, and sends until it is killed."""

import itertools
import sys

import anyio

from geartrain import open_send


async def main(address: str, counter: str) -> None:
    async with open_send(address, int, name="ledger", counter=counter, heartbeat_s=0.1) as numbers:
        for number in itertools.count(1):
            await numbers.send(number)


if __name__ == "__main__":
    anyio.run(main, sys.argv[2], sys.argv[3], backend=sys.argv[1])
