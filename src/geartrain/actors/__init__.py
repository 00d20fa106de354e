"""System daemons: written with what every daemon has, supervised like any other, and added to a pipeline that asks.

Each is imported when it is first asked for: the process of a clock has no use for an arbiter.
"""

TYPE_CHECKING = False

if TYPE_CHECKING:
    from geartrain.actors.arbiter import LeaseArbiter as LeaseArbiter
    from geartrain.actors.clock import ReactorClock as ReactorClock
    from geartrain.actors.services import ServiceKeeper as ServiceKeeper

_ROOM_OF = {"LeaseArbiter": "arbiter", "ReactorClock": "clock", "ServiceKeeper": "services"}

__all__ = sorted(_ROOM_OF)


def __getattr__(name: str) -> object:
    if name not in _ROOM_OF:
        raise AttributeError(f"module 'geartrain.actors' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f"geartrain.actors.{_ROOM_OF[name]}"), name)
    return value


def __dir__() -> list[str]:
    return __all__
