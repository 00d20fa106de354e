"""What `import geartrain` gives, and what it costs."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import geartrain

PROMISED = (
    "Channel SendStream ReceiveStream ChannelStats open_channel EndOfStream ChannelClosed ChannelInUse WouldBlock "
    "GeartrainError DaemonError Clock WallClock SimClock Context Daemon daemon Supervisor RestartPolicy OnError "
    "DaemonHealth DaemonState DaemonFailurePhase Observer Deadlock simulate Pipeline PipelineFaulty Fault "
    "Caller Calls Call CallChannel CallStats open_calls CallFailed CallTimeout ServerGone "
    "ActiveRunner decide_service_claim "
    "mono_ns LatencyHistogram PlaneClock GateInvalid DeadlineScheduler Deadline"
)


def loaded_after(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after running some code."""
    script = f"{code}\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("name", PROMISED.split())
def test_a_promised_name_is_at_the_front_door(name: str) -> None:
    assert getattr(geartrain, name) is not None
    assert name in dir(geartrain)


def test_an_unknown_name_is_an_attribute_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Chanel'"):
        _ = geartrain.Chanel


def test_the_front_door_loads_nothing_behind_it() -> None:
    bare = loaded_after("")
    assert loaded_after("import geartrain") - bare == {"geartrain"}


def test_a_program_on_asyncio_never_loads_trio_zmq_or_a_command_line() -> None:
    loaded = loaded_after(
        "from geartrain import SimClock, Supervisor, open_channel, simulate\n"
        "import geartrain.recipes.routing, geartrain.recipes.coordination\n"
        "async def main():\n"
        "    async with Supervisor(clock=SimClock()): pass\n"
        "simulate(main)\n"
    )
    assert not loaded & {"trio", "zmq", "click", "rich", "pytest", "hypothesis"}


def test_importing_the_runtime_loads_neither_loop() -> None:
    loaded = loaded_after("from geartrain import SimClock, Supervisor, open_channel")
    assert not {name for name in loaded if name in ("asyncio", "trio") or name.startswith("anyio._backends._")}


def test_the_built_wheel_holds_what_an_editable_install_shows(tmp_path: Path) -> None:
    root = Path(__file__).parent.parent
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=root,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if not name.split("/")[0].endswith(".dist-info")}
    here = {path.relative_to(root / "src") for path in (root / "src").rglob("*.py")}
    here |= {path.relative_to(root / "transports") for path in (root / "transports").rglob("*.py")}
    here |= {Path("geartrain/py.typed"), Path("geartrain_zmq/py.typed")}
    here |= {path.relative_to(root / "src") for path in (root / "src/geartrain/faces/template").iterdir()}
    page = root / "src/geartrain/faces/web"
    here |= {path.relative_to(root / "src") for path in page.rglob("*") if path.is_file()}
    assert held == {str(path) for path in here}
