"""Who waits for leases: found by what they want and by who they are, in the order they came."""

from geartrain.rules.lease_index import place_of
from geartrain.rules.lease_queue import Queue, Waiter
from geartrain.rules.lease_words import Acquire, Claim, SetMode


def acquiring(queue: Queue, session: int, n: int, region: str, *, cls: str = "", alone: bool = False) -> Waiter:
    claims = (Claim(region),)
    ask = Acquire(session, n, claims, 1, cls=cls, alone=alone)
    waiter = Waiter(queue.next_seq, ask, (session, 0), (place_of(claims[0], "fold"),), 9)
    queue.add(waiter)
    return waiter


def test_who_came_earlier_and_is_in_the_way_is_found() -> None:
    queue = Queue()
    first, _, third = (acquiring(queue, 1, n, region) for n, region in enumerate(("a/b", "c", "a")))
    alone = acquiring(queue, 2, 1, "z", alone=True)
    last = acquiring(queue, 3, 1, "y")
    assert [other for other, _ in queue.earlier(third)] == [first]
    assert [other.seq for other, _ in queue.earlier(alone)] == [1, 2, 3]
    assert [other for other, _ in queue.earlier(last)] == [alone]


def test_who_has_left_is_found_nowhere() -> None:
    queue = Queue()
    one, other = acquiring(queue, 1, 1, "a", cls="lift"), acquiring(queue, 1, 2, "a", alone=True)
    raising = Waiter(queue.next_seq, SetMode(1, 3, 77, 78, "x"), (1, 0), one.places, 9)
    queue.add(raising)
    assert (queue.raising(77), queue.of((1, 0))) == (raising, [one, other, raising])
    assert queue.first_of_class("lift", 5) == [one.seq]
    for waiter in (one, other, raising):
        queue.remove(waiter)
    assert (len(queue), queue.alone, queue.of((1, 0)), queue.of_session(1), queue.raising(77)) == (0, {}, [], [], None)
    assert queue.first_of_class("lift", 5) == []
    assert queue.of_request(1, 1) is None
    assert queue.index.is_free(one.places)
