"""Typed channels over ZeroMQ, at `ipc://` and `tcp://` addresses, on asyncio and trio.

    async with open_send("ipc:///run/me/frames", Frame) as frames:          one script
        await frames.send(frame)

    async with open_receive("ipc:///run/me/frames", Frame) as frames:       another
        async for frame in frames: ...

The ends are geartrain's own; what is here moves their frames.
"""

from geartrain import open_pair as open_pair
from geartrain import open_receive as open_receive
from geartrain import open_send as open_send
