"""Typed channels over ZeroMQ, at `ipc://` and `tcp://` addresses, on asyncio and trio.

    async with open_send("ipc:///run/me/frames", Frame) as frames:          one script
        await frames.send(frame)

    async with open_receive("ipc:///run/me/frames", Frame) as frames:       another
        async for frame in frames: ...

Over tcp both ends have keys, made once with `generate_keys()`, and each names the other's public one:

    async with open_send("tcp://10.0.0.7:5000", Frame, curve=Curve(keys, peer)) as frames: ...

The ends are geartrain's own; what is here moves their frames.
"""

from geartrain import Curve as Curve
from geartrain import Keys as Keys
from geartrain import open_pair as open_pair
from geartrain import open_receive as open_receive
from geartrain import open_send as open_send

TYPE_CHECKING = False  # as typing's

if TYPE_CHECKING:
    from geartrain_zmq.keys import generate_keys as generate_keys


def __getattr__(name: str) -> object:
    """`generate_keys` brings ZeroMQ with it, and so waits until somebody asks."""
    if name != "generate_keys":
        raise AttributeError(f"module 'geartrain_zmq' has no attribute {name!r}")
    from geartrain_zmq.keys import generate_keys

    return generate_keys
