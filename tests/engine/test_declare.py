"""From "module:attr" to a daemon: what is found, what it asks for, how its config is decoded, and every refusal."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
import pytest

from geartrain import (
    Caller,
    Calls,
    Channel,
    ClockClient,
    Context,
    Daemon,
    Deadlines,
    Planes,
    ReceiveStream,
    SendStream,
    daemon,
    open_channel,
    open_deadlines,
)
from geartrain.engine.declare import (
    Target,
    as_in_a_file,
    build,
    checked_target,
    load,
    load_daemon,
    needed_memories,
    run_of,
    signature_of,
)
from geartrain.engine.planes import PlaneBoard
from geartrain.errors import BadType, BadValue, CannotLoad
from geartrain.ports.run_memory import RunMemory
from geartrain.rules.signature import Port, Signature
from tests.ports.written_runs import WrittenRun

T = TypeVar("T")


class Frame(msgspec.Struct):
    number: int


class Silent(Daemon):
    async def run(self, ctx: Context) -> None: ...


class Camera(Silent):
    def __init__(self, frames: SendStream[Frame], fps: int, mode: Literal["day", "night"] = "day") -> None:
        self.frames = frames
        self.fps = fps
        self.mode = mode


@daemon(name="watcher")
async def watch(
    ctx: Context, frames: "ReceiveStream[Frame]", tap: SendStream[Frame] | None = None, every: int = 1
) -> None: ...


class Outer:
    class Inner(Silent): ...


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with modules of its own, that leaves no trace in this process."""
    path, modules = list(sys.path), set(sys.modules)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def refusal_of(target: str, folder: Path | None = None) -> str:
    with pytest.raises(CannotLoad) as refusal:
        load_daemon(target, folder)
    return str(refusal.value)


# -- finding ----------------------------------------------------------------------------------------------------------


def test_a_daemon_is_found_by_its_module_and_name(folder: Path) -> None:
    (folder / "eyes.py").write_text(
        "from geartrain import Daemon\n"
        "class Camera(Daemon):\n"
        "    async def run(self, ctx): ...\n"
        "class Box:\n"
        "    Camera = Camera\n"
    )
    found = load_daemon("eyes:Camera", folder)
    assert found is sys.modules["eyes"].Camera
    assert load_daemon("eyes:Box.Camera", folder) is found


def test_a_module_of_pythons_is_not_hidden_by_one_beside_the_file(folder: Path) -> None:
    assert "colorsys" not in sys.modules
    (folder / "colorsys.py").write_text("")
    assert callable(load("colorsys:rgb_to_hsv", folder))


@pytest.mark.parametrize("target", ["vision", "vision:", ":Camera", "", "vision.Camera", "\0.py:Camera"])
def test_a_target_that_is_no_module_and_name_is_refused(target: str) -> None:
    assert refusal_of(target) == f'expected "module:attr", as "vision:Camera", got {target!r}'


def test_a_module_that_is_not_there_is_refused_with_the_nearest(folder: Path) -> None:
    (folder / "telescope.py").write_text("")
    assert refusal_of("telescoop:Camera", folder) == "there is no module 'telescoop'; did you mean 'telescope'?"
    assert refusal_of("zzqqxx.sub:Camera") == (
        "there is no module 'zzqqxx'; looked for beside the pipeline file and where Python looks"
    )


def test_a_module_that_lacks_a_module_of_its_own_is_an_import_that_failed(folder: Path) -> None:
    (folder / "eyes.py").write_text("\nimport lens_driver\n")
    assert refusal_of("eyes:Camera", folder) == (
        f"eyes cannot be imported: ModuleNotFoundError: No module named 'lens_driver', at {folder}/eyes.py:2"
    )


@pytest.mark.parametrize(
    ("source", "words", "line"),
    [
        ("\n1 / 0\n", "ZeroDivisionError: division by zero", 2),
        ("def f():\n    raise ValueError('no')\nf()\n", "ValueError: no", 2),
        ("def f(:\n", "SyntaxError: invalid syntax", 1),
        ("import sys\nsys.exit(3)\n", "SystemExit: 3", 2),
    ],
)
@pytest.mark.parametrize("target", ["eyes:Camera", "eyes.py:Camera"])
def test_an_import_that_fails_says_where_and_keeps_its_own_traceback(
    folder: Path, source: str, words: str, line: int, target: str
) -> None:
    (folder / "eyes.py").write_text(source)
    with pytest.raises(CannotLoad) as refusal:
        load(target, folder)
    title = target.partition(":")[0]
    assert str(refusal.value) == f"{title} cannot be imported: {words}, at {folder}/eyes.py:{line}"
    assert f'File "{folder}/eyes.py", line {line}' in refusal.value.trace
    assert words in refusal.value.trace
    assert "importlib" not in refusal.value.trace
    assert "declare.py" not in refusal.value.trace
    # A second try imports again, and does not find half a module.
    with pytest.raises(CannotLoad, match="cannot be imported"):
        load(target, folder)


def test_a_name_that_is_not_there_is_refused_with_the_nearest_daemon(folder: Path) -> None:
    (folder / "eyes.py").write_text(
        "from geartrain import Daemon, daemon\n"
        "class Camera(Daemon):\n"
        "    async def run(self, ctx): ...\n"
        "@daemon\n"
        "async def lens(ctx): ...\n"
    )
    assert refusal_of("eyes:Camra", folder) == "eyes has no 'Camra'; did you mean 'Camera'?"
    assert refusal_of("eyes:Zzz", folder) == "eyes has no 'Zzz'; known: Camera, lens"


async def plain(ctx: Context) -> None: ...


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Frame, "x is the class Frame, which is no Daemon; expected a Daemon class or an @daemon function"),
        (plain, "x is a plain async function; dress it with @daemon; expected a Daemon class or an @daemon function"),
        (Daemon, "x is not finished: it lacks run"),
        (5, "x is a int; expected a Daemon class or an @daemon function"),
    ],
)
def test_what_is_no_daemon_is_refused_by_what_it_is(found: object, words: str) -> None:
    with pytest.raises(CannotLoad) as refusal:
        checked_target(found, "x")
    assert str(refusal.value) == words


def test_a_daemon_that_is_made_already_is_refused() -> None:
    with pytest.raises(CannotLoad, match="x is a daemon that is made already"):
        checked_target(Silent(), "x")


# -- scripts ----------------------------------------------------------------------------------------------------------

SCRIPT = """
from geartrain import Daemon
import helper

class Camera(Daemon):
    async def run(self, ctx): ...

class Sink(Daemon):
    async def run(self, ctx): ...

if __name__ == "__main__":
    raise RuntimeError("the script ran")
"""


def test_a_script_is_loaded_once_without_running_its_main_part_and_finds_what_is_beside_it(folder: Path) -> None:
    (folder / "script.py").write_text(SCRIPT)
    (folder / "helper.py").write_text("")
    camera = load_daemon(f"{folder}/script.py:Camera")
    assert isinstance(camera, type)
    assert camera.__name__ == "Camera"
    assert load_daemon("script.py:Camera", folder) is camera
    assert load_daemon("script.py:Sink", folder).__module__ == camera.__module__ != "script"
    assert run_of(camera) == f"{folder}/script.py:Camera"


def test_a_script_that_is_not_there_is_refused(folder: Path) -> None:
    assert refusal_of("scrpt.py:Camera", folder) == f"there is no file '{folder}/scrpt.py'"


MAIN = """
from geartrain import Daemon, daemon
from geartrain.engine.declare import run_of

class Camera(Daemon):
    async def run(self, ctx): ...

@daemon(name="other")
async def lens(ctx): ...

if __name__ == "__main__":
    print(run_of(Camera), run_of(lens))
"""


def test_a_daemon_of_the_script_that_runs_is_told_by_the_path_of_the_script(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(MAIN)
    ran = subprocess.run(
        [sys.executable, "main.py"], cwd=tmp_path, env=_env(), capture_output=True, text=True, check=True
    )
    assert ran.stdout == f"{tmp_path}/main.py:Camera {tmp_path}/main.py:lens\n"


def test_a_daemon_of_a_module_that_runs_is_told_by_the_name_of_the_module(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(MAIN)
    ran = subprocess.run(
        [sys.executable, "-m", "main"], cwd=tmp_path, env=_env(), capture_output=True, text=True, check=True
    )
    assert ran.stdout == "main:Camera main:lens\n"


@pytest.mark.parametrize("way", [["-c", MAIN], ["-"]])
def test_a_daemon_that_was_typed_in_is_refused_with_what_to_do(tmp_path: Path, way: list[str]) -> None:
    ran = subprocess.run(
        [sys.executable, *way], cwd=tmp_path, env=_env(), capture_output=True, text=True, input=MAIN, check=False
    )
    assert ran.stderr.endswith(
        "BadType: Camera was typed in, and no other process can load it; put it into a file and import it\n"
    )


def _env() -> dict[str, str]:
    return {"PYTHONPATH": ":".join(part for part in sys.path if part)}


def test_a_daemon_of_a_module_is_told_by_its_module() -> None:
    assert run_of(Camera) == f"{__name__}:Camera"
    assert run_of(watch) == f"{__name__}:watch"
    assert run_of(Outer.Inner) == f"{__name__}:Outer.Inner"


def test_a_daemon_inside_a_function_is_refused_with_what_to_do() -> None:
    class Hidden(Silent): ...

    @daemon
    async def hidden(ctx: Context) -> None: ...

    targets: tuple[Target, ...] = (Hidden, hidden)
    for target in targets:
        with pytest.raises(BadType, match=r"idden is defined inside a function .*; move it to the top of its module$"):
            run_of(target)


# -- what it asks for -------------------------------------------------------------------------------------------------


def ports_of(target: Target) -> list[tuple[str, str, bool, bool]]:
    return [(port.name, port.does, port.many, port.optional) for port in signature_of(target).ports]


def only_port(target: Target) -> Port:
    (port,) = signature_of(target).ports
    return port


def test_the_streams_of_a_constructor_are_ports_and_the_rest_is_config() -> None:
    signature = signature_of(Camera)
    assert ports_of(Camera) == [("frames", "sends Frame", False, False)]
    assert [(field.name, field.type_name, field.required) for field in signature.config] == [
        ("fps", "int", True),
        ("mode", "typing.Literal['day', 'night']", False),
    ]


class Planner(Silent):
    def __init__(
        self, geo: Caller[Frame, int], asked: list[Calls[str, Frame]], spare: Caller[Frame, int] | None = None
    ) -> None: ...


def test_call_ports_are_ports_with_two_types() -> None:
    assert ports_of(Planner) == [
        ("geo", "calls with Frame for int", False, False),
        ("asked", "is called with str for Frame", True, False),
        ("spare", "calls with Frame for int", False, True),
    ]


class Untyped(Silent):
    def __init__(self, geo: Caller) -> None: ...  # type: ignore[type-arg]


def test_each_type_that_a_call_port_leaves_open_is_for_itself() -> None:
    port = only_port(Untyped)
    assert port.reply is not None
    assert port.item.variable != port.reply.variable


class Cut(Silent, Generic[T]):
    def __init__(self, geo: Calls[int, list[T]]) -> None: ...


def test_replies_of_a_type_that_is_not_known_are_refused() -> None:
    with pytest.raises(BadType, match=r"^port 'geo' of Cut has replies of type list\[~T\]"):
        signature_of(Cut)


def test_the_context_of_a_function_is_skipped_and_text_annotations_are_resolved() -> None:
    assert ports_of(watch) == [("frames", "expects Frame", False, False), ("tap", "sends Frame", False, True)]
    assert [field.name for field in signature_of(watch).config] == ["every"]


def test_a_module_whose_annotations_are_all_text_is_understood(folder: Path) -> None:
    (folder / "eyes.py").write_text(
        "from __future__ import annotations\n"
        "from geartrain import Daemon, SendStream, daemon\n"
        "class Frame: ...\n"
        "class Camera(Daemon):\n"
        "    def __init__(self, out: SendStream[Frame] | None, fps: int): ...\n"
        "    async def run(self, ctx): ...\n"
    )
    assert ports_of(load_daemon("eyes:Camera", folder)) == [("out", "sends Frame", False, True)]


class Many(Silent):
    def __init__(
        self,
        several: list[ReceiveStream[int]],
        spread: list[SendStream[int]] | None = None,
        plain: list[int] | None = None,
    ) -> None: ...


def test_a_list_of_streams_takes_several_channels_and_may_be_optional() -> None:
    assert ports_of(Many) == [("several", "expects int", True, False), ("spread", "sends int", True, True)]
    assert [field.name for field in signature_of(Many).config] == ["plain"]


class Base(Silent):
    def __init__(self, out: SendStream[int]) -> None: ...


class Derived(Base): ...


@dataclass
class Written(Silent):
    out: SendStream[int]
    fps: int = 3
    more: list[SendStream[int]] = field(default_factory=list)


class Bare(Silent):
    def __init__(self, out: SendStream) -> None: ...  # type: ignore[type-arg]


def test_a_constructor_may_be_inherited_written_by_a_dataclass_or_missing() -> None:
    assert ports_of(Derived) == [("out", "sends int", False, False)]
    assert ports_of(Written) == [("out", "sends int", False, False), ("more", "sends int", True, True)]
    assert signature_of(Silent) == Signature()


class Passing(Silent, Generic[T]):
    def __init__(self, inp: ReceiveStream[T], out: SendStream[T], any_: SendStream[Any]) -> None: ...


def test_a_type_variable_and_any_are_left_open_each_any_for_itself() -> None:
    assert [port.item.variable for port in signature_of(Passing).ports] == ["T", "T", "the type of any_"]
    assert only_port(Bare).item.text == "Any"


class Box(msgspec.Struct):
    inside: list["Box"]
    lock: threading.Event


class Tree(msgspec.Struct):
    branches: list["Tree"]
    names: dict[str, int | None]


class Locks(Silent):
    def __init__(
        self,
        bare: SendStream[threading.Event],
        inside: SendStream[list[Box]],
        odd: SendStream[int | threading.Event],
        tree: SendStream[Tree],
    ) -> None: ...


def test_items_that_msgspec_cannot_encode_are_known_to_stay_in_their_process() -> None:
    bare, inside, odd, tree = (port.item for port in signature_of(Locks).ports)
    assert bare.stays_because == inside.stays_because == "there is no encoding for Event"
    assert odd.stays_because is not None
    assert tree.stays_because is None
    assert inside.text == "list[tests.engine.test_declare.Box]"


class Star(Silent):
    def __init__(self, *outs: SendStream[int]) -> None: ...


class Stars(Silent):
    def __init__(self, **more: int) -> None: ...


class Untold(Silent):
    def __init__(self, out) -> None: ...  # type: ignore[no-untyped-def]


class Positional(Silent):
    def __init__(self, out: SendStream[int], /) -> None: ...


class Tuple(Silent):
    def __init__(self, outs: tuple[SendStream[int], ...]) -> None: ...


class Partly(Silent, Generic[T]):
    def __init__(self, out: SendStream[list[T]]) -> None: ...


class Lost(Silent):
    def __init__(self, out: "SendStream[Nowhere]") -> None: ...  # type: ignore[name-defined] # noqa: F821


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (Star, "Star takes *outs, which a pipeline cannot fill; give each parameter a name, and several ports a list"),
        (Stars, "Stars takes **more, which a pipeline cannot fill; give each parameter a name, and several ports a "
         "list"),
        (Untold, "parameter 'out' of Untold has no annotation, so what it is cannot be known"),
        (Positional, "Positional takes 'out' by position only; let it be given by name"),
        (Tuple, "parameter 'outs' of Tuple is tuple[geartrain.engine.ends.SendStream[int], ...]; a port is "
         "SendStream[T], ReceiveStream[T], Caller[Request, Reply] or Calls[Request, Reply], a list of them, or one of "
         "them or None"),
        (Partly, "port 'out' of Partly has items of type list[~T], which is not known until it is filled in; use a "
         "type variable by itself, or a whole type"),
        (Lost, "an annotation of Lost cannot be resolved: name 'Nowhere' is not defined; import the name where the "
         "module runs, and not for type checkers only"),
    ],
)  # fmt: skip
def test_a_constructor_that_a_pipeline_cannot_fill_is_refused(target: Target, words: str) -> None:
    with pytest.raises(BadType) as refusal:
        signature_of(target)
    assert str(refusal.value) == words


# -- config -----------------------------------------------------------------------------------------------------------


class Lens(msgspec.Struct, forbid_unknown_fields=True):
    focus: float
    notes: Path | None = None


class Settings(Silent):
    def __init__(
        self,
        lens: Lens,
        folder: Path,
        every: timedelta,
        limit: timedelta | None = None,
        size: Annotated[int, msgspec.Meta(ge=1)] = 1,
        either: int | str = 0,
        frames: SendStream[int] | None = None,
    ) -> None:
        self.said = (lens, folder, every, limit, size, either)


def decoded(name: str, value: object) -> object:
    (found,) = (one for one in signature_of(Settings).config if one.name == name)
    return found.decode(value)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("lens", {"focus": 0.5, "notes": "a.txt"}, Lens(0.5, Path("a.txt"))),
        ("lens", {"focus": 1}, Lens(1.0)),
        ("folder", "a/b", Path("a/b")),
        ("every", "250ms", timedelta(milliseconds=250)),
        ("limit", "1h", timedelta(hours=1)),
        ("size", 5, 5),
        ("either", "x", "x"),
        ("either", 7, 7),
    ],
)
def test_config_is_decoded_to_the_type_of_its_parameter(name: str, value: object, expected: object) -> None:
    assert decoded(name, value) == expected


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("lens", {"focus": "x"}, "expected `float`, got `str` - at `$.focus`"),
        ("lens", {"focus": 1, "fokus": 2}, "object contains unknown field `fokus`"),
        ("lens", {"focus": 1, "notes": 5}, "expected `str` for a Path, got `int` - at `$.notes`"),
        ("folder", 5, "expected `str` for a Path, got `int`"),
        ("every", 5, 'must be text with a unit, as "250ms", "5s" or "1h30m", got 5'),
        ("every", "soon", 'must have units (h, m, s, ms, us), as "250ms", "5s" or "1h30m", got \'soon\''),
        ("size", 0, "expected `int` >= 1"),
        ("size", "5", "expected `int`, got `str`"),
        ("size", True, "expected `int`, got `bool`"),
        ("either", 0.5, "expected `int | str`, got `float`"),
    ],
)
def test_config_of_another_type_is_refused_in_words(name: str, value: object, words: str) -> None:
    with pytest.raises(BadValue) as refusal:
        decoded(name, value)
    assert str(refusal.value) == words


class Odd(Silent):
    def __init__(self, lock: threading.Event) -> None: ...


def test_config_that_no_file_can_say_is_refused_in_words() -> None:
    with pytest.raises(BadValue, match="Event"):
        signature_of(Odd).config[0].decode(5)


def test_config_of_python_becomes_what_a_file_would_say_and_is_read_as_the_same() -> None:
    said = {
        "lens": Lens(0.5, Path("a.txt")),
        "folder": Path("a"),
        "every": timedelta(seconds=90),
        "size": 3,
        "either": "x",
    }
    in_file = {name: as_in_a_file(value) for name, value in said.items()}
    assert in_file == {
        "lens": {"focus": 0.5, "notes": "a.txt"},
        "folder": "a",
        "every": "1m30s",
        "size": 3,
        "either": "x",
    }
    assert {name: decoded(name, value) for name, value in in_file.items()} == said


def test_config_of_python_that_no_file_can_say_is_refused() -> None:
    with pytest.raises(BadType, match=r"^a Event cannot be said in a pipeline file"):
        as_in_a_file([threading.Event()])


# -- the clock --------------------------------------------------------------------------------------------------------


class Watchdog(Silent):
    def __init__(self, deadlines: Deadlines, planes: Planes | None = None, board: PlaneBoard | None = None) -> None:
        self.parts = (deadlines, planes, board)


class OwnClock(Silent):
    def __init__(self, clients: list[ClockClient]) -> None: ...


def test_who_takes_deadlines_or_planes_asks_the_clock_and_the_clock_serves_a_list() -> None:
    signature = signature_of(Watchdog)
    assert [(port.name, port.sends, port.optional, port.clock) for port in signature.ports] == [
        ("deadlines", True, False, "deadlines"),
        ("planes", True, True, "planes"),
    ]
    assert signature.boards == ("board",)
    assert signature.config == ()
    assert all(port.asks_clock for port in signature.ports)
    [clients] = signature_of(OwnClock).ports
    assert (clients.sends, clients.many, clients.clock, clients.asks_clock) == (False, True, "clients", False)


def test_a_board_is_given_to_who_takes_one() -> None:
    board, end = PlaneBoard([]), open_deadlines().end
    made = build(Watchdog, {"board": board, "deadlines": end}, {})
    assert isinstance(made, Watchdog)
    assert made.parts == (end, None, board)


class Looker(Silent):
    def __init__(self, memory: RunMemory, poll: timedelta = timedelta(seconds=1)) -> None:
        self.memory = memory


class Glancer(Silent):
    def __init__(self, memory: RunMemory | None = None) -> None: ...


def test_what_a_run_writes_down_is_given_to_who_takes_it(tmp_path: Path) -> None:
    signature = signature_of(Looker)
    assert signature.memories == ("memory",)
    assert [field.name for field in signature.config] == ["poll"]
    memory = WrittenRun(tmp_path).memory()
    made = build(Looker, {"memory": memory}, {})
    assert isinstance(made, Looker)
    assert made.memory is memory
    assert needed_memories(Looker) == ("memory",)
    assert needed_memories(Glancer) == ()


# -- making -----------------------------------------------------------------------------------------------------------


def test_a_daemon_is_made_of_its_ends_and_its_decoded_config() -> None:
    frames: SendStream[Frame] = open_channel(1).send
    camera = build(Camera, {"frames": frames}, {"fps": 5, "mode": "night"})
    assert isinstance(camera, Camera)
    assert (camera.frames, camera.fps, camera.mode) == (frames, 5, "night")


def test_what_is_not_given_has_its_default_and_an_optional_port_without_one_is_none() -> None:
    made = build(Settings, {}, {"lens": {"focus": 1}, "folder": "x", "every": "1s"})
    assert isinstance(made, Settings)
    assert made.said == (Lens(1.0), Path("x"), timedelta(seconds=1), None, 1, 0)
    wanting = build(Wanting, {}, {})
    assert isinstance(wanting, Wanting)
    assert wanting.out is None


class Wanting(Silent):
    def __init__(self, out: SendStream[int] | None) -> None:
        self.out = out


def test_every_daemon_that_is_made_is_a_new_one() -> None:
    assert build(Silent, {}, {}) is not build(Silent, {}, {})


async def test_a_function_daemon_is_made_of_its_ends_too() -> None:
    channel: Channel[Frame] = open_channel(1)
    made = build(watch, {"frames": channel.recv}, {"every": 3})
    assert re.match(r"<daemon 'watcher'>", repr(made))


@daemon
async def label(ctx: Context, name: str, fn: int) -> None: ...


def test_a_parameter_of_a_function_may_have_any_name() -> None:
    assert repr(build(label, {}, {"name": "x", "fn": 1})) == "<daemon 'label'>"
