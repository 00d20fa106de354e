"""Patterns on top of channels: routing, coordination, state, hosting. All are importable from here.

Programs written for chrono-daemon import them from a module each (`recipes.merge`, `recipes.batcher`, ...); those
paths lead here too.
"""

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geartrain.recipes.coordination import Pending as Pending
    from geartrain.recipes.coordination import batcher_loop as batcher_loop
    from geartrain.recipes.coordination import cooperative_every as cooperative_every
    from geartrain.recipes.coordination import select as select
    from geartrain.recipes.coordination import serve as serve
    from geartrain.recipes.coordination import submit as submit
    from geartrain.recipes.hosting import SupervisorHost as SupervisorHost
    from geartrain.recipes.hosting import host_async_dispatcher as host_async_dispatcher
    from geartrain.recipes.ready_made import LoadBalance as LoadBalance
    from geartrain.recipes.ready_made import Merge as Merge
    from geartrain.recipes.ready_made import Tee as Tee
    from geartrain.recipes.ready_made import WorkerPool as WorkerPool
    from geartrain.recipes.routing import load_balance as load_balance
    from geartrain.recipes.routing import merge as merge
    from geartrain.recipes.routing import tee as tee
    from geartrain.recipes.routing import worker_pool as worker_pool
    from geartrain.recipes.state import CoalesceSend as CoalesceSend
    from geartrain.recipes.state import DropNewestSend as DropNewestSend
    from geartrain.recipes.state import DropOldestSend as DropOldestSend
    from geartrain.recipes.state import Latest as Latest

_ROOMS = {
    "coordination": ("Pending", "batcher_loop", "cooperative_every", "select", "serve", "submit"),
    "hosting": ("SupervisorHost", "host_async_dispatcher"),
    "ready_made": ("LoadBalance", "Merge", "Tee", "WorkerPool"),
    "routing": ("load_balance", "merge", "tee", "worker_pool"),
    "state": ("CoalesceSend", "DropNewestSend", "DropOldestSend", "Latest"),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

# chrono-daemon's module for each recipe, and where its names are here. They are entered into sys.modules and not
# made files, because importing a file `merge` would put the module in the place of the function `recipes.merge`.
_FORMER_MODULES = {
    "batcher": "coordination",
    "cooperative_every": "coordination",
    "fanout": "routing",
    "latest": "state",
    "load_balance": "routing",
    "lossy": "state",
    "merge": "routing",
    "select": "coordination",
    "supervisor_host": "hosting",
    "sync_bridge": "hosting",
    "worker_pool": "routing",
}

__all__ = sorted(_ROOM_OF)


class _FormerModule(ModuleType):
    """A module path that leads to another module's names."""

    def __init__(self, name: str, room: str) -> None:
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None)
        self.__all__ = _ROOMS[room]
        self._room = room

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(f"geartrain.recipes.{self._room}"), name)


for _name, _room in _FORMER_MODULES.items():
    for _path in (f"{__name__}.{_name}", f"{__name__}.{_room}.{_name}"):
        sys.modules[_path] = _FormerModule(_path, _room)


def __getattr__(name: str) -> Any:
    if name in _ROOM_OF:
        value = globals()[name] = getattr(import_module(f"geartrain.recipes.{_ROOM_OF[name]}"), name)
        return value
    if name in _FORMER_MODULES:
        return sys.modules[f"{__name__}.{name}"]
    raise AttributeError(f"module 'geartrain.recipes' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
