"""The Python face of a pipeline: what it declares and refuses, what a file declares, and what type checkers see."""

import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from geartrain import (
    Context,
    Daemon,
    Deadlines,
    Fault,
    Pipeline,
    PipelineFaulty,
    Planes,
    ReactorClock,
    ReceiveStream,
    RestartPolicy,
    SendStream,
    daemon,
)
from geartrain.errors import BadType, BadValue
from geartrain.recipes import Merge
from geartrain.rules.pipeline import ChannelSpec, DaemonSpec, PortRef, ProcessSpec
from geartrain.rules.pipeline_file import read, tables_of


class Frame(msgspec.Struct):
    number: int


class Image(msgspec.Struct):
    width: int


class Camera(Daemon):
    def __init__(self, frames: SendStream[Frame], fps: int = 30, every: timedelta | None = None) -> None:
        self.frames = frames

    async def run(self, ctx: Context) -> None: ...


class Detector(Daemon):
    def __init__(self, frames: ReceiveStream[Frame], tap: SendStream[Frame] | None = None) -> None:
        self.frames = frames
        self.tap = tap

    async def run(self, ctx: Context) -> None: ...


class Screen(Daemon):
    def __init__(self, images: ReceiveStream[Image]) -> None:
        self.images = images

    async def run(self, ctx: Context) -> None: ...


@daemon
async def viewer(ctx: Context, frames: ReceiveStream[Frame]) -> None: ...


# -- declaring --------------------------------------------------------------------------------------------------------


def test_what_is_declared_is_in_the_spec_in_its_order() -> None:
    p = Pipeline("vision", backend="trio")
    policy = RestartPolicy(max_retries=5, within=30)
    camera = p.add(
        Camera,
        name="camera",
        process="eyes",
        on_error="restart",
        restart=policy,
        start_within=3,
        budget=0.005,
        config={"fps": 10},
    )
    detector = p.add(Detector)
    p.add_command(["cat", "-"], name="cat", on_error="ignore")
    p.connect(camera.frames, detector.frames, name="f", maxsize=8, ack="each", keep="taken", max_bytes=100, retain=9,
              max_deliveries=None, transport="tcp", on_peer_restart="restart", stale_after=0.2)  # fmt: skip
    p.process("eyes", backend="asyncio", env={"A": "1"}, cwd=Path("/tmp"), nice=3, budget=0.01)
    assert (p.name, p.spec.name, p.spec.backend) == ("vision", "vision", "trio")
    assert p.spec.daemons == (
        DaemonSpec(
            name="camera",
            process="eyes",
            run=f"{__name__}:Camera",
            on_error="restart",
            restart=policy,
            start_within=3,
            budget=0.005,
            config={"fps": 10},
        ),
        DaemonSpec(name="Detector", process="Detector", run=f"{__name__}:Detector"),
        DaemonSpec(name="cat", process="cat", command=("cat", "-"), on_error="ignore"),
    )
    assert p.spec.channels == (
        ChannelSpec(
            name="f",
            writer=PortRef("camera", "frames"),
            reader=PortRef("Detector", "frames"),
            maxsize=8,
            ack="each",
            keep="taken",
            max_bytes=100,
            retain=9,
            max_deliveries=None,
            transport="tcp",
            on_peer_restart="restart",
            stale_after=0.2,
        ),
    )
    assert p.spec.processes == (
        ProcessSpec(name="eyes", backend="asyncio", env={"A": "1"}, cwd="/tmp", nice=3, budget=0.01),
    )
    assert p.check() == ()


def test_config_of_python_is_kept_as_a_file_would_say_it() -> None:
    p = Pipeline("p")
    p.add(Camera, config={"every": timedelta(seconds=90)})
    assert p.spec.daemons[0].config == {"every": "1m30s"}


def test_a_handle_gives_ports_and_has_nothing_else() -> None:
    p = Pipeline("p")
    camera = p.add(Camera, name="eye")
    assert camera.name == "eye"
    assert repr(camera) == "<daemon 'eye' of a pipeline>"
    assert camera.frames == PortRef("eye", "frames")  # type: ignore[comparison-overlap]
    with pytest.raises(AttributeError, match=r"^'eye' has no port 'frmes'; did you mean 'frames'\?"):
        _ = camera.frmes  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="The daemon itself is made when the pipeline runs"):
        _ = camera.run


def test_a_port_is_given_by_its_handle_or_by_its_name() -> None:
    p = Pipeline("p")
    camera = p.add(Camera, name="camera")
    watch = p.add(viewer)
    p.connect(camera.frames, f"{watch.name}.frames", policy="latest")
    assert p.check() == ()
    assert p.spec.channels[0].reader == PortRef("viewer", "frames")
    assert p.spec.channels[0].maxsize == 1


def test_an_optional_port_and_a_list_are_connected_like_any_other() -> None:
    p = Pipeline("p")
    one, two, detector = p.add(Camera, name="one"), p.add(Camera, name="two"), p.add(Detector)
    merge = p.add(Merge[Frame], name="merge")
    p.connect(one.frames, merge.sources)
    p.connect(two.frames, merge.sources)
    p.connect(merge.dest, detector.frames)
    p.connect(detector.tap, f"{p.add(viewer).name}.frames")
    assert p.check() == ()
    assert [channel.name for channel in p.spec.channels] == ["frames", "two-frames", "dest", "tap"]


def test_a_channel_without_a_name_finds_a_free_one() -> None:
    p = Pipeline("p")
    for _ in range(4):
        p.connect("a.out", "b.inp")
    assert [channel.name for channel in p.spec.channels] == ["out", "a-out", "a-out-2", "a-out-3"]


# -- refusing ---------------------------------------------------------------------------------------------------------


def declared() -> Pipeline:
    p = Pipeline("p")
    p.add(Camera, name="camera")
    p.connect("camera.frames", "x.y", name="c")
    p.process("camera")
    return p


@pytest.mark.parametrize(
    ("refused", "kind", "words"),
    [
        (lambda p: p.add(Camera, name="camera"), BadValue, "duplicate daemon name 'camera'; pass a unique `name=...`"),
        (lambda p: p.add(Camera, name=""), BadValue, "a daemon's name must not be empty"),
        (lambda p: p.add(Camera, on_error="retry"), BadValue, "daemon 'Camera' on_error must be one of 'shutdown', "
         "'restart', 'ignore', got 'retry'"),
        (lambda p: p.add(Camera, restart=5), BadType, "daemon 'Camera' restart must be a RestartPolicy, got 5"),
        (lambda p: p.add(Camera, budget="5ms"), BadType,
         "daemon 'Camera' budget, in seconds, must be a number, got '5ms'"),
        (lambda p: p.process("x", budget=0), BadValue, "process 'x' budget must be more than 0 seconds; "
         "leave it out where a body may take any time"),
        (lambda p: p.add(Camera, start_within="5s"), BadType,
         "daemon 'Camera' start_within must be a number, got '5s'"),
        (lambda p: p.add(Camera, process=5), BadType, "the process of daemon 'Camera' must be text, got 5"),
        (lambda p: p.add(Frame), BadType, "add() got something else than a daemon: Frame is the class Frame, which is "
         "no Daemon; expected a Daemon class or an @daemon function"),
        (lambda p: p.add_command("cat", name="c"), BadType, "a command must be a list of text, as [\"ffmpeg\", \"-i\", "
         "\"a.mp4\"], got 'cat'"),
        (lambda p: p.add_command([], name="c"), BadType, "a command must be a list of text, as [\"ffmpeg\", \"-i\", "
         "\"a.mp4\"], got []"),
        (lambda p: p.connect("a", "b.c"), BadValue, 'connect() writer must name a daemon and its port, as '
         '"camera.frames", got "a"'),
        (lambda p: p.connect("a.b", None), BadType, 'connect() reader must be a port, as camera.frames or '
         '"camera.frames", got None'),
        (lambda p: p.connect("a.b", "c.d", name="c"), BadValue, "there is a channel 'c' already; pass another name="),
        (lambda p: p.connect("a.b", "c.d", maxsize=-1), BadValue, "connect() maxsize must be >= 0, got -1"),
        (lambda p: p.connect("a.b", "c.d", maxsize=math.inf), BadType, "connect() maxsize must be a whole number, got "
         "inf"),
        (lambda p: p.connect("a.b", "c.d", max_deliveries=1), BadValue, "connect() max_deliveries must be >= 2, got 1"),
        (lambda p: p.connect("a.b", "c.d", keep="all"), BadValue, "connect() keep must be one of 'stable', 'taken', "
         "got 'all'"),
        (lambda p: p.process("camera"), BadValue, "process 'camera' is described already"),
        (lambda p: p.process("x", nice=20), BadValue, "process() nice must be from -20 to 19, got 20"),
        (lambda p: p.process("x", backend="uvloop"), BadValue, "process() backend must be one of 'asyncio', 'trio', "
         "got 'uvloop'"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_where_it_is_said(
    refused: Callable[[Any], Any], kind: type[Exception], words: str
) -> None:
    p = declared()
    before = p.spec
    with pytest.raises(kind) as refusal:
        refused(p)
    assert str(refusal.value) == words
    assert p.spec == before


def test_a_daemon_that_is_made_already_is_refused_with_what_to_give() -> None:
    with pytest.raises(BadType, match=r"^add\(\) got <daemon 'viewer'>, which is made already; give its class, "):
        Pipeline("p").add(viewer(None))  # type: ignore[call-overload, arg-type]


def test_a_daemon_inside_a_function_is_refused_at_once() -> None:
    class Hidden(Camera): ...

    with pytest.raises(BadType, match="Hidden is defined inside a function"):
        Pipeline("p").add(Hidden)


@pytest.mark.parametrize(("name", "kind"), [("", BadValue), (5, BadType)])
def test_a_pipeline_needs_a_name(name: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="a pipeline's name must"):
        Pipeline(name)


# -- checking ---------------------------------------------------------------------------------------------------------


def test_every_fault_is_told_at_once_one_line_each() -> None:
    p = Pipeline("p")
    camera = p.add(Camera, name="camera", config={"fpz": 1})
    p.add(Screen, name="screen")
    p.connect(camera.frames, "screen.images")
    p.connect(camera.frames, "sceen.images")
    with pytest.raises(PipelineFaulty) as refusal:
        p.checked()
    assert refusal.value.faults == p.check()
    assert str(refusal.value).splitlines() == [
        f"daemons.camera.config.fpz: is not known to {__name__}:Camera; did you mean 'fps'?",
        "channels.camera-frames.to: there is no daemon 'sceen'; did you mean 'screen'?",
        "channels.camera-frames.from: camera.frames has the channel 'frames' already, and a port has one; put run = "
        '"geartrain.recipes:Tee" between',
        "channels.frames: camera.frames sends Frame, screen.images expects Image",
    ]


def test_a_sound_pipeline_gives_the_classes_and_functions_of_its_daemons() -> None:
    p = Pipeline("p")
    p.connect(p.add(Camera).frames, f"{p.add(viewer).name}.frames")
    assert p.checked() == {"Camera": Camera, "viewer": viewer}


# -- files ------------------------------------------------------------------------------------------------------------

EYES = """
import msgspec
from geartrain import Daemon, ReceiveStream, SendStream

class Frame(msgspec.Struct):
    number: int

class Camera(Daemon):
    def __init__(self, frames: SendStream[Frame], fps: int = 30): ...
    async def run(self, ctx): ...

class Sink(Daemon):
    def __init__(self, frames: ReceiveStream[Frame]): ...
    async def run(self, ctx): ...
"""

SOUND = """
[pipeline]
name = "vision"
[daemons.camera]
run = "eyes:Camera"
config = { fps = 10 }
[daemons.one]
run = "eyes:Camera"
[daemons.merge]
run = "geartrain.recipes:Merge"
[daemons.sink]
run = "eyes.py:Sink"
[channels.a]
from = "camera.frames"
to = "merge.sources"
[channels.b]
from = "one.frames"
to = "merge.sources"
[channels.c]
from = "merge.dest"
to = "sink.frames"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with a module of daemons, that leaves no trace in this process."""
    (tmp_path / "eyes.py").write_text(EYES)
    path, modules = list(sys.path), set(sys.modules)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def file_of(folder: Path, text: str, name: str = "vision.toml") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_a_file_declares_a_pipeline_whose_daemons_are_beside_it(folder: Path) -> None:
    p = Pipeline.from_file(file_of(folder, SOUND))
    assert p.check() == ()
    assert p.spec.file == f"{folder}/vision.toml"
    assert [getattr(target, "__name__", "") for target in p.checked().values()] == ["Camera", "Camera", "Merge", "Sink"]


def test_an_override_is_checked_like_the_file_itself(folder: Path) -> None:
    file = file_of(folder, SOUND)
    assert Pipeline.from_file(file, ["daemons.camera.config.fps=5"]).spec.daemons[0].config == {"fps": 5}
    (fault,) = Pipeline.from_file(file, ["daemons.camera.config.fps=fast"]).check()
    assert fault == Fault(str(file), "daemons.camera.config.fps", "expected `int`, got `str`")


def test_faults_of_the_file_of_the_imports_and_of_the_wiring_are_told_together(folder: Path) -> None:
    (folder / "broken.py").write_text("1 / 0")
    faulty = SOUND.replace('"eyes:Camera"\nconfig', '"broken:Camera"\nconfig').replace("from =", "form =", 1)
    p = Pipeline.from_file(file_of(folder, faulty + '[processes.snik]\nnice = "x"\n'))
    faults = p.check()
    assert [(fault.key, fault.said) for fault in faults] == [
        ("channels.a.from", 'is missing; say which port, as from = "daemon.port"'),
        ("channels.a.form", "is not known here; did you mean 'from'?"),
        ("processes.snik.nice", "must be a whole number, got 'x'"),
        ("daemons.camera.run", "broken cannot be imported: ZeroDivisionError: division by zero, at "
         f"{folder}/broken.py:1"),
        ("processes.snik", "no daemon runs in this process; did you mean 'sink'?"),
    ]  # fmt: skip
    assert "ZeroDivisionError" in faults[3].trace
    assert len(str(PipelineFaulty(faults)).splitlines()) == 5


def test_a_file_that_cannot_be_read_at_all_is_refused_at_once(folder: Path) -> None:
    with pytest.raises(PipelineFaulty, match=r"no\.toml: cannot be read: No such file or directory$"):
        Pipeline.from_file(folder / "no.toml")
    with pytest.raises(PipelineFaulty, match=r"a\.toml: this is not TOML: "):
        Pipeline.from_file(file_of(folder, "= 1", "a.toml"))
    with pytest.raises(PipelineFaulty, match=r"a\.txt: ends in '\.txt'; a pipeline file is \.toml, \.json or \.yaml$"):
        Pipeline.from_file(file_of(folder, "", "a.txt"))
    (folder / "b.toml").write_bytes(b"\xff")
    with pytest.raises(PipelineFaulty, match=r"b\.toml: cannot be read: 'utf-8' codec"):
        Pipeline.from_file(folder / "b.toml")


def test_a_json_file_says_the_same(folder: Path) -> None:
    from_toml = Pipeline.from_file(file_of(folder, SOUND)).spec
    tables = msgspec.toml.decode(SOUND)
    from_json = Pipeline.from_file(file_of(folder, msgspec.json.encode(tables).decode(), "vision.json")).spec
    assert from_json == msgspec.structs.replace(from_toml, file=f"{folder}/vision.json")


def test_a_yaml_file_is_read_when_pyyaml_is_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = file_of(folder, "pipeline: {name: vision}\ndaemons: {a: {command: [cat]}}\n", "vision.yaml")
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(PipelineFaulty, match=r"vision\.yaml: is YAML, which needs PyYAML; install it, or write TOML$"):
        Pipeline.from_file(file)
    monkeypatch.delitem(sys.modules, "yaml")
    pytest.importorskip("yaml")
    assert Pipeline.from_file(file).check() == ()
    with pytest.raises(PipelineFaulty, match="this is not YAML"):
        Pipeline.from_file(file_of(folder, "{", "bad.yaml"))


# -- the script that declares its own daemons -------------------------------------------------------------------------

SCRIPT = (
    EYES
    + """
if __name__ == "__main__":
    from geartrain import Pipeline
    from geartrain.engine.declare import load_daemon
    p = Pipeline("p")
    p.connect(p.add(Camera).frames, p.add(Sink).frames)
    assert p.check() == (), p.check()
    again = load_daemon(p.spec.daemons[0].run)
    assert again is not Camera and again.__name__ == "Camera"
    print(p.spec.daemons[0].run)
"""
)


def test_a_script_may_declare_daemons_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    ran = subprocess.run(
        [sys.executable, str(tmp_path / "script.py")],
        env=os.environ | {"PYTHONPATH": ":".join(part for part in sys.path if part)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.stderr, ran.stdout) == ("", f"{tmp_path}/script.py:Camera\n")


# -- type checkers ----------------------------------------------------------------------------------------------------

TYPED = """
from geartrain import Caller, Calls, Context, Daemon, Pipeline, ReceiveStream, SendStream, daemon
from geartrain.recipes import Merge

class Camera(Daemon):
    def __init__(self, frames: SendStream[int], tap: SendStream[int] | None = None) -> None:
        self.frames = frames
        self.tap = tap
    async def run(self, ctx: Context) -> None: ...

class Counter(Daemon):
    def __init__(self, numbers: ReceiveStream[int]) -> None:
        self.numbers = numbers
    async def run(self, ctx: Context) -> None: ...

class Reader(Daemon):
    def __init__(self, words: ReceiveStream[str]) -> None:
        self.words = words
    async def run(self, ctx: Context) -> None: ...

class Asker(Daemon):
    def __init__(self, geo: Caller[int, str], spare: Caller[int, str] | None = None) -> None:
        self.geo = geo
        self.spare = spare
    async def run(self, ctx: Context) -> None:
        answer: str = await self.geo.call(1, timeout=2)

class Server(Daemon):
    def __init__(self, calls: list[Calls[int, str]], other: Calls[int, int]) -> None:
        self.calls = calls
        self.other = other
    async def run(self, ctx: Context) -> None:
        async for call in self.other:
            await call.reply(call.request + 1)

class Unfinished(Daemon): ...

@daemon
async def viewer(ctx: Context, frames: ReceiveStream[int]) -> None: ...

p = Pipeline("p")
camera = p.add(Camera)
counter = p.add(Counter, name="counter", on_error="restart", config={"a": 1})
reader = p.add(Reader)
view = p.add(viewer)
merge = p.add(Merge[int])
asker = p.add(Asker)
server = p.add(Server)
"""

GOOD = """
p.connect(camera.frames, counter.numbers, maxsize=8)
p.connect(camera.tap, "viewer.frames")
p.connect("camera.frames", counter.numbers)
p.connect("camera.frames", "viewer.frames")
p.connect(camera.frames, f"{view.name}.frames")
p.connect(camera.frames, merge.sources)
p.connect(merge.dest, counter.numbers)
p.connect(asker.geo, server.calls, maxsize=8)
p.connect(asker.spare, server.calls, keep="taken")
p.connect(asker.geo, "server.calls")
"""

BAD = {
    "p.connect(camera.frames, reader.words)": "Cannot infer",
    "p.connect(camera.tap, reader.words)": "Cannot infer",
    "p.connect(merge.dest, reader.words)": "Cannot infer",
    "p.connect(counter.numbers, camera.frames)": "No overload",
    "p.connect(camera.frames, counter.numbrs)": "has no attribute",
    "p.connect(camera.frames, counter.numbers, policy='lasso')": "No overload",
    "p.connect(asker.geo, server.other)": "Cannot infer",
    "p.connect(asker.geo, counter.numbers)": "No overload",
    "p.connect(camera.frames, server.calls)": "incompatible type",
    "p.connect(asker.geo, server.calls, policy='latest')": "No overload",
    "p.add(Unfinished)": "concrete class",
    "p.add(int)": 'cannot be "int"',
    "p.add(Camera, on_error='retry')": "No overload",
}


def test_a_type_checker_accepts_ports_that_meet_and_refuses_those_that_do_not(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    source = TYPED + GOOD + "\n".join(BAD) + "\n"
    (tmp_path / "snippet.py").write_text(source)
    command = ["--strict", "--no-error-summary", "--no-incremental", "--cache-dir", os.devnull, "snippet.py"]
    root = Path(__file__).parent.parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *command],
        cwd=tmp_path,
        env=os.environ | {"MYPYPATH": f"{root}/src"},
        capture_output=True,
        text=True,
        check=False,
    )
    refused: dict[str, str] = {}
    for line in (line for line in done.stdout.splitlines() if " error: " in line):
        number = int(line.split(":")[1])
        refused.setdefault(source.splitlines()[number - 1], line)
    assert list(refused) == list(BAD), done.stdout + done.stderr
    assert [line for statement, line in refused.items() if BAD[statement] not in line] == []


# -- the clock --------------------------------------------------------------------------------------------------------


class Watchdog(Daemon):
    def __init__(self, deadlines: Deadlines, planes: Planes | None = None) -> None:
        self.deadlines = deadlines
        self.planes = planes

    async def run(self, ctx: Context) -> None: ...


def test_a_pipeline_as_it_runs_has_the_clock_that_it_asks_for_and_says_so_as_a_file() -> None:
    p = Pipeline("p")
    p.add(Watchdog, name="dog")
    assert p.check() == ()
    assert [daemon.name for daemon in p.spec.daemons] == ["dog"]
    assert [daemon.name for daemon in p.whole.daemons] == ["dog", "clock"]
    assert [channel.name for channel in p.whole.channels] == ["dog-deadlines", "dog-planes"]
    again = read(tables_of(p.whole))
    assert again.faults == ()
    assert again.spec == p.whole


def test_a_clock_may_be_declared_and_connected_by_hand() -> None:
    p = Pipeline("p")
    dog = p.add(Watchdog, name="dog")
    clock = p.add(ReactorClock, name="time", process="dog")
    p.connect(dog.deadlines, clock.clients, name="mine", maxsize=512)
    assert p.check() == ()
    assert [daemon.name for daemon in p.whole.daemons] == ["dog", "time"]
    assert [(channel.name, channel.maxsize) for channel in p.whole.channels] == [("mine", 512), ("dog-planes", 64)]
