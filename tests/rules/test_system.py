"""When a pipeline gets a clock, and where it is asked."""

from msgspec.structs import replace

from geartrain.rules.pipeline import ChannelSpec, DaemonSpec, PipelineSpec, PortRef
from geartrain.rules.signature import ItemType, Port, Signature
from geartrain.rules.system import ARBITER, CLOCK, completed, faults
from geartrain.rules.wiring import check

ANY = ItemType(text="Any", shape="")
ASKS = Signature(ports=(Port(name="deadlines", sends=True, item=ANY, reply=ANY, clock="deadlines"),))
SERVES = Signature(ports=(Port(name="clients", sends=False, item=ANY, reply=ANY, clock="clients", many=True),))
HEARS = Signature(ports=(Port(name="planes", sends=True, item=ANY, reply=ANY, clock="planes"),))
PLAIN = Signature()


def pipeline(*names: str, **more: DaemonSpec) -> PipelineSpec:
    plain = [DaemonSpec(name=name, process=name, run=f"module:{name}") for name in names]
    return PipelineSpec(name="test", daemons=(*plain, *more.values()))


def entries(spec: PipelineSpec) -> list[str]:
    return [f"{channel.name}: {channel.writer} -> {channel.reader}" for channel in spec.channels]


def test_who_asks_for_no_clock_gets_none() -> None:
    spec = pipeline("cat")
    assert completed(spec, {"cat": PLAIN}) == spec


def test_whoever_asks_is_connected_to_one_clock_that_is_restarted() -> None:
    spec = completed(pipeline("dog", "cat"), {"dog": ASKS, "cat": ASKS})
    assert spec.daemons[-1] == DaemonSpec(name="clock", process="clock", run=CLOCK, on_error="restart")
    assert spec.daemons[-1].is_system
    assert entries(spec) == [
        "dog-deadlines: dog.deadlines -> clock.clients",
        "cat-deadlines: cat.deadlines -> clock.clients",
    ]
    assert check(spec, {"dog": ASKS, "cat": ASKS, "clock": SERVES}) == ()


def test_a_channel_that_may_go_stale_gets_a_clock_that_watches_it() -> None:
    mine = ChannelSpec(name="c", writer=PortRef("dog", "out"), reader=PortRef("cat", "inp"), stale_after=0.2)
    spec = completed(replace(pipeline("dog", "cat"), channels=(mine,)), {"dog": PLAIN, "cat": PLAIN})
    assert [daemon.name for daemon in spec.daemons] == ["dog", "cat", "clock"]
    assert spec.channels == (mine,)


def test_what_is_complete_stays_as_it_is() -> None:
    signatures = {"dog": ASKS, "clock": SERVES}
    spec = completed(pipeline("dog"), signatures)
    assert completed(spec, signatures) == spec


def test_a_clock_that_is_declared_is_the_one_that_is_asked() -> None:
    clock = DaemonSpec(name="time", process="dog", run="geartrain.actors:ReactorClock")
    spec = completed(pipeline("dog", time=clock), {"dog": ASKS, "time": SERVES})
    assert [daemon.name for daemon in spec.daemons] == ["dog", "time"]
    assert entries(spec) == ["dog-deadlines: dog.deadlines -> time.clients"]


def test_a_clock_that_cannot_be_loaded_is_no_reason_for_a_second_one() -> None:
    clock = DaemonSpec(name="time", process="dog", run="geartrain.actors:Clock")
    spec = pipeline("dog", time=clock)
    assert completed(spec, {"dog": ASKS}) == spec


def test_a_port_that_is_connected_keeps_its_channel() -> None:
    signatures = {"dog": ASKS, "clock": SERVES}
    mine = ChannelSpec(name="mine", writer=PortRef("dog", "deadlines"), reader=PortRef("clock", "clients"), maxsize=9)
    clock = DaemonSpec(name="clock", process="clock", run=CLOCK)
    spec = replace(pipeline("dog", clock=clock), channels=(mine,))
    assert completed(spec, signatures) == spec


def test_names_that_are_taken_are_not_taken_twice() -> None:
    mine = ChannelSpec(name="dog-deadlines", writer=PortRef("clock", "out"), reader=PortRef("dog", "inp"))
    spec = completed(replace(pipeline("dog", "clock"), channels=(mine,)), {"dog": ASKS, "clock": PLAIN})
    assert [daemon.name for daemon in spec.daemons] == ["dog", "clock", "clock-2"]
    assert entries(spec)[1] == "dog-deadlines-2: dog.deadlines -> clock-2.clients"


def clock(name: str) -> DaemonSpec:
    return DaemonSpec(name=name, process=name, run=CLOCK)


def test_of_several_clocks_one_must_be_left_where_somebody_asks_for_any() -> None:
    two = pipeline("dog", one=clock("one"), other=clock("other"))
    signatures = {"dog": ASKS, "one": SERVES, "other": SERVES}
    (fault,) = faults(two, signatures)
    assert (fault.key, "one, other" in fault.said) == ("daemons.other.run", True)
    chosen = ChannelSpec(name="c", writer=PortRef("dog", "deadlines"), reader=PortRef("other", "clients"))
    assert list(faults(replace(two, channels=(chosen,)), signatures)) == []


def test_who_hears_of_stale_channels_where_none_may_be_is_told_so() -> None:
    (fault,) = faults(pipeline("dog"), {"dog": HEARS})
    assert (fault.key, "give one a stale_after" in fault.said) == ("daemons.dog.planes", True)
    watched = ChannelSpec(name="c", writer=None, reader=None, stale_after=0.2)
    assert list(faults(replace(pipeline("dog"), channels=(watched,)), {"dog": HEARS})) == []
    (port,) = HEARS.ports
    assert list(faults(pipeline("dog"), {"dog": Signature(ports=(replace(port, optional=True),))})) == []


# -- leases -----------------------------------------------------------------------------------------------------------

LEASES = Signature(ports=(Port(name="leases", sends=True, item=ANY, reply=ANY, clock="leases"),))
ARBITRATES = Signature(
    ports=(Port(name="clients", sends=False, item=ANY, reply=ANY, clock="lease_clients", many=True),)
)


def test_who_holds_leases_is_connected_to_one_arbiter_that_is_started_again_when_it_dies() -> None:
    spec = completed(pipeline("left", "right"), {"left": LEASES, "right": LEASES})
    assert spec.daemons[-1] == DaemonSpec(name="arbiter", process="arbiter", run=ARBITER, on_error="restart")
    assert spec.daemons[-1].is_system
    assert entries(spec) == [
        "left-leases: left.leases -> arbiter.clients",
        "right-leases: right.leases -> arbiter.clients",
    ]
    assert check(spec, {"left": LEASES, "right": LEASES, "arbiter": ARBITRATES}) == ()
    assert completed(spec, {"left": LEASES, "right": LEASES, "arbiter": ARBITRATES}) == spec


def test_an_arbiter_that_is_declared_is_the_one_that_is_asked_and_a_clock_is_none() -> None:
    mine = DaemonSpec(name="mine", process="mine", run="mine:Arbiter", on_error="restart")
    signatures = {"left": LEASES, "dog": ASKS, "mine": ARBITRATES}
    spec = completed(pipeline("left", "dog", mine=mine), signatures)
    assert [daemon.name for daemon in spec.daemons] == ["left", "dog", "mine", "clock"]
    assert entries(spec) == [
        "dog-deadlines: dog.deadlines -> clock.clients",
        "left-leases: left.leases -> mine.clients",
    ]


def test_of_two_arbiters_somebody_must_say_whom_they_serve() -> None:
    two = {name: DaemonSpec(name=name, process=name, run=ARBITER) for name in ("one", "other")}
    [fault] = faults(pipeline("left", **two), {"left": LEASES, "one": ARBITRATES, "other": ARBITRATES})
    assert (fault.key, "one, other" in fault.said) == ("daemons.other.run", True)


def test_leases_and_a_clock_do_not_meet() -> None:
    entry = ChannelSpec(name="c", writer=PortRef("left", "leases"), reader=PortRef("time", "clients"))
    spec = replace(pipeline("left", "time"), channels=(entry,))
    [fault] = check(spec, {"left": LEASES, "time": SERVES})
    assert "left.leases holds leases, time.clients is a clock; Leases go with an arbiter" in fault.said
