"""One of two scripts that talk over a channel: it measures, `show.py` shows. Start them by hand, in any order.

    python examples/show.py          in one terminal
    python examples/measure.py       in another

Kill show.py with kill -9 and start it again: it goes on with what it had not finished, and says what it sees again.
A number ends the measuring after so many readings; `--trio` runs a script on trio, and the two need not agree.
"""

import sys
from itertools import count

import anyio
from msgspec import Struct

from geartrain import ChannelClosed, open_send, private_dir


class Reading(Struct):
    number: int
    celsius: float


def address() -> str:
    return f"ipc://{private_dir('readings')}/kitchen"


async def main(total: int | None) -> None:
    async with open_send(address(), Reading, maxsize=16) as readings:
        for number in count(1):
            try:
                await readings.send(Reading(number, 20 + number % 7 / 2))
            except ChannelClosed:
                print("nobody wants to know any more")
                return
            if number == total:
                break
            await anyio.sleep(0.2)


if __name__ == "__main__":
    total = next((int(argument) for argument in sys.argv[1:] if argument.isdigit()), None)
    anyio.run(main, total, backend="trio" if "--trio" in sys.argv else "asyncio")
