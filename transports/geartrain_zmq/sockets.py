"""One table of socket options, and the function that applies it. A test reads it back.

    bind     ROUTER, told when a peer is gone (MANDATORY)
    connect  DEALER, which says hello by an empty message at every (re)connection (PROBE_ROUTER)
    keys     the bound side is the CURVE server, and asks the doorkeeper who may come in

Credit above the transport bounds what is queued, so the send queue has no bound of its own; what a peer may make us
hold before it is known is bounded by MAXMSGSIZE.
"""

import os
import threading

import zmq

from geartrain.ports.transport import LinkSettings
from geartrain.rules.keys import Curve

SLACK_BYTES = 64 * 1024

# What ZeroMQ may read ahead of us for one peer, while our loop is busy: a stranger says as much as it likes.
READ_AHEAD_BYTES = 16 * 1024 * 1024
_FRAMES_LEAST = 8

COMMON: dict[int, int] = {
    zmq.LINGER: 0,
    zmq.SNDHWM: 0,
    zmq.HANDSHAKE_IVL: 2000,
}
BOUND: dict[int, int] = {zmq.ROUTER_MANDATORY: 1}
CONNECTED: dict[int, int] = {zmq.IMMEDIATE: 1, zmq.PROBE_ROUTER: 1, zmq.RECONNECT_IVL: 1}

# A dead neighbour is looked for again and again: on this host often, over a network less so.
RECONNECT_MOST_MS = {"ipc": 20, "tcp": 1000}

_lock = threading.Lock()
_contexts: dict[int, "zmq.Context[zmq.Socket[bytes]]"] = {}


def context() -> "zmq.Context[zmq.Socket[bytes]]":
    """The context of this process. One that was inherited by a fork is never touched."""
    with _lock:
        if os.getpid() not in _contexts:
            fresh: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
            fresh.set(zmq.MAX_SOCKETS, min(65_535, fresh.get(zmq.SOCKET_LIMIT)))
            fresh.set(zmq.BLOCKY, 0)
            _contexts[os.getpid()] = fresh
        return _contexts[os.getpid()]


def number(socket: "zmq.Socket[bytes]", option: int) -> int:
    """The value of an option that is a number."""
    value = socket.get(option)
    assert isinstance(value, int)
    return value


def new_socket(scheme: str, *, bind: bool, settings: LinkSettings, domain: bytes | None = None) -> "zmq.Socket[bytes]":
    """A socket with all its options, not yet bound or connected. `domain` is what the doorkeeper knows it by."""
    socket = context().socket(zmq.ROUTER if bind else zmq.DEALER)
    for option, value in (COMMON | (BOUND if bind else CONNECTED)).items():
        socket.set(option, value)
    if not bind:
        socket.set(zmq.RECONNECT_IVL_MAX, RECONNECT_MOST_MS[scheme])
    frame_most = settings.max_frame_bytes + SLACK_BYTES
    socket.set(zmq.MAXMSGSIZE, frame_most)
    socket.set(zmq.RCVHWM, max(_FRAMES_LEAST, READ_AHEAD_BYTES // frame_most))
    if scheme == "ipc" and bind:
        socket.set(zmq.IPC_FILTER_UID, os.getuid())
    if settings.curve is not None and bind:
        assert domain is not None
        _guard(socket, settings.curve, domain)
    elif settings.curve is not None:
        _show_keys(socket, settings.curve)
    return socket


def _guard(socket: "zmq.Socket[bytes]", curve: Curve, domain: bytes) -> None:
    """Without a domain that is enforced, any key whatever would do as long as nobody is asked (ADR 11)."""
    socket.set(zmq.CURVE_SERVER, 1)
    socket.set(zmq.CURVE_SECRETKEY, curve.keys.secret.encode())
    socket.set(zmq.ZAP_DOMAIN, domain)
    socket.set(zmq.ZAP_ENFORCE_DOMAIN, 1)


def _show_keys(socket: "zmq.Socket[bytes]", curve: Curve) -> None:
    socket.set(zmq.CURVE_PUBLICKEY, curve.keys.public.encode())
    socket.set(zmq.CURVE_SECRETKEY, curve.keys.secret.encode())
    socket.set(zmq.CURVE_SERVERKEY, curve.peer.encode())
