"""The plan of the house, checked: who may import whom.

errors <- rules <- ports <- engine <- actors, recipes <- faces
                     ^
                 transports/*
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SRC = ROOT / "src" / "geartrain"

# Each floor sees itself and what is named here.
SEES = {
    "errors": set[str](),
    "rules": {"errors"},
    "ports": {"errors", "rules"},
    "engine": {"errors", "rules", "ports"},
    "actors": {"errors", "rules", "ports", "engine"},
    "recipes": {"errors", "rules", "ports", "engine"},
    "faces": {"errors", "rules", "ports", "engine", "actors", "recipes"},
    "__main__": {"faces"},
    "testing": {"faces"},
}
A_TRANSPORT_SEES = {"errors", "rules", "ports"}

# What on the ground floor would read a clock, draw a number, wait, or open something.
NOT_ON_THE_GROUND = {"time", "random", "secrets", "uuid", "os", "io", "socket", "subprocess", "threading", "asyncio",
                     "pathlib", "signal", "logging", "tempfile", "contextvars", "datetime"}  # fmt: skip


def imports_of(source: str) -> Iterator[tuple[str, int]]:
    """Every module that is imported when the file runs or is called, with the level of a relative import."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((f"{node.module or ''}.{alias.name}", node.level) for alias in node.names)


def faults(floor: str, source: str) -> list[str]:
    """What is wrong with a file of this floor; a transport is the floor "transport"."""
    sees = A_TRANSPORT_SEES if floor == "transport" else SEES[floor] | {floor}
    found = []
    for name, level in imports_of(source):
        parts = name.split(".")
        if level:
            found.append(f"a relative import of {name!r}: the floor must show")
        elif parts[0] == "geartrain":
            if len(parts) < 2 or parts[1] not in SEES:
                found.append(f"{name!r} comes through the front door")
            elif parts[1] not in sees:
                found.append(f"{floor} must not see {parts[1]} ({name})")
        elif parts[0].startswith("geartrain_") and floor != "transport":
            found.append(f"{floor} names a transport ({name})")
        elif floor in ("rules", "errors"):
            if parts[0] not in sys.stdlib_module_names and parts[0] != "msgspec":
                found.append(f"{floor} imports {name}: the pure standard library and msgspec only")
            elif parts[0] in NOT_ON_THE_GROUND:
                found.append(f"{floor} imports {name}: time, chance and names are arguments there")
    if floor in ("rules", "errors"):
        found += [f"an async def on the ground floor: {node.name}" for node in ast.walk(ast.parse(source))
                  if isinstance(node, ast.AsyncFunctionDef)]  # fmt: skip
    return found


def floor_of(path: Path) -> str:
    return path.relative_to(SRC).parts[0].removesuffix(".py")


SOURCES = sorted(path for path in SRC.rglob("*.py") if path.name != "__init__.py" or path.parent != SRC)
TRANSPORTS = sorted((ROOT / "transports").rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(SRC)))
def test_a_file_sees_only_the_floors_below_it(path: Path) -> None:
    assert faults(floor_of(path), path.read_text()) == []


def test_a_transport_sees_errors_rules_and_ports_only() -> None:
    """But for its own front door, which may hand out names of geartrain's (ADR 10)."""
    rooms = [path for path in TRANSPORTS if path.name != "__init__.py"]
    assert [fault for path in rooms for fault in faults("transport", path.read_text())] == []
    doors = [fault for path in TRANSPORTS if path not in rooms for fault in faults("transport", path.read_text())]
    assert [fault for fault in doors if "front door" not in fault] == []


def test_the_front_door_imports_nothing_when_it_is_opened() -> None:
    tree = ast.parse((SRC / "__init__.py").read_text())
    assert not [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]


@pytest.mark.parametrize(
    ("floor", "planted", "said"),
    [
        ("rules", "from geartrain.engine.channel import Channel", "rules must not see engine"),
        ("ports", "import geartrain.engine.supervisor", "ports must not see engine"),
        ("engine", "from geartrain.recipes import tee", "engine must not see recipes"),
        ("recipes", "from geartrain.actors.clock import ReactorClock", "recipes must not see actors"),
        ("engine", "from geartrain import Channel", "front door"),
        ("engine", "import geartrain", "front door"),
        ("engine", "from .channel import Channel", "relative import"),
        ("engine", "from geartrain_zmq import open_pair", "names a transport"),
        ("transport", "from geartrain.engine.channel import Channel", "transport must not see engine"),
        ("rules", "import time", "arguments"),
        ("rules", "import anyio", "msgspec only"),
        ("rules", "def f():\n    from random import random", "arguments"),
        ("rules", "async def f(): ...", "async def"),
        ("errors", "from geartrain.rules.checks import number", "errors must not see rules"),
    ],
)
def test_a_planted_violation_is_caught(floor: str, planted: str, said: str) -> None:
    assert any(said in fault for fault in faults(floor, planted))


def test_every_import_package_says_that_it_is_typed() -> None:
    assert (SRC / "py.typed").exists()
    packages = [path.parent for path in (ROOT / "transports").glob("*/__init__.py")]
    assert [package.name for package in packages if not (package / "py.typed").exists()] == []
