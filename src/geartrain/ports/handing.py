"""A process that was started before anybody knew what it would be: it is handed its bootstrap, and its output.

    who started it      hand(control, bootstrap, out, err, slots)
    the process         bootstrap, slots = take(control)   waits; descriptors 1 and 2 are the new ones from then on

As with a bootstrap at the start, nothing of it is ever in the arguments or the environment.
"""

import os
import socket

from geartrain.ports.linux import need_linux


def hand(control: socket.socket, bootstrap: bytes, out: int, err: int, slots: int) -> None:
    """Never waits: of any bootstrap, however large, only a descriptor goes through the socket."""
    need_linux()
    with open(os.memfd_create("bootstrap"), "w+b") as file:
        file.write(bootstrap)
        file.flush()
        socket.send_fds(control, [b"."], [file.fileno(), out, err, slots])


def take(control: socket.socket) -> tuple[bytes, int] | None:
    """Wait for what this process is to be, and for its slot file. None: whoever started it wants it no more."""
    _, descriptors, _, _ = socket.recv_fds(control, 1, 4)
    if not descriptors:
        return None
    file, out, err, slots = descriptors
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.close(out)
    os.close(err)
    with open(file, "rb") as bootstrap:
        bootstrap.seek(0)
        return bootstrap.read(), slots
