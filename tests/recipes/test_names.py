"""Every recipe is found under `geartrain.recipes`, and under the module it had in chrono-daemon, in any order."""

import subprocess
import sys
from importlib import import_module

import pytest

from geartrain import recipes

NAMES = {
    "coordination": ["Pending", "batcher_loop", "cooperative_every", "select", "serve", "submit"],
    "hosting": ["SupervisorHost", "host_async_dispatcher"],
    "ready_made": ["LoadBalance", "Merge", "Tee", "WorkerPool"],
    "routing": ["load_balance", "merge", "tee", "worker_pool"],
    "state": ["CoalesceSend", "DropNewestSend", "DropOldestSend", "Latest"],
}

# The modules of chrono-daemon 0.1.1, and what could be imported from each.
FORMER = {
    "batcher": ["Pending", "batcher_loop", "submit"],
    "cooperative_every": ["cooperative_every"],
    "fanout": ["tee"],
    "latest": ["Latest"],
    "load_balance": ["load_balance"],
    "lossy": ["CoalesceSend", "DropNewestSend", "DropOldestSend"],
    "merge": ["merge"],
    "select": ["select"],
    "supervisor_host": ["SupervisorHost"],
    "sync_bridge": ["host_async_dispatcher"],
    "worker_pool": ["worker_pool"],
}


@pytest.mark.parametrize(("room", "names"), NAMES.items())
def test_every_name_of_a_room_can_be_imported_from_recipes(room: str, names: list[str]) -> None:
    for name in names:
        assert getattr(recipes, name) is getattr(import_module(f"geartrain.recipes.{room}"), name)


def test_recipes_names_all_of_them_and_nothing_else() -> None:
    everything = sorted(name for names in NAMES.values() for name in names)
    assert recipes.__all__ == everything
    assert dir(recipes) == everything


@pytest.mark.parametrize(("module", "names"), FORMER.items())
def test_a_former_module_leads_to_the_same_objects_by_its_short_and_by_its_long_path(
    module: str, names: list[str]
) -> None:
    (room,) = (room for room, those in NAMES.items() if names[0] in those)
    for path in (f"geartrain.recipes.{module}", f"geartrain.recipes.{room}.{module}"):
        former = import_module(path)
        for name in names:
            assert getattr(former, name) is getattr(recipes, name), path


def test_a_name_that_is_no_recipe_is_refused_as_python_does() -> None:
    with pytest.raises(AttributeError, match=r"^module 'geartrain.recipes' has no attribute 'teh'$"):
        _ = recipes.teh
    with pytest.raises(AttributeError):
        _ = import_module("geartrain.recipes.fanout").teh
    with pytest.raises(ImportError):
        import_module("geartrain.recipes.teh")


# Each order is tried in fresh modules, all in one new process: what this one has imported proves nothing.
ORDERS = """
import importlib, itertools, sys

FORMER = {former!r}

def forget():
    for name in [name for name in sys.modules if name.startswith("geartrain.recipes")]:
        del sys.modules[name]

def first_then(first, second):
    forget()
    for statement in (first, second):
        exec(statement, {{}})
    import geartrain.recipes as recipes
    for module, names in FORMER.items():
        former = importlib.import_module("geartrain.recipes." + module)
        for name in names:
            assert getattr(former, name) is getattr(recipes, name), (first, second, module, name)
    for name in ("merge", "select", "load_balance", "worker_pool", "cooperative_every"):
        function = getattr(recipes, name)
        assert type(function).__name__ == "function", (first, second, function)
        assert recipes.__dict__[name] is function, (first, second, name)

STATEMENTS = [
    "import geartrain.recipes",
    "from geartrain.recipes import merge; merge.__code__",
    "import geartrain.recipes.merge",
    "from geartrain.recipes.merge import merge; merge.__code__",
    "import importlib; importlib.import_module('geartrain.recipes.merge').merge.__code__",
    "from geartrain.recipes.select import select; select.__code__",
    "from geartrain.recipes import fanout; fanout.tee.__code__",
    "from geartrain.recipes.batcher import Pending, batcher_loop, submit",
    "from geartrain.recipes.routing.merge import merge; merge.__code__",
    "import geartrain.recipes.coordination.select",
    "import geartrain.recipes.routing as routing; routing.merge.__code__",
    "from geartrain.recipes import routing, coordination, hosting, state",
    "from geartrain.recipes import *; merge.__code__; select.__code__",
]
for first, second in itertools.permutations(STATEMENTS, 2):
    first_then(first, second)
print("all orders lead to the same objects")
"""


def test_in_whatever_order_they_are_imported_a_function_stays_a_function() -> None:
    run = subprocess.run(
        [sys.executable, "-c", ORDERS.format(former=FORMER)], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.stderr == ""
    assert run.stdout == "all orders lead to the same objects\n"


def test_to_import_recipes_loads_none_of_them() -> None:
    looked = "import geartrain.recipes, sys; print([m for m in sys.modules if m.startswith('geartrain.')])"
    run = subprocess.run([sys.executable, "-c", looked], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(run.stdout.strip("[]\n").replace("'", "").split(", "))
    former = {path for path in loaded if path.rpartition(".")[2] in FORMER}
    assert loaded - former == {"geartrain.recipes"}
