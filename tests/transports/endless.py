"""A peer sends a message whose parts never end. Prints by how many bytes this process grew, or "cut".

python -m tests.transports.endless trio FOLDER
"""

import socket
import sys
from pathlib import Path

import anyio

from geartrain import open_pair
from tests.transports.test_hostile import AGREED, MAX_BYTES, PATIENCE_S, Arena, assert_moves
from tests.transports.test_overload import resident_bytes

_READY = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
_SHAKEN = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32) + b"\x04\x1c" + _READY
_LONG_AND_MORE = 3


async def grown(folder: Path) -> int | None:
    """None where the connection was cut before it was full."""
    address = Arena(folder, "tcp").new_address()
    place = ("127.0.0.1", int(address.rpartition(":")[2]))
    part = bytes([_LONG_AND_MORE]) + MAX_BYTES.to_bytes(8, "big") + bytes(MAX_BYTES)
    async with open_pair(address, int, **AGREED) as channel:
        with socket.create_connection(place, timeout=PATIENCE_S) as raw:
            raw.sendall(_SHAKEN)
            before = resident_bytes()
            try:
                for _ in range(600):
                    raw.sendall(part)
            except (ConnectionError, TimeoutError):
                return None
            await assert_moves(channel.send, channel.recv)
            return resident_bytes() - before


if __name__ == "__main__":
    found = anyio.run(grown, Path(sys.argv[2]), backend=sys.argv[1])
    sys.stdout.write("cut\n" if found is None else f"{found}\n")
