"""A channel over tcp has a port of its own for the whole run, and keys that fit each other and nobody else."""

import socket

import pytest

from geartrain.errors import BadValue
from geartrain.ports import tcp_places
from geartrain.ports.tcp_places import TcpPlaces


def test_both_ends_and_every_life_of_them_are_told_the_same() -> None:
    places = TcpPlaces()
    first = places.place("frames")
    assert places.place("frames") is first
    assert places.place("others").address != first.address
    assert first.writer.peer == first.reader.keys.public
    assert first.reader.peer == first.writer.keys.public
    places.close()


def test_the_port_can_be_listened_at_by_whoever_knows_it() -> None:
    places = TcpPlaces()
    port = int(places.place("frames").address.rpartition(":")[2])
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen()
    places.close()


def test_a_transport_without_keys_is_not_used_over_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_places, "find", lambda _address: object())
    places = TcpPlaces()
    with pytest.raises(BadValue, match="knows no keys"):
        places.place("frames")
    places.close()
