"""The other of two scripts: see `measure.py`."""

import sys

import anyio
from measure import Reading, address

from geartrain import open_receive


async def main() -> None:
    async with open_receive(address(), Reading, maxsize=16) as readings:
        async for reading in readings:
            again = " (again: I was killed with it in hand, or nearly)" if readings.mark.redelivered else ""
            print(f"{reading.number}: {reading.celsius} C{again}", flush=True)
    print("the measuring is over")


if __name__ == "__main__":
    anyio.run(main, backend="trio" if "--trio" in sys.argv else "asyncio")
