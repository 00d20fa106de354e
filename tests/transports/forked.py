"""A channel with keys before a fork, and in the child one of its own: nothing of the parent's is touched there."""

import os
import sys
import threading
import warnings

import anyio

from geartrain import Curve, open_receive, open_send
from geartrain_zmq import generate_keys
from geartrain_zmq.zap import doorkeeper


async def main(address: str) -> None:
    writer, reader = generate_keys(), generate_keys()
    async with (
        open_receive(address, int, curve=Curve(reader, writer.public)) as received,
        open_send(address, int, curve=Curve(writer, reader.public)) as sent,
    ):
        await sent.wait_connected()
        await sent.send(1)
        assert await received.receive() == 1
        await received.aclose()


def keepers_at_work() -> int:
    return sum(thread.name == "geartrain-zmq-doorkeeper" for thread in threading.enumerate())


if __name__ == "__main__":
    backend, folder = sys.argv[1:]
    anyio.run(main, f"ipc://{folder}/parent", backend=backend)
    before = doorkeeper()
    warnings.simplefilter("ignore", DeprecationWarning)  # that there are threads is the point
    child = os.fork()
    if child == 0:
        assert keepers_at_work() == 0
        anyio.run(main, f"ipc://{folder}/child", backend=backend)
        assert doorkeeper() is not before
        assert keepers_at_work() == 1
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    anyio.run(main, f"ipc://{folder}/parent", backend=backend)
    assert doorkeeper() is before
    assert keepers_at_work() == 1
