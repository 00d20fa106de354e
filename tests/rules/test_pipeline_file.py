"""A pipeline file: what it says, every fault of it at once, and the way back to tables."""

import json
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geartrain.errors import BadValue, Fault, PipelineFaulty
from geartrain.rules.lifecycle import POLICIES as ON_ERROR
from geartrain.rules.pipeline import (
    ACKS,
    BACKENDS,
    CARRIERS,
    KEEPS,
    ON_PEER_RESTART,
    POLICIES,
    ChannelSpec,
    DaemonSpec,
    PipelineSpec,
    PortRef,
    ProcessSpec,
)
from geartrain.rules.pipeline_file import Reading, overridden, parsed, port_ref, read, tables_of
from geartrain.rules.restart import RestartPolicy

VISION = """
[pipeline]
name = "vision"
backend = "trio"

[daemons.camera]
run = "vision:Camera"
process = "eyes"
on_error = "restart"
restart = { max_retries = 5, within = "30s", base = "100ms", cap = "5s" }
start_within = "1m"
budget = "5ms"
config = { fps = 30 }

[daemons.detector]
run = "vision:Detector"

[daemons.encoder]
command = ["ffmpeg", "-i", ""]

[channels.frames]
from = "camera.frames"
to = "detector.frames"
maxsize = 8
policy = "block"
ack = "each"
keep = "taken"
max_bytes = "64KiB"
retain = 20
max_deliveries = "never"
transport = "tcp"
on_peer_restart = "restart"
stale_after = "200ms"

[channels.state]
from = "detector.state"
to = "camera.state"
policy = "latest"

[processes.eyes]
backend = "asyncio"
env = { LEVEL = "1", EMPTY = "" }
cwd = "/tmp"
nice = -5
budget = "10ms"
"""


def reading(text: str) -> Reading:
    return read(parsed(text, "toml", "vision.toml"), "vision.toml")


def said(text: str) -> list[str]:
    return [str(fault) for fault in reading(text).faults]


def with_channel(line: str) -> str:
    return f'[pipeline]\nname = "p"\n[channels.c]\nfrom = "a.out"\nto = "b.inp"\n{line}'


# -- what it says -----------------------------------------------------------------------------------------------------


def test_everything_a_file_can_say_is_understood_in_the_order_of_the_file() -> None:
    assert reading(VISION) == Reading(
        PipelineSpec(
            name="vision",
            backend="trio",
            daemons=(
                DaemonSpec(
                    name="camera",
                    process="eyes",
                    run="vision:Camera",
                    on_error="restart",
                    restart=RestartPolicy(max_retries=5, within=30, base=0.1, cap=5),
                    start_within=60,
                    budget=0.005,
                    config={"fps": 30},
                ),
                DaemonSpec(name="detector", process="detector", run="vision:Detector"),
                DaemonSpec(name="encoder", process="encoder", command=("ffmpeg", "-i", "")),
            ),
            channels=(
                ChannelSpec(
                    name="frames",
                    writer=PortRef("camera", "frames"),
                    reader=PortRef("detector", "frames"),
                    maxsize=8,
                    ack="each",
                    keep="taken",
                    max_bytes=65536,
                    retain=20,
                    max_deliveries=None,
                    transport="tcp",
                    on_peer_restart="restart",
                    stale_after=0.2,
                ),
                ChannelSpec(
                    name="state",
                    writer=PortRef("detector", "state"),
                    reader=PortRef("camera", "state"),
                    policy="latest",
                    maxsize=1,
                ),
            ),
            processes=(
                ProcessSpec(
                    name="eyes", backend="asyncio", env={"LEVEL": "1", "EMPTY": ""}, cwd="/tmp", nice=-5, budget=0.01
                ),
            ),
            file="vision.toml",
        ),
        (),
    )


def test_json_and_toml_say_the_same() -> None:
    as_json = json.dumps(tomllib.loads(VISION))
    assert read(parsed(as_json, "json", "vision.toml"), "vision.toml") == reading(VISION)


def test_a_text_that_is_no_toml_or_no_json_is_one_fault_that_says_where() -> None:
    with pytest.raises(PipelineFaulty, match=r"^a\.toml: this is not TOML: .*line 2"):
        parsed("[pipeline]\nname = = 2", "toml", "a.toml")
    with pytest.raises(PipelineFaulty, match=r"^a\.json: this is not JSON: .*line 1 column 2"):
        parsed("{", "json", "a.json")
    with pytest.raises(PipelineFaulty, match=r"^a\.json: this is not JSON: "):
        parsed("[" * 100_000, "json", "a.json")


# -- faults -----------------------------------------------------------------------------------------------------------


def test_every_fault_of_a_file_is_told_at_once() -> None:
    assert said(
        """
        [pipelines]
        [pipeline]
        backend = "curio"
        [daemons.camera]
        rum = "vision:Camera"
        on_error = "retry"
        [channels.frames]
        from = "camera"
        maxsize = "8"
        """
    ) == [
        "vision.toml: pipeline.name: is missing; give the pipeline a name, as name = \"vision\"",
        'vision.toml: pipeline.backend: must be one of "asyncio", "trio", got "curio"',
        'vision.toml: daemons.camera.on_error: must be one of "shutdown", "restart", "ignore", got "retry"',
        'vision.toml: daemons.camera.run: is missing; say what runs, as run = "module:attr", or command = '
        '["program", "argument"]',
        "vision.toml: daemons.camera.rum: is not known here; did you mean 'run'?",
        'vision.toml: channels.frames.from: must name a daemon and its port, as "camera.frames", got "camera"',
        'vision.toml: channels.frames.to: is missing; say which port, as to = "daemon.port"',
        "vision.toml: channels.frames.maxsize: must be a whole number, got '8'",
        "vision.toml: pipelines: is not known here; did you mean 'pipeline'?",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "key", "words"),
    [
        ("maxsise = 8", "maxsise", "is not known here; did you mean 'maxsize'?"),
        ("maxsize = -1", "maxsize", "must be >= 0, got -1"),
        ("maxsize = 8.0", "maxsize", "must be a whole number, got 8.0"),
        ("maxsize = true", "maxsize", "must be a whole number, got True"),
        ('policy = "Block"', "policy", 'must be one of "block", "latest", "drop_oldest", "drop_newest", got "Block"'),
        ("policy = 1", "policy", 'must be one of "block", "latest", "drop_oldest", "drop_newest", got 1'),
        ('max_bytes = "64k"', "max_bytes",
         "must be an amount with a unit (B, KiB, MiB, GiB, KB, MB, GB), as \"64KiB\", "
         "got '64k'"),
        ("max_bytes = 0", "max_bytes", "must be >= 1, got 0"),
        ("retain = 0", "retain", "must be >= 1, got 0"),
        ("max_deliveries = 1", "max_deliveries", "must be >= 2, got 1"),
        ('transport = "udp"', "transport", 'must be one of "auto", "ipc", "tcp", got "udp"'),
    ],
)  # fmt: skip
def test_a_setting_of_a_channel_that_makes_no_sense_is_refused(line: str, key: str, words: str) -> None:
    assert reading(with_channel(line)).faults == (Fault("vision.toml", f"channels.c.{key}", words),)


@pytest.mark.parametrize(
    ("line", "key", "words"),
    [
        ('restart = { base = 1 }', "restart.base", 'must be text with a unit, as "250ms", "5s" or "1h30m", got 1'),
        ('restart = { within = "0s" }', "restart", "RestartPolicy within must be more than 0 seconds, or None to count "
         "every failure"),
        ("restart = { jitter = 2 }", "restart.jitter", "must be from 0 to 1, got 2"),
        ("restart = { max_retry = 2 }", "restart.max_retry", "is not known here; did you mean 'max_retries'?"),
        ('restart = "always"', "restart", 'must be a table, got "always"'),
        ('start_within = "soon"', "start_within", "must have units (h, m, s, ms, us), as \"250ms\", \"5s\" or "
         "\"1h30m\", got 'soon'"),
        ('budget = "0s"', "budget", "must be more than 0; leave it out where a body may take any time"),
        ("budget = 5", "budget", 'must be text with a unit, as "250ms", "5s" or "1h30m", got 5'),
        ('process = ""', "process", 'must be text, got ""'),
        ('command = ["a"]', "command", "is given beside run; a daemon has one of the two"),
        ("config = 5", "config", "must be a table, got 5"),
    ],
)  # fmt: skip
def test_a_setting_of_a_daemon_that_makes_no_sense_is_refused(line: str, key: str, words: str) -> None:
    faults = reading(f'[pipeline]\nname = "p"\n[daemons.a]\nrun = "m:A"\n{line}').faults
    assert faults == (Fault("vision.toml", f"daemons.a.{key}", words),)


@pytest.mark.parametrize("command", ['"ffmpeg -i a"', "[]", "[1]", '[""]'])
def test_a_command_is_a_list_of_text_that_begins_with_a_program(command: str) -> None:
    (fault,) = reading(f'[pipeline]\nname = "p"\n[daemons.a]\ncommand = {command}').faults
    assert fault.key == "daemons.a.command"
    assert fault.said.startswith('must be a list of text that begins with the program, as ["ffmpeg", "-i"], got ')


@pytest.mark.parametrize(
    ("line", "key", "words"),
    [
        ("env = { A = 1 }", "env.A", "must be text, got 1"),
        ("nice = 20", "nice", "must be from -20 to 19, got 20"),
        ("nice = -21", "nice", "must be >= -20, got -21"),
        ("cwd = 1", "cwd", "must be text, got 1"),
        ('budget = "0s"', "budget", "must be more than 0; leave it out where a body may take any time"),
        ('hung_after = "0s"', "hung_after", 'must be more than 0, or "never"'),
        ('backend = "uvloop"', "backend", 'must be one of "asyncio", "trio", got "uvloop"'),
    ],
)
def test_a_setting_of_a_process_that_makes_no_sense_is_refused(line: str, key: str, words: str) -> None:
    faults = reading(f'[pipeline]\nname = "p"\n[processes.a]\n{line}').faults
    assert faults == (Fault("vision.toml", f"processes.a.{key}", words),)


@pytest.mark.parametrize("tables", [None, 1, "text", [1], {1: {}}, {"pipeline": {"name": "p", True: 1}}])
def test_what_is_no_table_of_named_things_is_refused_and_never_an_error_of_pythons(tables: object) -> None:
    assert read(tables).faults


@pytest.mark.parametrize("daemons", [{"camera": 5}, [1], "camera", {"camera": None}])
def test_a_table_that_is_something_else_is_told_by_its_key(daemons: object) -> None:
    faults = read({"pipeline": {"name": "p"}, "daemons": daemons}).faults
    assert faults[0].key in ("daemons", "daemons.camera")
    assert faults[0].said.startswith("must be a table, got ")


def test_what_cannot_be_understood_does_not_hide_what_can() -> None:
    spec = reading('[daemons.a]\nrun = 5\nprocess = "x"\n[channels.c]\nfrom = "a.out"\nto = 3').spec
    assert spec.daemons == (DaemonSpec(name="a", process="x"),)
    assert spec.channels == (ChannelSpec(name="c", writer=PortRef("a", "out"), reader=None),)


@settings(deadline=None, max_examples=300)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "pipeline",
                        "daemons",
                        "channels",
                        "processes",
                        "name",
                        "run",
                        "command",
                        "restart",
                        "config",
                        "from",
                        "to",
                        "maxsize",
                        "policy",
                        "env",
                        "nice",
                    ]
                ),
                inner,
                max_size=6,
            )
        ),
        max_leaves=30,
    )
)
def test_any_tables_are_read_with_faults_or_without_and_nothing_else(tables: object) -> None:
    assert isinstance(read(tables), Reading)


@pytest.mark.parametrize("value", ["a.b.c", "a.", ".b", "a", "", "a.1b", "a.b-c", 5, None])
def test_a_port_is_a_daemon_a_dot_and_a_name(value: object) -> None:
    with pytest.raises(BadValue, match=r'^must name a daemon and its port, as "camera.frames", got '):
        port_ref(value)
    assert port_ref("my-daemon.port_1") == PortRef("my-daemon", "port_1")


# -- overrides --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("a.b=8", 8),
        ("a.b=true", True),
        ("a.b=0.5", 0.5),
        ("a.b=trio", "trio"),
        ('a.b="8"', "8"),
        ("a.b=[1, 2]", [1, 2]),
        ("a.b=x=y", "x=y"),
        ("a.b=", ""),
        (" a . b = 8 ", 8),
        ("a.b=1\nc=2", "1\nc=2"),
    ],
)
def test_an_override_is_a_toml_value_or_else_text(assignment: str, value: object) -> None:
    assert overridden({"a": {"b": 1, "c": 3}}, [assignment]) == {"a": {"b": value, "c": 3}}


def test_an_override_makes_the_tables_it_goes_into_and_leaves_the_given_ones_as_they_are() -> None:
    tables: dict[str, Any] = {"daemons": {"a": {"run": "m:A"}}}
    changed = overridden(tables, ["daemons.a.config.fps=10", "daemons.a.config.size=2"])
    assert changed == {"daemons": {"a": {"run": "m:A", "config": {"fps": 10, "size": 2}}}}
    assert tables == {"daemons": {"a": {"run": "m:A"}}}


@pytest.mark.parametrize("assignment", ["a.b", "=8", "a..b=8", ""])
def test_an_override_that_is_no_assignment_is_refused(assignment: str) -> None:
    with pytest.raises(BadValue, match=r"^expected key=value, as channels.frames.maxsize=8, got "):
        overridden({}, [assignment])


def test_an_override_through_something_that_is_no_table_is_refused() -> None:
    with pytest.raises(BadValue, match=r"^'a.b=1' goes into 'a', which is no table but 5$"):
        overridden({"a": 5}, ["a.b=1"])


# -- back -------------------------------------------------------------------------------------------------------------

NAMES = st.text("abc-_1", min_size=1, max_size=4)
PORTS = st.builds(PortRef, NAMES, st.sampled_from(["out", "inp"]))
SECONDS = st.floats(0, 1e6)
RESTARTS = st.builds(
    RestartPolicy,
    base=SECONDS,
    factor=st.floats(0, 10),
    cap=SECONDS,
    max_retries=st.none() | st.integers(0, 9),
    within=st.none() | st.floats(1e-6, 1e6),
    jitter=st.floats(0, 1),
)
DAEMONS = st.builds(
    lambda name, process, what, **rest: DaemonSpec(name=name, process=process, **what, **rest),
    NAMES,
    NAMES,
    st.sampled_from([{"run": "m:A"}, {"command": ("a", "b")}]),
    on_error=st.sampled_from(ON_ERROR),
    restart=st.none() | RESTARTS,
    start_within=st.none() | SECONDS,
    budget=st.none() | st.integers(1, 10**6).map(lambda us: us / 1e6),
    config=st.dictionaries(NAMES, st.integers() | st.text(max_size=3), max_size=2),
)
CHANNELS = st.builds(
    ChannelSpec,
    name=NAMES,
    writer=PORTS,
    reader=PORTS,
    maxsize=st.integers(0, 99),
    policy=st.sampled_from(POLICIES),
    ack=st.sampled_from(ACKS),
    keep=st.sampled_from(KEEPS),
    max_bytes=st.integers(1, 2**30),
    retain=st.none() | st.integers(1, 99),
    max_deliveries=st.none() | st.integers(2, 9),
    transport=st.sampled_from(CARRIERS),
    on_peer_restart=st.sampled_from(ON_PEER_RESTART),
    stale_after=st.none() | st.integers(1, 10**6).map(lambda ms: ms / 1000),
    fenced=st.sampled_from((None, "workcell/left", "lock://gpu")),
)
PROCESSES = st.builds(
    ProcessSpec,
    name=NAMES,
    backend=st.none() | st.sampled_from(BACKENDS),
    env=st.dictionaries(NAMES, st.text(max_size=3), max_size=2),
    cwd=st.none() | st.just("/tmp"),
    nice=st.integers(-20, 19),
    budget=st.none() | st.integers(1, 10**6).map(lambda us: us / 1e6),
)


def unique(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(parts, max_size=4, unique_by=lambda part: part.name).map(tuple)


@settings(deadline=None, max_examples=200)
@given(
    st.builds(
        PipelineSpec,
        name=NAMES,
        backend=st.sampled_from(BACKENDS),
        daemons=unique(DAEMONS),
        channels=unique(CHANNELS),
        processes=unique(PROCESSES),
    )
)
def test_the_tables_of_a_spec_are_read_as_the_same_spec(spec: PipelineSpec) -> None:
    tables = json.loads(json.dumps(tables_of(spec)))
    assert read(tables) == Reading(spec, ())


@pytest.mark.parametrize("region", ['"workcell\\\\left"', '""', '"../up"', "7", '"http://cell"'])
def test_a_fence_around_no_region_is_refused_by_its_name(region: str) -> None:
    assert [fault.key for fault in reading(with_channel(f"fenced = {region}")).faults] == ["channels.c.fenced"]


def test_two_spellings_of_a_fenced_region_are_one() -> None:
    assert reading(with_channel('fenced = "cell//left/."')).spec.channels[0].fenced == "cell/left"
