"""Who may come in: ZeroMQ asks before it hears a word of a client, and the doorkeeper answers.

    client ---- handshake ----> bound socket (domain "door-7")
                                    | may this key come in at door-7?          ZAP, inside the process
                                doorkeeper: judge(doors, request) -> Verdict

There is one doorkeeper for each context, a thread of its own, for the event loop may be busy. Each bound socket with
keys is a door with a domain of its own, and insists on an answer (ZAP_ENFORCE_DOMAIN): while there is no doorkeeper,
nobody gets in.
"""

import logging
import os
import threading
import time
from collections.abc import Mapping

import zmq
from msgspec import Struct

from geartrain_zmq.sockets import context

ENDPOINT = "inproc://zeromq.zap.01"

_log = logging.getLogger("geartrain.zmq")

# After a failure the doorkeeper begins anew, but does not eat up a processor if it fails again and again; and until
# the old socket is closed, which happens behind our back, the address is taken.
_PAUSE_S = 0.05

# How many different complaints are told apart at one door: a stranger with many addresses must not cost memory.
_COMPLAINTS_MOST = 1000


class Complaints:
    """What was said already at one door. Once for each cause is enough, until somebody came in after all."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def is_new(self, cause: str) -> bool:
        if cause in self._said or len(self._said) >= _COMPLAINTS_MOST:
            return False
        self._said.add(cause)
        return True

    def forget(self) -> None:
        self._said.clear()


class Door(Struct, frozen=True):
    """A bound socket with keys: where it is, the one key that opens it, and the complaints about other keys."""

    address: str
    key: bytes
    complaints: Complaints


class Verdict(Struct, frozen=True):
    """What ZeroMQ is told. At 200 the client comes in, at 300 it may try again, at 400 and 500 it gives up."""

    status: bytes
    reason: str


WELCOME = Verdict(b"200", "OK")
NO_SUCH_DOOR = Verdict(b"300", "nothing is bound there any more")
WRONG_KEY = Verdict(b"400", "its key is not the one that is let in here")
NO_KEY = Verdict(b"400", "it has no key")
MALFORMED = Verdict(b"500", "the request cannot be understood")


def judge(doors: Mapping[bytes, Door], request: list[bytes]) -> Verdict:
    """May this client come in? The frames: version, request, domain, address, identity, mechanism, credentials."""
    match request:
        case [b"1.0", _, domain, _, _, _, *_] if domain not in doors:
            return NO_SUCH_DOOR
        case [b"1.0", _, domain, _, _, b"CURVE", key]:
            return WELCOME if key == doors[domain].key else WRONG_KEY
        case [b"1.0", _, _, _, _, mechanism, *_] if mechanism != b"CURVE":
            return NO_KEY
        case _:
            return MALFORMED


def answer(request: list[bytes], verdict: Verdict) -> list[bytes]:
    """The verdict as ZeroMQ wants it. No user name and no metadata: whoever comes in is the peer."""
    number = request[1] if len(request) > 1 else b""
    return [b"1.0", number, verdict.status, verdict.reason.encode(), b"", b""]


class Doorkeeper:
    """Answers for all doors of one context, and is always there while one of them is."""

    def __init__(self) -> None:
        self.failures = 0
        self._doors: dict[bytes, Door] = {}
        self._opened = 0
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def open_door(self, address: str, key: bytes) -> bytes:
        """From now on this key opens the door at this address. The answer is the door's domain."""
        with self._lock:
            self._make_sure()
            self._opened += 1
            domain = b"door-%d" % self._opened
            self._doors[domain] = Door(address, key, Complaints())
        return domain

    def close_door(self, domain: bytes) -> None:
        """Nobody opens it any more. Who asks this very moment may try again, at whatever is bound there next."""
        self._doors.pop(domain, None)

    def complaints(self, domain: bytes) -> Complaints:
        return self._doors[domain].complaints

    def _make_sure(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            # Bound before the thread begins, so that the first client already finds somebody to ask.
            self._thread = threading.Thread(
                target=self._keep, args=(_listen(),), name="geartrain-zmq-doorkeeper", daemon=True
            )
            self._thread.start()

    def _keep(self, socket: "zmq.Socket[bytes] | None") -> None:
        """Serve for as long as the context lives; a failure is told and counted, and then it goes on."""
        while True:
            try:
                self._serve(socket or _listen())
            except zmq.ContextTerminated:
                return
            except Exception:
                self.failures += 1
                _log.exception("the doorkeeper failed and begins anew; meanwhile nobody new gets in")
            socket = None
            time.sleep(_PAUSE_S)

    def _serve(self, socket: "zmq.Socket[bytes]") -> None:
        with socket:
            while True:
                request = socket.recv_multipart()
                verdict = judge(self._doors, request)
                socket.send_multipart(answer(request, verdict))
                self._tell(request, verdict)

    def _tell(self, request: list[bytes], verdict: Verdict) -> None:
        door = self._doors.get(request[2]) if len(request) > 3 else None
        if door is None:
            return
        client = request[3].decode(errors="replace") or "this host"
        if verdict is not WELCOME and door.complaints.is_new(client):
            _log.warning("somebody at %s knocked at %s and was refused: %s", client, door.address, verdict.reason)


def _listen() -> "zmq.Socket[bytes]":
    socket = context().socket(zmq.REP)
    try:
        socket.set(zmq.LINGER, 0)
        socket.bind(ENDPOINT)
    except zmq.ZMQError:
        socket.close(0)
        raise
    return socket


_lock = threading.Lock()
_keepers: dict[int, Doorkeeper] = {}


def doorkeeper() -> Doorkeeper:
    """The doorkeeper of this process. A fork has a context of its own, and so a doorkeeper of its own."""
    with _lock:
        return _keepers.setdefault(os.getpid(), Doorkeeper())
