"""A reader in a process of its own: writes each item with its mark into a file, so that it may be killed any time."""

import os
import sys

import anyio

from geartrain import open_receive


async def main(address: str, ledger: str, maxsize: int) -> None:
    file = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    async with open_receive(address, int, maxsize=maxsize, name="ledger", heartbeat_s=0.2) as numbers:
        async for number in numbers:
            mark = numbers.mark
            os.write(file, f"{mark.epoch} {mark.sequence} {int(mark.redelivered)} {number}\n".encode())


if __name__ == "__main__":
    anyio.run(main, sys.argv[2], sys.argv[3], int(sys.argv[4]), backend=sys.argv[1])
