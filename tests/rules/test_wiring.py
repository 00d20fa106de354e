"""What is wrong with a pipeline, in which order it starts, who restarts with whom, how much may be under way."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from geartrain.errors import BadValue
from geartrain.rules.pipeline import ChannelSpec, DaemonSpec, PipelineSpec, PortRef, ProcessSpec
from geartrain.rules.restart import RestartPolicy
from geartrain.rules.signature import ConfigField, ItemType, Port, Signature
from geartrain.rules.wiring import (
    Window,
    carried,
    check,
    in_custody,
    is_repeated,
    longest_windows,
    restart_cone,
    shared_processes,
    start_order,
    stop_order,
    type_givers,
)


def decode(value: object) -> object:
    if value == "wrong":
        raise BadValue("expected `int`, got `str`")
    return value


def item(text: str) -> ItemType:
    """`T` and `Any` are variables, `Lock` cannot leave its process, and everything else is a type of its own."""
    if text in ("T", "U"):
        return ItemType(text=text, shape="", variable=text)
    return ItemType(text=text, shape=text, stays_because="it is a lock" if text == "Lock" else None)


def signature(*ports: str, config: tuple[str, ...] = ()) -> Signature:
    """Ports as "out>Frame" or "inp<Frame", call ports as "ask>Q:A"; + is a list, ? is optional, and so for config."""
    read = []
    for port in ports:
        sign = ">" if ">" in port else "<"
        name, _, text = port.partition(sign)
        marks = name.strip("abcdefghijklmnopqrstuvwxyz_0123456789")
        sent, _, reply = text.partition(":")
        read.append(
            Port(
                name=name.rstrip("+?"),
                sends=sign == ">",
                item=item(sent),
                many="+" in marks,
                optional="?" in marks,
                reply=item(reply) if reply else None,
            )
        )
    fields = (ConfigField(name=n.rstrip("?"), type_name="int", required="?" not in n, decode=decode) for n in config)
    return Signature(ports=tuple(read), config=tuple(fields))


SOURCE = signature("out>Frame")
RELAY = signature("inp<Frame", "out>Frame")
SINK = signature("inp<Frame")
MERGE = signature("sources+<T", "dest>T")
TEE = signature("source<T", "dests+>T")


def daemon(name: str, **said: Any) -> DaemonSpec:
    said = {"name": name, "process": name, "run": f"m:{name}"} | said
    return DaemonSpec(**said)


def channel(ends: str, name: str | None = None, **said: Any) -> ChannelSpec:
    """A channel as "a.out -> b.inp", named after its ends."""
    writer, reader = (PortRef(*end.strip().split(".")) for end in ends.split("->"))
    title = f"{writer.daemon}{reader.daemon}" if name is None else name
    usual: dict[str, Any] = {"name": title, "writer": writer, "reader": reader}
    return ChannelSpec(**usual | said)


def pipeline(
    daemons: Mapping[str, Signature | DaemonSpec], *channels: ChannelSpec, processes: tuple[ProcessSpec, ...] = ()
) -> PipelineSpec:
    specs = (what if isinstance(what, DaemonSpec) else daemon(name) for name, what in daemons.items())
    return PipelineSpec(name="p", daemons=tuple(specs), channels=channels, processes=processes)


def said(
    daemons: Mapping[str, Signature | DaemonSpec], *channels: ChannelSpec, processes: tuple[ProcessSpec, ...] = ()
) -> list[str]:
    """What is wrong, each with its key. A daemon given as a spec has no signature."""
    signatures = {name: what for name, what in daemons.items() if isinstance(what, Signature)}
    return [str(fault) for fault in check(pipeline(daemons, *channels, processes=processes), signatures)]


def flow(*ways: str, **said: Any) -> PipelineSpec:
    """Daemons and channels from ways like "abc", a chain of three; a channel is named after its two daemons.

    An item of `said`, as `ab={"keep": "taken"}`, is said of the channel of that name.
    """
    channels = [
        channel(f"{writer}.out -> {reader}.inp", **said.get(f"{writer}{reader}", {}))
        for way in ways
        for writer, reader in pairwise(way)
    ]
    return pipeline({name: SINK for way in ways for name in way}, *channels)


TAKEN = {"keep": "taken"}
LOSSY = {"policy": "drop_newest"}


# -- names and settings -----------------------------------------------------------------------------------------------


def test_a_pipeline_in_which_everything_fits_has_no_fault() -> None:
    assert said({"a": SOURCE, "b": RELAY, "c": SINK}, channel("a.out -> b.inp"), channel("b.out -> c.inp")) == []


def test_a_pipeline_without_daemons_is_told() -> None:
    assert said({}) == [
        'daemons: there are none; a pipeline needs at least one, as [daemons.camera] with run = "module:attr"'
    ]


@pytest.mark.parametrize("name", ["a b", "a.b", "ä", "a/b", "a\n"])
def test_a_name_that_is_not_fit_is_told_wherever_it_is(name: str) -> None:
    words = f"the name {name!r} is not fit: use letters, digits, - and _ only"
    spec = PipelineSpec(
        name=name,
        daemons=(daemon(name), daemon("ok", process=name)),
        channels=(ChannelSpec(name=name, writer=None, reader=None),),
        processes=(ProcessSpec(name=name),),
    )
    assert [(fault.key, fault.said) for fault in check(spec, {})] == [
        ("pipeline.name", words),
        (f"daemons.{name}", words),
        (f"channels.{name}", words),
        (f"processes.{name}", words),
        ("daemons.ok.process", words),
    ]


def test_a_fault_names_the_file() -> None:
    (fault,) = check(PipelineSpec(name="p", file="a.toml"), {})
    assert str(fault).startswith("a.toml: daemons: there are none")


@pytest.mark.parametrize(
    ("on_error", "policy", "words"),
    [
        ("shutdown", RestartPolicy(), 'does nothing with on_error = "shutdown"; say on_error = "restart", or leave it '
         "out"),
        ("restart", RestartPolicy(base=2, cap=1),
         "cap (1 s) is less than base (2 s), so the delay could never be base"),
        ("restart", RestartPolicy(base=1, factor=1, max_retries=5, within=4), "never gives up: 5 retries take longer "
         "than within (4 s), so that many never fall into it; make within longer, or base shorter, or leave "
         "max_retries and within out"),
    ],
)  # fmt: skip
def test_a_restart_policy_that_cannot_do_what_it_says_is_told(on_error: Any, policy: RestartPolicy, words: str) -> None:
    assert said({"a": daemon("a", on_error=on_error, restart=policy)}) == [f"daemons.a.restart: {words}"]


@pytest.mark.parametrize(
    "policy",
    [
        RestartPolicy(max_retries=5, within=30, base=0.1, cap=5),
        RestartPolicy(base=1, factor=1, max_retries=5, within=4.1),
        RestartPolicy(max_retries=10**9, within=1, base=0, factor=1),
        RestartPolicy(max_retries=10**9, base=1),
        RestartPolicy(max_retries=0, within=0.1, base=1),
        RestartPolicy(base=2, cap=2),
    ],
)
def test_a_restart_policy_that_makes_sense_is_no_fault(policy: RestartPolicy) -> None:
    assert said({"a": daemon("a", on_error="restart", restart=policy)}) == []


def test_unknown_missing_and_wrong_config_is_told_each() -> None:
    wants = signature("out>Frame", config=("fps", "size", "mode?"))
    spec = pipeline(
        {"a": daemon("a", config={"fsp": 3, "out": 1, "size": "wrong"}), "b": SINK}, channel("a.out -> b.inp")
    )
    assert [str(fault) for fault in check(spec, {"a": wants, "b": SINK})] == [
        "daemons.a.config.fsp: is not known to m:a; did you mean 'fps'?",
        "daemons.a.config.out: is a port and no config; connect it by a channel",
        "daemons.a.config.size: expected `int`, got `str`",
        "daemons.a.config.fps: is missing; m:a needs it, as int",
    ]


def test_a_process_in_which_nobody_runs_is_told_with_the_nearest_name() -> None:
    assert said({"camera": Signature()}, processes=(ProcessSpec(name="camra"),)) == [
        "processes.camra: no daemon runs in this process; did you mean 'camera'?"
    ]


def test_what_a_command_cannot_have_is_told() -> None:
    command = daemon("a", run=None, command=("cat",), process="x", config={"fps": 1}, budget=1)
    assert said(
        {"a": command, "b": daemon("b", process="x"), "c": SOURCE},
        channel("c.out -> a.inp"),
        processes=(ProcessSpec(name="x", backend="trio", budget=1),),
    ) == [
        "daemons.a.config: a command has no config; give the program arguments, or its process an env",
        "daemons.a.budget: a command has no cycles that anybody could measure; leave its budget out",
        "daemons.a.process: a command is a process of its own, and 'b' is in 'x'",
        "processes.x.backend: 'a' is a command, and has no backend",
        "processes.x.budget: 'a' is a command, and has no cycles that anybody could measure",
        "channels.ca.to: 'a' runs a command, which has no ports; let a daemon start the program and speak with it",
    ]


# -- ends -------------------------------------------------------------------------------------------------------------


def test_a_port_without_a_channel_is_told_with_what_to_add() -> None:
    assert said({"a": SOURCE, "b": SINK}) == [
        "daemons.a: port 'out' (sends Frame) has no channel; add [channels.NAME] with from = \"a.out\"",
        "daemons.b: port 'inp' (expects Frame) has no channel; add [channels.NAME] with to = \"b.inp\"",
    ]


def test_an_optional_port_and_an_optional_list_may_stay_without_a_channel() -> None:
    assert said({"a": signature("tap?>Frame", "more+?>Frame")}) == []


def test_a_list_needs_one_channel_and_takes_several() -> None:
    assert len(said({"m": MERGE, "z": SINK}, channel("m.dest -> z.inp"))) == 1
    assert (
        said(
            {"a": SOURCE, "b": SOURCE, "m": MERGE, "z": SINK},
            channel("a.out -> m.sources"),
            channel("b.out -> m.sources"),
            channel("m.dest -> z.inp"),
        )
        == []
    )


def test_a_port_with_two_channels_is_told_with_the_recipe_that_helps() -> None:
    assert said(
        {"a": SOURCE, "b": SINK, "c": SOURCE, "d": SINK},
        channel("a.out -> b.inp", "one"),
        channel("a.out -> d.inp", "two"),
        channel("c.out -> b.inp", "three"),
    ) == [
        "channels.two.from: a.out has the channel 'one' already, and a port has one; put run = "
        '"geartrain.recipes:Tee" between',
        "channels.three.to: b.inp has the channel 'one' already, and a port has one; put run = "
        '"geartrain.recipes:Merge" between',
    ]


def test_an_unknown_daemon_or_port_is_told_once_with_the_nearest_name() -> None:
    assert said({"camera": SOURCE, "sink": SINK}, channel("camra.out -> sink.inp", "c")) == [
        "channels.c.from: there is no daemon 'camra'; did you mean 'camera'?"
    ]
    assert said({"camera": SOURCE, "sink": SINK}, channel("camera.out -> sink.inpt", "c")) == [
        "channels.c.to: 'sink' has no port 'inpt'; did you mean 'inp'?"
    ]
    assert said({"camera": SOURCE, "sink": Signature()}, channel("camera.out -> sink.inp", "c")) == [
        "channels.c.to: 'sink' has no port 'inp'; it has no ports"
    ]


def test_an_unknown_end_does_not_hide_a_port_that_it_cannot_mean() -> None:
    faults = said({"a": SOURCE, "b": SINK, "c": RELAY}, channel("a.out -> zzzz.inp", "x"))
    assert [fault.partition(":")[0] for fault in faults] == ["daemons.b", "daemons.c", "daemons.c", "channels.x.to"]
    # A misspelt port of one daemon is none of another, and a misspelt daemon has not every port of the right one.
    faults = said({"a": SOURCE, "c": SOURCE, "b": SINK}, channel("c.ouut -> b.inp", "x"))
    assert [fault.partition(":")[0] for fault in faults] == ["daemons.a", "channels.x.from"]
    faults = said({"camera": SOURCE, "b": SINK}, channel("camra.tap -> b.inp", "x"))
    assert [fault.partition(":")[0] for fault in faults] == ["daemons.camera", "channels.x.from"]


def test_ends_in_the_wrong_direction_are_told_where_they_belong() -> None:
    assert said({"a": SOURCE, "b": SINK}, channel("b.inp -> a.out", "c")) == [
        'channels.c.from: b.inp expects Frame, so it belongs in "to"',
        'channels.c.to: a.out sends Frame, so it belongs in "from"',
    ]


def test_both_ends_in_one_daemon_are_told() -> None:
    assert said({"a": RELAY}, channel("a.out -> a.inp", "c")) == [
        "channels.c.to: both ends are in daemon 'a'; a channel connects two daemons"
    ]


def test_of_a_daemon_that_could_not_be_loaded_no_port_is_told() -> None:
    spec = pipeline({"a": SOURCE, "b": SINK}, channel("a.anything -> b.inp"))
    assert check(spec, {"b": SINK}) == ()


def test_when_an_end_could_not_be_read_no_port_is_said_to_lack_a_channel() -> None:
    spec = pipeline({"a": SOURCE, "b": SINK}, ChannelSpec(name="c", writer=None, reader=PortRef("b", "inp")))
    assert check(spec, {"a": SOURCE, "b": SINK}) == ()


@pytest.mark.parametrize(
    ("settings", "same_process", "words"),
    [
        ({"policy": "latest", "maxsize": 2}, False, 'maxsize: policy = "latest" keeps exactly one item; say 1 or leave '
         "it out, got 2"),
        ({"policy": "drop_oldest", "maxsize": 0}, True, 'maxsize: policy = "drop_oldest" needs room for at least 1 '
         "item, got 0"),
        ({"policy": "drop_newest", "maxsize": 0}, False, 'maxsize: policy = "drop_newest" needs room for at least 1 '
         "item, got 0"),
        ({"policy": "drop_newest", "maxsize": 0}, True, None),
        ({"maxsize": 0}, False, None),
        ({"retain": 7, "maxsize": 8}, False, "retain: must be at least maxsize (8), got 7"),
        ({"retain": 8, "maxsize": 8}, False, None),
        ({"transport": "ipc"}, True, "transport: both ends are in process 'x', where nothing is transported; leave it "
         "out"),
        ({"transport": "tcp"}, False, None),
    ],
)  # fmt: skip
def test_settings_of_a_channel_that_do_not_go_together_are_told(
    settings: dict[str, Any], same_process: bool, words: str | None
) -> None:
    places = {"process": "x"} if same_process else {}
    spec = pipeline(
        {"a": daemon("a", **places), "b": daemon("b", **places)}, channel("a.out -> b.inp", "c", **settings)
    )
    faults = [str(fault) for fault in check(spec, {"a": SOURCE, "b": SINK})]
    assert faults == ([] if words is None else [f"channels.c.{words}"])


def test_a_channel_is_in_a_process_when_both_its_ends_are() -> None:
    spec = pipeline(
        {"a": daemon("a", process="x"), "b": daemon("b", process="x"), "c": SINK},
        channel("a.out -> b.inp"),
        channel("b.out -> c.inp"),
        channel("a.out -> nobody.inp"),
        ChannelSpec(name="half", writer=PortRef("a", "out"), reader=None),
    )
    assert shared_processes(spec) == {"ab": "x", "bc": None, "anobody": None, "half": None}


# -- types ------------------------------------------------------------------------------------------------------------


def test_types_that_do_not_meet_are_told_with_both_ports() -> None:
    assert said(
        {"camera": signature("frames>Frame"), "detector": signature("frames<Image")},
        channel("camera.frames -> detector.frames", "frames"),
    ) == ["channels.frames: camera.frames sends Frame, detector.frames expects Image"]


def test_types_of_one_name_and_two_structures_are_told_as_such() -> None:
    other = ItemType(text="Frame", shape="another")
    signatures = {"a": SOURCE, "b": Signature(ports=(Port(name="inp", sends=False, item=other),))}
    (fault,) = check(pipeline({"a": SOURCE, "b": SINK}, channel("a.out -> b.inp")), signatures)
    assert fault.said == "a.out sends Frame, b.inp expects Frame, of another structure"


def test_what_goes_through_a_merge_has_the_type_of_its_other_ends() -> None:
    assert said(
        {"a": SOURCE, "b": signature("bars>Bar"), "m": MERGE, "z": SINK},
        channel("a.out -> m.sources"),
        channel("b.bars -> m.sources"),
        channel("m.dest -> z.inp"),
    ) == ["channels.bm: b.bars has Bar, but what goes through 'm' is Frame, because of a.out on channel 'am'"]


@pytest.mark.parametrize("end", ["Frame", "Bar"])
def test_a_type_is_found_through_a_chain_of_merges_and_tees(end: str) -> None:
    faults = said(
        {"z": signature(f"inp<{end}"), "t": TEE, "m": MERGE, "a": SOURCE},
        channel("t.dests -> z.inp"),
        channel("m.dest -> t.source"),
        channel("a.out -> m.sources"),
    )
    assert len(faults) == (0 if end == "Frame" else 1)


def test_two_type_variables_of_one_daemon_are_two_types() -> None:
    assert (
        said(
            {"a": SOURCE, "pool": signature("incoming<T", "results>U"), "z": signature("inp<Bar")},
            channel("a.out -> pool.incoming"),
            channel("pool.results -> z.inp"),
        )
        == []
    )


def test_the_port_that_gives_a_channel_its_type_is_found() -> None:
    daemons = {"a": SOURCE, "t": TEE, "z": SINK, "y": signature("inp<U"), "x": signature("out>T"), "w": MERGE}
    spec = pipeline(
        daemons,
        channel("a.out -> t.source"),
        channel("t.dests -> z.inp"),
        channel("t.dests -> y.inp"),
        channel("x.out -> w.sources"),
    )
    assert {name: str(port) for name, port in type_givers(spec, daemons).items()} == {
        "at": "a.out",
        "tz": "z.inp",
        "ty": "a.out",
        "xw": "w.sources",
    }


@pytest.mark.parametrize("same_process", [True, False])
def test_items_that_cannot_leave_their_process_are_told_only_when_they_have_to(same_process: bool) -> None:
    places = {"process": "x"} if same_process else {}
    spec = pipeline(
        {"a": daemon("a", **places), "m": daemon("m", **places), "b": daemon("b", **places)},
        channel("a.out -> m.sources"),
        channel("m.dest -> b.inp"),
    )
    signatures = {"a": signature("out>Lock"), "m": MERGE, "b": signature("inp<Lock")}
    words = (
        "Lock cannot go to another process: it is a lock; put 'a' and 'm' into one process, or send a msgspec.Struct",
        "Lock cannot go to another process: it is a lock; put 'm' and 'b' into one process, or send a msgspec.Struct",
    )
    assert [fault.said for fault in check(spec, signatures)] == ([] if same_process else list(words))


# -- call ports -------------------------------------------------------------------------------------------------------

ASKS = signature("ask>Q:A")
ANSWERS = signature("calls<Q:A")


def test_one_entry_connects_two_call_ports() -> None:
    assert said({"a": ASKS, "b": ANSWERS}, channel("a.ask -> b.calls")) == []


@pytest.mark.parametrize("other", ["calls<Q:B", "calls<P:A", "calls<P:B"])
def test_call_ports_whose_types_differ_are_named_with_both_types_of_both(other: str) -> None:
    there = other.removeprefix("calls<").replace(":", " for ")
    assert said({"a": ASKS, "b": signature(other)}, channel("a.ask -> b.calls")) == [
        f"channels.ab: a.ask calls with Q for A, b.calls is called with {there}"
    ]


def test_a_call_port_and_a_stream_do_not_meet() -> None:
    faults = said(
        {"a": ASKS, "b": signature("inp<Q"), "c": signature("out>Q"), "d": ANSWERS},
        channel("a.ask -> b.inp"),
        channel("c.out -> d.calls"),
    )
    goes = "; Caller goes with Calls, and SendStream with ReceiveStream"
    assert faults == [
        f"channels.ab: a.ask calls with Q for A, b.inp expects Q{goes}",
        f"channels.cd: c.out sends Q, d.calls is called with Q for A{goes}",
    ]


def test_a_call_port_at_the_wrong_end_is_told_where_it_belongs() -> None:
    assert said({"a": ASKS, "b": ANSWERS}, channel("b.calls -> a.ask")) == [
        'channels.ba.from: b.calls is called with Q for A, so it belongs in "to"',
        'channels.ba.to: a.ask calls with Q for A, so it belongs in "from"',
    ]


def test_a_second_client_or_server_of_one_port_is_told_what_to_do() -> None:
    faults = said(
        {"a": ASKS, "b": ASKS, "c": ANSWERS, "d": ANSWERS},
        channel("a.ask -> c.calls"),
        channel("b.ask -> c.calls"),
        channel("a.ask -> d.calls"),
    )
    assert faults == [
        "channels.bc.to: c.calls has the channel 'ac' already, and a port has one; "
        "let it be a list of Calls, to serve several",
        "channels.ad.from: a.ask has the channel 'ac' already, and a port has one; let it be a list of Caller",
    ]


def test_a_list_of_calls_serves_several_and_an_optional_caller_may_be_left_alone() -> None:
    daemons = {"a": ASKS, "b": ASKS, "c": signature("calls+<Q:A"), "d": signature("ask?>Q:A")}
    assert said(daemons, channel("a.ask -> c.calls"), channel("b.ask -> c.calls")) == []


def test_a_call_port_without_a_channel_is_told() -> None:
    assert said({"a": ASKS}) == [
        "daemons.a: port 'ask' (calls with Q for A) has no channel; add [channels.NAME] with from = \"a.ask\""
    ]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"policy": "drop_newest"}, 'policy: is "drop_newest", and a call is never dropped; leave it out'),
        ({"maxsize": 0}, "maxsize: must be at least 1 between call ports: so many calls may be under way"),
        ({"ack": "each"}, 'ack: is "each", and a call is done with when it is answered; leave it out'),
        ({"retain": 3}, "retain: must be at least maxsize (64), got 3"),
        (
            {"stale_after": 1.0},
            "stale_after: between call ports nothing need come, so it means nothing; leave it out",
        ),
        (
            {"fenced": "cell"},
            "fenced: between call ports an answer says whether it was done; leave it out, and ask a FenceGate there",
        ),
    ],
)
def test_settings_that_make_no_sense_for_calls_are_told(settings: dict[str, Any], words: str) -> None:
    assert said({"a": ASKS, "b": ANSWERS}, channel("a.ask -> b.calls", **settings)) == [f"channels.ab.{words}"]


DEADLINES = Signature(ports=(Port(name="ask", sends=True, item=item("Q"), reply=item("A"), clock="deadlines"),))
CLOCK = Signature(ports=(Port(name="calls", sends=False, item=item("Q"), reply=item("A"), clock="clients", many=True),))


def test_deadlines_go_with_a_clock_and_with_nothing_else() -> None:
    assert said({"a": DEADLINES, "b": CLOCK}, channel("a.ask -> b.calls")) == []
    goes = "Deadlines and Planes go with a clock, as geartrain.actors:ReactorClock"
    assert said({"a": DEADLINES, "b": ANSWERS}, channel("a.ask -> b.calls")) == [
        f"channels.ab: a.ask has deadlines, b.calls is called with Q for A; {goes}"
    ]
    assert said({"a": ASKS, "b": CLOCK}, channel("a.ask -> b.calls")) == [
        f"channels.ab: a.ask calls with Q for A, b.calls is a clock; {goes}"
    ]


def test_an_entry_with_a_clock_is_carried_by_two_channels_that_are_no_cycle_of_the_pipeline() -> None:
    daemons = {"a": DEADLINES, "b": CLOCK}
    spec = pipeline(daemons, channel("a.ask -> b.calls"))
    assert [(half.name, half.keep) for half in carried(spec, daemons).channels] == [
        ("ab", "taken"),
        ("ab.told", "taken"),
    ]
    assert start_order(spec) == ("b", "a")


def test_a_type_variable_of_a_call_port_is_one_with_that_of_a_stream_in_both_directions() -> None:
    through = signature("calls<T:U", "ask>T:U", "log>U")
    wiring = (channel("a.ask -> t.calls"), channel("t.ask -> b.calls"))
    daemons = {"a": ASKS, "t": through, "b": ANSWERS}
    assert said(daemons | {"s": signature("inp<A")}, *wiring, channel("t.log -> s.inp")) == []
    assert said(daemons | {"s": signature("inp<B")}, *wiring, channel("t.log -> s.inp")) != []


@pytest.mark.parametrize(("ports", "daemon_"), [("Lock:A", "a"), ("Q:Lock", "b")])
def test_what_cannot_leave_its_process_is_told_for_requests_and_for_replies(ports: str, daemon_: str) -> None:
    (fault,) = said({"a": signature(f"ask>{ports}"), "b": signature(f"calls<{ports}")}, channel("a.ask -> b.calls"))
    assert fault.startswith(f"channels.ab: Lock cannot go to another process: it is a lock; put {daemon_!r} and")


def test_daemons_that_call_each_other_are_a_cycle_and_one_that_is_called_back_by_a_stream_too() -> None:
    both = signature("ask>Q:A", "calls<Q:A")
    (fault,) = said({"a": both, "b": both}, channel("a.ask -> b.calls"), channel("b.ask -> a.calls"))
    assert "is a cycle in which every channel blocks" in fault
    assert said({"a": both, "b": both}, channel("a.ask -> b.calls"), channel("b.ask -> a.calls", **TAKEN)) == []


def test_what_an_entry_between_call_ports_stands_for_is_two_channels_and_others_stay_as_they_are() -> None:
    daemons = {"a": signature("ask>Q:A", "out>Frame"), "b": signature("calls<Q:A", "inp<Frame")}
    stream = channel("a.out -> b.inp", "frames")
    spec = pipeline(daemons, channel("a.ask -> b.calls", "geo"), stream)
    requests, replies, rest = carried(spec, daemons).channels
    assert (requests.name, requests.ack, requests.keep) == ("geo", "manual", "stable")
    assert (replies.name, str(replies.writer), str(replies.reader)) == ("geo.replies", "b.calls", "a.ask")
    assert replies.may_close_a_cycle
    assert rest == stream


# -- cycles -----------------------------------------------------------------------------------------------------------


def cycles(spec: PipelineSpec) -> list[str]:
    return [fault.said.partition(" is a cycle")[0] for fault in check(spec, {})]


def test_a_cycle_in_which_every_channel_blocks_is_told_with_its_way() -> None:
    (fault,) = check(flow("abca"), {})
    assert str(fault) == (
        "channels.ab: a -> b -> c -> a is a cycle in which every channel blocks (ab, bc, ca), so it can wait for "
        'itself; say keep = "taken" or a lossy policy on one of them'
    )


@pytest.mark.parametrize("cut", [TAKEN, LOSSY, {"policy": "latest", "maxsize": 1}])
def test_a_cycle_that_is_cut_anywhere_is_no_fault(cut: dict[str, Any]) -> None:
    for where in ("ab", "bc", "ca"):
        assert cycles(flow("abca", **{where: cut})) == []


def test_every_cycle_is_told_and_a_cut_of_one_does_not_excuse_another() -> None:
    assert cycles(flow("aba", "cdc")) == ["a -> b -> a", "c -> d -> c"]
    assert cycles(flow("aba", "cdc", ba=TAKEN)) == ["c -> d -> c"]
    assert cycles(flow("aba", "bcb", cb=LOSSY)) == ["a -> b -> a"]


def test_two_channels_of_which_one_blocks_still_block() -> None:
    spec = flow("aba", ba=TAKEN)
    both = pipeline({"a": SINK, "b": SINK}, *spec.channels, channel("b.more -> a.more", "again"))
    assert cycles(both) == ["a -> b -> a"]


# -- order ------------------------------------------------------------------------------------------------------------


def test_sinks_start_first_and_sources_stop_first() -> None:
    assert start_order(flow("abc")) == ("c", "b", "a")
    assert stop_order(flow("abc")) == ("a", "b", "c")


def test_daemons_that_the_wiring_does_not_order_start_in_the_order_of_the_file() -> None:
    assert start_order(pipeline({"b": SINK, "a": SINK, "c": SINK})) == ("b", "a", "c")


@pytest.mark.parametrize(("cut", "order"), [("ca", "cba"), ("ab", "acb"), ("bc", "bac")])
def test_a_cycle_starts_as_if_its_cut_were_not_there(cut: str, order: str) -> None:
    assert start_order(flow("abca", **{cut: TAKEN})) == tuple(order)


def test_a_lossy_channel_that_is_in_no_cycle_orders_as_any_other() -> None:
    assert start_order(flow("abc", ab=LOSSY)) == ("c", "b", "a")


def test_a_faulty_pipeline_has_an_order_too() -> None:
    assert sorted(start_order(flow("abca"))) == ["a", "b", "c"]
    assert start_order(pipeline({"a": SINK}, channel("a.out -> nobody.inp"), channel("a.out -> a.inp"))) == ("a",)


EDGES = st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("abcdef"), st.sampled_from([{}, TAKEN, LOSSY])))


def random_flow(edges: list[tuple[str, str, dict[str, Any]]]) -> PipelineSpec:
    channels = (
        channel(f"{writer}.out -> {reader}.inp", str(number), **settings)
        for number, (writer, reader, settings) in enumerate(edges)
    )
    return pipeline(dict.fromkeys("abcdef", SINK), *channels)


@settings(deadline=None, max_examples=300)
@given(EDGES)
def test_every_blocking_reader_of_a_sound_pipeline_starts_before_its_writer(
    edges: list[tuple[str, str, dict[str, Any]]],
) -> None:
    spec = random_flow(edges)
    order = start_order(spec)
    assert sorted(order) == list("abcdef")
    if not cycles(random_flow([edge for edge in edges if edge[0] != edge[1]])):
        for writer, reader, settings_ in edges:
            assert settings_ or writer == reader or order.index(reader) < order.index(writer)


# -- restarts ---------------------------------------------------------------------------------------------------------

RESTART = {"on_peer_restart": "restart"}


def test_a_cone_is_everybody_downstream_along_channels_that_restart() -> None:
    spec = flow("abcd", "be", "fb", ab=RESTART, bc=RESTART, fb=RESTART)
    assert restart_cone(spec, "a") == ("c", "b")
    assert restart_cone(spec, "f") == ("c", "b")
    assert restart_cone(spec, "b") == ("c",)
    assert restart_cone(spec, "c") == ()


def test_a_cone_that_comes_back_to_where_it_began_ends_there() -> None:
    assert sorted(restart_cone(flow("abca", ab=RESTART, bc=RESTART, ca=RESTART), "a")) == ["b", "c"]


# -- windows ----------------------------------------------------------------------------------------------------------


def items(spec: PipelineSpec) -> dict[str, int]:
    return {name: window.items for name, window in longest_windows(spec).items()}


def sized(**sizes: int) -> dict[str, dict[str, int]]:
    return {name: {"maxsize": size, "max_bytes": size * 100} for name, size in sizes.items()}


def test_the_windows_of_a_chain_add_up_towards_its_sink() -> None:
    assert longest_windows(flow("abcd", **sized(ab=1, bc=10, cd=100))) == {
        "ab": Window(111, 11100),
        "bc": Window(110, 11000),
        "cd": Window(100, 10000),
    }


def test_where_ways_part_the_longest_counts_in_items_and_in_bytes_each_for_itself() -> None:
    spec = flow("abc", "bd", ab={"maxsize": 1, "max_bytes": 1}, bc={"maxsize": 9, "max_bytes": 2},
                bd={"maxsize": 2, "max_bytes": 9})  # fmt: skip
    assert longest_windows(spec)["ab"] == Window(10, 10)


def test_a_lossy_channel_ends_the_way_before_it_and_a_taken_one_behind_it() -> None:
    assert items(flow("abcd", **sized(ab=1, bc=10, cd=100) | {"bc": {"maxsize": 10} | LOSSY}))["ab"] == 1
    assert items(flow("abcd", **sized(ab=1, bc=10, cd=100) | {"bc": {"maxsize": 10} | TAKEN})) == {
        "ab": 11,
        "bc": 10,
        "cd": 100,
    }


def test_a_rendezvous_counts_as_one_item() -> None:
    assert items(flow("abc", ab={"maxsize": 0}, bc={"maxsize": 0})) == {"ab": 2, "bc": 1}


def test_a_cycle_is_counted_once_around() -> None:
    assert items(flow("aba", "bc", **sized(ab=1, bc=10) | {"ba": {"maxsize": 100} | TAKEN})) == {
        "ab": 101,
        "ba": 100,
        "bc": 10,
    }
    assert items(flow("abca", **sized(ab=1, bc=10, ca=100)))  # faulty, and yet an answer


def test_the_windows_of_a_long_chain_need_no_deep_stack() -> None:
    names = [f"d{number}" for number in range(3000)]
    channels = (channel(f"{a}.out -> {b}.inp", f"{a}-{b}", maxsize=1) for a, b in pairwise(names))
    spec = pipeline(dict.fromkeys(names, SINK), *channels)
    assert longest_windows(spec)["d0-d1"].items == 2999
    assert start_order(spec)[0] == "d2999"


def test_what_a_daemon_sends_comes_again_when_its_items_are_kept_by_others() -> None:
    spec = flow("abcde", bc=LOSSY, cd=TAKEN)
    assert [name for name in "abcde" if is_repeated(spec, name)] == ["b", "e"]


# -- custody ----------------------------------------------------------------------------------------------------------


def together(spec: PipelineSpec, *houses: str) -> PipelineSpec:
    """The same with some daemons in one process, as "bc"."""
    process = {name: house for house in houses for name in house}
    daemons = tuple(replace(daemon, process=process.get(daemon.name, daemon.name)) for daemon in spec.daemons)
    return replace(spec, daemons=daemons)


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        (together(flow("abc"), "bc"), {"bc"}),
        (together(flow("abc"), "ab"), set()),
        (together(flow("abc"), "abc"), set()),
        (together(flow("abcd"), "bcd"), {"bc", "cd"}),
        (together(flow("abcd"), "bc"), {"bc"}),
        (together(flow("abcd", ab=LOSSY), "bcd"), set()),
        (together(flow("abcd", ab=TAKEN), "bcd"), set()),
        (together(flow("abcd", bc=LOSSY), "bcd"), set()),
        # It is waited for until it is taken, and what comes behind it is not.
        (together(flow("abcd", bc=TAKEN), "bcd"), {"bc"}),
        # What is only mixed with it may be what came of it.
        (together(flow("abd", "cbe"), "bcde"), {"bd", "be"}),
        (together(flow("ab", "bcb", cb=TAKEN), "bc"), {"bc", "cb"}),
        (together(flow("bcb", cb=TAKEN), "bc"), set()),
        (flow("abcd"), set()),
    ],
)
def test_a_channel_in_a_process_takes_part_where_another_process_keeps_what_it_came_of(
    spec: PipelineSpec, found: set[str]
) -> None:
    assert in_custody(spec) == found
