"""The holder's end of a lease: what is said no to at once. What is granted and lost is with the arbiter."""

from collections.abc import Callable
from typing import Any

import pytest

from geartrain import Leases, open_leases
from geartrain.errors import BadType, BadValue


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda leases: leases.hold(), "at least one region"),
        (lambda leases: leases.hold("a", "b\u2028"), "U\\+2028"),
        (lambda leases: leases.hold("../a"), "beyond the root"),
        (lambda leases: leases.hold("a", mode="u"), "one of 'x', 's', got 'u'"),
        (lambda leases: leases.hold("a", ttl=0), "ttl must be from 0.01"),
        (lambda leases: leases.hold("a", ttl=float("nan")), "ttl must be from 0.01"),
        (lambda leases: leases.hold("a", wait=-1), "wait must be from 0"),
        (lambda leases: leases.hold("a", delay=1e9), "delay must be from 0"),
    ],
)
def test_what_makes_no_sense_is_refused_where_it_is_written(ask: Callable[[Leases], Any], said: str) -> None:
    with pytest.raises(BadValue, match=said):
        ask(open_leases().leases)


@pytest.mark.parametrize("bad", [5, None, b"a"])
def test_a_region_is_text(bad: Any) -> None:
    with pytest.raises(BadType, match="a region must be text"):
        open_leases().leases.hold(bad)


def test_its_name_is_said() -> None:
    assert repr(open_leases(name="arm").leases) == "<Leases over channel 'arm', 0 held>"
    assert str(open_leases().leases) == "the channels of an arbiter"
