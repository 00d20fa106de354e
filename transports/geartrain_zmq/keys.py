"""Making keys, and checking that two of them are a pair, which takes ZeroMQ."""

import zmq

from geartrain.errors import BadValue
from geartrain.rules.keys import Keys


def generate_keys() -> Keys:
    """A new pair of keys, by the system's own chance."""
    public, secret = zmq.curve_keypair()
    return Keys(public.decode(), secret.decode())


def check_pair(keys: Keys) -> None:
    """Refuse keys that do not belong together: in the wrong order, the secret one would be shown to the peer.

    Neither is told here, for the one that says it is public may be the secret one.
    """
    if zmq.curve_public(keys.secret.encode()) != keys.public.encode():
        raise BadValue("the secret key does not belong to the public key, or the two were interchanged")
