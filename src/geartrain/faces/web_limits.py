"""How much the gateway takes of its clients, and what it counts of them."""

from dataclasses import dataclass

from msgspec import Struct


class Limits(Struct, frozen=True, kw_only=True):
    """The limits, which nobody has to know. Lengths of time are seconds."""

    connections: int = 512
    streams: int = 64
    request_bytes: int = 16 * 1024
    write_s: float = 5.0
    # How long a connection may be open without a request.
    idle_s: float = 5.0
    # How often a stream looks whether its client is still there, and says that it is still there itself.
    look_s: float = 0.5
    keep_alive_s: float = 15.0
    # How long answers may go on after the end.
    farewell_s: float = 0.5
    # How often live values come at most, and unless said otherwise.
    every_least_s: float = 0.05
    every_s: float = 1.0


@dataclass(slots=True)
class Tally:
    """What has been met, since the gateway began; `connections` are those of now."""

    connections: int = 0
    requests: int = 0
    # Told to come again, because all places were taken.
    refused: int = 0
    # Let go, because they did not read.
    slow: int = 0
    # Sent away: wrong host, origin or token, or a request that is too big.
    denied: int = 0
    # Ended by a fault of ours or anycorn's.
    broken: int = 0
