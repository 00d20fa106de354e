"""Events come to each client in order, once, or it is told how many are missing."""

import anyio
import msgspec

from geartrain.faces.web_events import PLACES, Client, Hub, Looks, Places, Ring, Sent, happened, summary
from tests.faces.web_parts import VIEW, WELL, app, fault, ill


def ids(events: list[Sent]) -> list[int | None]:
    return [sent.id for sent in events]


def ring_of(first: int, last: int, size: int = 10) -> Ring:
    ring = Ring(first, size)
    for _ in range(first, last + 1):
        ring.add("fault_raised", b"{}")
    return ring


def test_who_saw_the_seventh_of_three_to_twelve_gets_the_eighth_and_on() -> None:
    assert ids(list(ring_of(3, 12).since(7))) == [8, 9, 10, 11, 12]
    assert list(ring_of(3, 12).since(12)) == []


def test_who_saw_what_is_not_kept_any_more_is_told_how_much_is_missing() -> None:
    ring = ring_of(1, 30)
    missed = list(ring.since(7))
    assert (missed[0].event, msgspec.json.decode(missed[0].data)) == ("gap", {"dropped": 13})
    assert ids(missed[1:]) == list(range(21, 31))


def test_who_is_new_is_repeated_nothing() -> None:
    assert list(ring_of(3, 12).since(None)) == []


def test_who_knows_ids_of_a_former_observer_is_told_to_look_anew() -> None:
    for unknown in (7, 5000):
        missed = list(ring_of(1000, 1002).since(unknown))
        assert [sent.event for sent in missed] == ["reset", "fault_raised", "fault_raised", "fault_raised"]
        assert ids(missed) == [None, 1000, 1001, 1002]
    assert ids(list(ring_of(1000, 1002).since(999))) == [1000, 1001, 1002]


def test_a_frame_is_what_a_browser_reads() -> None:
    assert Sent(7, "fault_raised", b"{}").frame() == b"id: 7\nevent: fault_raised\ndata: {}\n\n"
    assert Sent(None, "gap", b"{}").frame() == b"event: gap\ndata: {}\n\n"


async def test_a_client_300_events_behind_is_told_how_many_it_lost_and_no_other_loses_any() -> None:
    hub = Hub(1)
    slow, quick = hub.join(None), hub.join(None)
    got: list[Sent] = []
    for _ in range(300):
        hub.publish("fault_raised", b"{}")
        got += quick.take()
    assert ids(got) == list(range(1, 301))
    late = slow.take()
    assert (late[0].event, late[0].data) == ("gap", b'{"dropped":44}')
    assert ids(late[1:]) == list(range(45, 301))
    assert hub.dropped == 44
    assert slow.take() == []


async def test_a_client_that_left_is_sent_nothing() -> None:
    hub = Hub(1)
    client = hub.join(None)
    hub.leave(client)
    hub.publish("fault_raised", b"{}")
    assert client.take() == []


async def test_a_client_waits_until_there_is_something() -> None:
    client = Client()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.wait, 60)
        await anyio.lowlevel.checkpoint()
        client.put(Sent(1, "fault_raised", b"{}"))
    assert ids(client.take()) == [1]


def test_there_are_so_many_places_and_no_more() -> None:
    places = Places()
    assert [places.take() for _ in range(PLACES + 1)] == [True] * PLACES + [False]
    places.free()
    assert places.take()


async def test_all_who_wait_for_a_look_get_the_newest_and_it_is_encoded_once() -> None:
    looks, got = Looks(), []

    async def wait() -> None:
        if (live := await looks.wait_newer(-1, 60)) is not None:
            got.append(looks.encoded(live))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(wait)
        await anyio.lowlevel.checkpoint()
        looks.show(WELL, VIEW)
    assert len(got) == 3
    assert got[0] is got[1] is got[2]
    assert await looks.wait_newer(WELL.look, 0) is None


def test_a_fault_is_told_when_it_comes_and_when_it_goes_and_not_while_it_stays() -> None:
    raised, again = ill(fault("camera")), ill(fault("camera", occurrence_count=5), look=3)
    healed = ill(fault("camera", status="HEALED"), look=4)

    def events(*looks: object) -> list[str]:
        return [news.event for news in happened(*looks)]  # type: ignore[arg-type]

    assert events(WELL, raised) == ["fault_raised"]
    assert events(raised, again) == []
    assert events(again, healed) == ["fault_cleared"]
    assert events(healed, raised) == ["fault_raised"]
    # An observer that begins tells what is present, and nothing of what is over.
    assert events(None, raised) == ["fault_raised"]
    assert events(None, healed) == []


def test_a_change_of_health_is_told_with_its_entity() -> None:
    worse = ill(daemons=(app("camera", "eyes", health="critical"), WELL.daemons[1]))
    (news,) = happened(WELL, worse)
    assert msgspec.json.decode(news.data) == {
        "event_type": "health_changed",
        "timestamp": WELL.now,
        "health": "critical",
        "x-medkit": {"entity_id": "camera", "entity_type": "app"},
    }


def test_a_fault_in_a_list_says_of_whom_it_is() -> None:
    assert summary(fault("camera"))["x-medkit"] == {"entity_id": "camera", "entity_type": "app"}
