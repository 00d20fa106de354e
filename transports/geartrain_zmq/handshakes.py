"""How the handshakes of a socket went: ZeroMQ tells it to a monitor, and here is what follows from it.

What a connecting end hears when the keys do not fit, in ZeroMQ 4.3:

    its key is not accepted             FAILED_AUTH, and ZeroMQ gives up
    one end has keys, the other none    FAILED_PROTOCOL at whoever notices first, and ZeroMQ gives up there;
                                        at the other end FAILED_NO_DETAIL, and ZeroMQ tries again
    it takes the server for another     FAILED_NO_DETAIL, again and again
    the server dies in the middle       FAILED_NO_DETAIL, once
    there is no ZeroMQ at all           CONNECTED, and then nothing but DISCONNECTED

So what ZeroMQ gives up is final at once, and a hang-up only if it happens again and again to an end that has never met
its peer: one that has knows the right keys.
"""

import itertools
import logging
import struct
import time
from contextlib import suppress
from typing import Protocol

import zmq
from zmq import Event

from geartrain.errors import PeerRefused
from geartrain.ports.parking import watch_fd
from geartrain.rules.keys import Curve
from geartrain_zmq.sockets import context, number
from geartrain_zmq.zap import Complaints

_log = logging.getLogger("geartrain.zmq")

_HANDSHAKES = (
    Event.HANDSHAKE_SUCCEEDED
    | Event.HANDSHAKE_FAILED_AUTH
    | Event.HANDSHAKE_FAILED_PROTOCOL
    | Event.HANDSHAKE_FAILED_NO_DETAIL
)

# A peer that hangs up so often and for so long, and was never met, does not know us, or is not who we think.
HANG_UPS_MOST = 5
HANG_UPS_S = 1.0


class Judge(Protocol):
    """Draws conclusions from how handshakes went.

    `events` is what it wants to hear of, and `queue_most` how many of them may wait (0: all of them, none is lost).
    """

    events: int
    queue_most: int

    def hear(self, event: int, value: int, now_s: float) -> PeerRefused | None:
        """Something has happened; the answer is why this link will never work, if it will not."""


class Attempts:
    """The attempts of a connecting end. It makes them itself, so however many there are, each is heard of."""

    events: int = _HANDSHAKES | Event.CONNECTED | Event.DISCONNECTED
    queue_most: int = 0

    def __init__(self, address: str, curve: Curve | None) -> None:
        self._address = address
        self._curve = curve
        self._last = 0
        self._met = False
        self._hang_ups = 0
        self._first_s = 0.0

    def hear(self, event: int, value: int, now_s: float) -> PeerRefused | None:
        before, self._last = self._last, event
        match event, value:
            case Event.HANDSHAKE_SUCCEEDED, _:
                self._met = True
            case Event.HANDSHAKE_FAILED_AUTH, _:
                return self._refused(f"it does not let in {self._me}")
            case Event.HANDSHAKE_FAILED_PROTOCOL, Event.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH:
                return self._refused(self._mismatch)
            case Event.HANDSHAKE_FAILED_PROTOCOL, _:
                return self._refused(f"what is there broke ZeroMQ's protocol ({value:#x})")
            case Event.DISCONNECTED, _ if before == Event.CONNECTED:
                return self._refused("what is there does not speak ZeroMQ's protocol")
            case Event.HANDSHAKE_FAILED_NO_DETAIL, _ if not self._met:
                return self._hung_up(now_s)
        return None

    def _hung_up(self, now_s: float) -> PeerRefused | None:
        self._hang_ups += 1
        if self._hang_ups == 1:
            self._first_s = now_s
        if self._hang_ups < HANG_UPS_MOST or now_s - self._first_s < HANG_UPS_S:
            return None
        return self._refused(f"it hung up in the handshake {self._hang_ups} times; {self._probably}")

    def _refused(self, why: str) -> PeerRefused:
        return PeerRefused(f"{self._address} cannot be reached by this end: {why}")

    @property
    def _me(self) -> str:
        return f"the key {self._curve.keys.public}" if self._curve else "an end without keys"

    @property
    def _mismatch(self) -> str:
        return "it has no keys, and this end has" if self._curve else "it has keys, and this end has none"

    @property
    def _probably(self) -> str:
        if self._curve is None:
            return "perhaps it has keys, and this end has none"
        return f"probably its public key is not {self._curve.peer}, or it has no keys"


class Visitors:
    """Who came to a bound end with keys. Nobody outside can do it harm, so all that follows is a line in the log.

    A wrong key is not told here: the doorkeeper knows from where it came. A flood of strangers is not worth memory.
    """

    events: int = _HANDSHAKES
    queue_most: int = 100

    def __init__(self, address: str, complaints: Complaints) -> None:
        self._address = address
        self._complaints = complaints

    def hear(self, event: int, value: int, now_s: float) -> None:
        match event, value:
            case Event.HANDSHAKE_SUCCEEDED, _:
                self._complaints.forget()
            case Event.HANDSHAKE_FAILED_PROTOCOL, Event.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC:
                self._complain("it expected another public key here, or its messages were tampered with")
            case Event.HANDSHAKE_FAILED_PROTOCOL, Event.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH:
                self._complain("it has no keys")
            case Event.HANDSHAKE_FAILED_PROTOCOL, _:
                self._complain(f"it broke ZeroMQ's protocol ({value:#x})")
            case Event.HANDSHAKE_FAILED_NO_DETAIL, _:
                self._complain("it hung up in the handshake, perhaps because it has no keys")

    def _complain(self, why: str) -> None:
        if self._complaints.is_new(why):
            _log.warning("somebody knocked at %s and did not get in: %s", self._address, why)


_numbers = itertools.count()


class Watch:
    """The monitor of one socket, used from the same thread as the socket."""

    def __init__(self, watched: "zmq.Socket[bytes]", address: str, judge: Judge) -> None:
        self._watched = watched
        self._address = address
        self._judge = judge
        self._refusal: PeerRefused | None = None
        endpoint = f"inproc://geartrain.handshakes.{next(_numbers)}"
        self._monitor = context().socket(zmq.PAIR)
        try:
            self._monitor.set(zmq.LINGER, 0)
            self._monitor.set(zmq.RCVHWM, judge.queue_most)
            watched.monitor(endpoint, judge.events)
            self._monitor.connect(endpoint)
        except zmq.ZMQError:
            self._close_both()
            raise
        self._fd = watch_fd(number(self._monitor, zmq.FD), self._look)

    async def refused(self) -> PeerRefused:
        """Wait until it is known that this link will never work. The answer is why."""
        while not self._look():
            await self._fd.wait()
        assert self._refusal is not None
        return self._refusal

    def _look(self) -> bool:
        """Hear what has happened since the last look, and say whether that was final."""
        while self._refusal is None and number(self._monitor, zmq.EVENTS) & zmq.POLLIN:
            told, _ = self._monitor.recv_multipart(zmq.DONTWAIT)
            event, value = struct.unpack("=HI", told)
            self._refusal = self._judge.hear(event, value, time.monotonic())
            if self._refusal is not None:
                self._stop_trying()
        return self._refusal is not None

    def _stop_trying(self) -> None:
        """ZeroMQ would go on knocking for as long as the end is open, and telling us."""
        self._watched.disable_monitor()
        with suppress(zmq.ZMQError):  # or it has given up by itself
            self._watched.disconnect(self._address)

    def close(self) -> None:
        self._fd.close()
        self._close_both()

    def _close_both(self) -> None:
        self._watched.disable_monitor()
        self._monitor.close(0)
