"""A reader in a process of its own that dies of one item, as by a fault in a library."""

import os
import sys

import anyio

from geartrain import open_receive


async def main(address: str, ledger: str, poison: int) -> None:
    file = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    async with open_receive(address, int, name="ledger") as numbers:
        async for number in numbers:
            os.write(file, f"{number} {int(numbers.mark.redelivered)}\n".encode())
            if number == poison:
                os._exit(9)


if __name__ == "__main__":
    anyio.run(main, sys.argv[2], sys.argv[3], int(sys.argv[4]), backend=sys.argv[1])
