"""From what a pipeline says of a daemon to the daemon itself: find it, see what it asks for, make it.

    load("vision:Camera")          the Daemon class or @daemon function that is named
    signature_of(target)           its ports and its config, as data for rules.wiring
    build(target, ends, config)    a new daemon, its ends and its decoded config as arguments

A parameter annotated `SendStream[T]`, `ReceiveStream[T]`, `Caller[Q, A]` or `Calls[Q, A]`, a list of them, or one of
them `| None`, is a port, and so is `Deadlines`, `Planes`, `Leases` or a list of `ClockClient` or `LeaseClient`; a
`PlaneBoard` gets all planes of the pipeline, and a `RunMemory` all that the run writes down of itself; `ctx` of a
function is skipped; every other parameter is config, decoded strictly by msgspec. Over msgspec, in parameters and
inside of Structs: a `Path`, or any class that is made of one text, is text; a `timedelta` that is a parameter is a
duration as in all files, "250ms".
"""

import importlib
import inspect
import pkgutil
import sys
import traceback
import types
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path, PurePath
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
import msgspec.inspect

from geartrain.engine.calls import Caller, Calls
from geartrain.engine.daemon import Daemon, DaemonFactory
from geartrain.engine.deadlines import ClockClient, Deadlines, Planes
from geartrain.engine.ends import ReceiveStream, SendStream
from geartrain.engine.leases import LeaseClient, Leases
from geartrain.engine.planes import PlaneBoard
from geartrain.engine.shape import name_of, shape_of, why_it_stays
from geartrain.errors import BadType, BadValue, CannotLoad, GeartrainError, in_words
from geartrain.ports.run_memory import RunMemory
from geartrain.rules import lease_words
from geartrain.rules.appointments import Asked, Told
from geartrain.rules.durations import duration_text, seconds_of
from geartrain.rules.nearest import did_you_mean, nearest
from geartrain.rules.signature import ClockPort, ConfigField, ItemType, Port, Signature

Target = type[Daemon] | DaemonFactory[Any]
End = SendStream[Any] | ReceiveStream[Any] | Caller[Any, Any] | ClockClient | Leases | LeaseClient
Ends = Mapping[str, "End | list[End] | PlaneBoard | RunMemory"]

_CALLS = (Caller, Calls)
_CLOCK: dict[Any, ClockPort] = {
    Deadlines: "deadlines",
    Planes: "planes",
    ClockClient: "clients",
    Leases: "leases",
    LeaseClient: "lease_clients",
}

# The modules that were loaded from a script have this before their name, so that no import finds them by chance.
_SCRIPT = "geartrain script "


# -- finding ----------------------------------------------------------------------------------------------------------


def load(target: str, folder: Path | None = None) -> Any:
    """What "module:attr" or "path/to/script.py:attr" names. `folder`, that of the pipeline file, is a place to look.

    A script is loaded under another name, so that its `if __name__ == "__main__":` does not run.
    """
    where, _, attribute = target.rpartition(":")
    if not where or not attribute or not target.isprintable():
        raise CannotLoad(f'expected "module:attr", as "vision:Camera", got {target!r}')
    if where.endswith(".py"):
        module = _script(Path(where) if folder is None else folder / where)
    else:
        if folder is not None:
            _look_in(folder)
        module = _module(where)
    found: Any = module
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise CannotLoad(f"{where} has no {attribute!r}; {did_you_mean(name, _names_in(found))}")
        found = getattr(found, name)
    return found


def load_daemon(target: str, folder: Path | None = None) -> Target:
    """The Daemon class or `@daemon` function that is named."""
    return checked_target(load(target, folder), target)


def checked_target(found: object, title: str) -> Target:
    """What was found, if a daemon can be made of it."""
    if isinstance(found, DaemonFactory):
        return found
    if not (isinstance(found, type) and issubclass(found, Daemon)):
        raise CannotLoad(f"{title} is {_kind(found)}; expected a Daemon class or an @daemon function")
    if inspect.isabstract(found):
        lacks = ", ".join(sorted(found.__abstractmethods__))
        raise CannotLoad(f"{title} is not finished: it lacks {lacks}")
    return found


def name_in_words(target: Target) -> str:
    return target.name if isinstance(target, DaemonFactory) else target.__name__


def run_of(target: Target) -> str:
    """The text from which another process loads a target: "module:attr", or "script.py:attr" for the script itself."""
    inner = _function(target) if isinstance(target, DaemonFactory) else target
    return place_of(inner, name_in_words(target))


def place_of(inner: Any, title: str) -> str:
    """Where another process finds a class or a function."""
    if "<" in inner.__qualname__:
        raise BadType(
            f"{title} is defined inside a function ({inner.__qualname__}), where no other process finds it; "
            "move it to the top of its module"
        )
    module = inner.__module__
    if module == "__main__":
        module = _name_of_main(title)
    return f"{module.removeprefix(_SCRIPT)}:{inner.__qualname__}"


def _name_of_main(title: str) -> str:
    main = sys.modules["__main__"]
    if main.__spec__ is not None:
        return main.__spec__.name
    file = getattr(main, "__file__", None)
    if file is None or not Path(file).is_file():
        raise BadType(f"{title} was typed in, and no other process can load it; put it into a file and import it")
    return str(Path(file).resolve())


def _module(name: str) -> types.ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            close = nearest(error.name, [module.name for module in pkgutil.iter_modules()])
            hint = f"did you mean {close!r}?" if close else "looked for beside the pipeline file and where Python looks"
            raise CannotLoad(f"there is no module {error.name!r}; {hint}") from None
        raise _import_failed(name, error) from error
    except (Exception, SystemExit) as error:
        raise _import_failed(name, error) from error


def _script(path: Path) -> types.ModuleType:
    path = path.resolve()
    name = f"{_SCRIPT}{path}"
    if name in sys.modules:
        return sys.modules[name]
    if not path.is_file():
        raise CannotLoad(f"there is no file {str(path)!r}")
    _look_in(path.parent)
    spec = spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, Exception | SystemExit):
            raise _import_failed(path.name, error) from error
        raise
    return module


def _look_in(folder: Path) -> None:
    """Last of all, so that a file in there cannot take the place of a module of Python's."""
    if str(folder.resolve()) not in sys.path:
        sys.path.append(str(folder.resolve()))


def _import_failed(title: str, error: BaseException) -> CannotLoad:
    """The frames of the import machinery, and ours, tell nobody anything."""
    trace = traceback.TracebackException.from_exception(error)
    trace.stack = traceback.StackSummary.from_list(
        [frame for frame in trace.stack if "importlib" not in frame.filename and frame.filename != __file__]
    )
    at = f", at {trace.stack[-1].filename}:{trace.stack[-1].lineno}" if trace.stack else ""
    if isinstance(error, SyntaxError):
        at = f", at {error.filename}:{error.lineno}"
        return CannotLoad(f"{title} cannot be imported: SyntaxError: {error.msg}{at}", "".join(trace.format()))
    return CannotLoad(f"{title} cannot be imported: {in_words(error)}{at}", "".join(trace.format()))


def _names_in(found: object) -> list[str]:
    """What could have been meant: the daemons, where there are any."""
    public = [name for name in dir(found) if not name.startswith("_")]
    return [name for name in public if _is_target(getattr(found, name, None))] or public[:10]


def _is_target(value: object) -> bool:
    concrete = isinstance(value, type) and issubclass(value, Daemon) and not inspect.isabstract(value)
    return concrete or isinstance(value, DaemonFactory)


def _kind(value: object) -> str:
    if isinstance(value, Daemon):
        return f"a daemon that is made already ({value!r})"
    if isinstance(value, type):
        return f"the class {value.__name__}, which is no Daemon"
    if inspect.iscoroutinefunction(value):
        return "a plain async function; dress it with @daemon"
    return f"a {type(value).__name__}"


# -- what it asks for -------------------------------------------------------------------------------------------------


def signature_of(target: Target) -> Signature:
    """The ports and the config of a daemon, from its parameters."""
    title = name_in_words(target)
    ports: list[Port] = []
    config: list[ConfigField] = []
    boards: list[str] = []
    memories: list[str] = []
    for parameter, hint in _parameters(target, title):
        port = _port(title, parameter, hint)
        if port is not None:
            ports.append(port)
        elif _without_none(hint) is PlaneBoard:
            boards.append(parameter.name)
        elif _without_none(hint) is RunMemory:
            memories.append(parameter.name)
        else:
            config.append(_config_field(parameter, hint))
    return Signature(ports=tuple(ports), config=tuple(config), boards=tuple(boards), memories=tuple(memories))


def _parameters(target: Target, title: str) -> list[tuple[inspect.Parameter, Any]]:
    """The parameters, each with its annotation resolved."""
    function: Callable[..., Any] = _function(target) if isinstance(target, DaemonFactory) else target.__init__
    if function is object.__init__:
        return []
    parameters = list(inspect.signature(function).parameters.values())[1:]
    try:
        hints = get_type_hints(function, include_extras=True)
    except NameError as error:
        raise BadType(
            f"an annotation of {title} cannot be resolved: {error}; import the name where the module runs, "
            "and not for type checkers only"
        ) from None
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            star = "*" if parameter.kind == parameter.VAR_POSITIONAL else "**"
            raise BadType(
                f"{title} takes {star}{parameter.name}, which a pipeline cannot fill; "
                "give each parameter a name, and several ports a list"
            )
        if parameter.kind == parameter.POSITIONAL_ONLY:
            raise BadType(f"{title} takes {parameter.name!r} by position only; let it be given by name")
        if parameter.name not in hints:
            raise BadType(f"parameter {parameter.name!r} of {title} has no annotation, so what it is cannot be known")
    return [(parameter, hints[parameter.name]) for parameter in parameters]


def _function(factory: DaemonFactory[Any]) -> Any:
    return inspect.unwrap(factory)


def _port(title: str, parameter: inspect.Parameter, hint: Any) -> Port | None:
    plain = _without_none(hint)
    many = get_origin(plain) is list and bool(get_args(plain)) and _is_end(get_args(plain)[0])
    end = get_args(plain)[0] if many else plain
    if not _is_end(end):
        if _mentions_end(hint):
            raise BadType(
                f"parameter {parameter.name!r} of {title} is {name_of(hint)}; a port is SendStream[T], "
                "ReceiveStream[T], Caller[Request, Reply] or Calls[Request, Reply], a list of them, or one of them or "
                "None"
            )
        return None
    kind = get_origin(end) or end
    if kind in _CLOCK:
        return _clock_port(parameter, _CLOCK[kind], many=many, optional=plain is not hint)
    item_type, *reply_types = get_args(end) or ((Any, Any) if kind in _CALLS else (Any,))
    return Port(
        name=parameter.name,
        sends=kind in (SendStream, Caller),
        item=_item_type(title, parameter.name, item_type),
        many=many,
        optional=plain is not hint or parameter.default is not parameter.empty,
        reply=_item_type(title, parameter.name, reply_types[0], "replies") if reply_types else None,
    )


def _clock_port(parameter: inspect.Parameter, kind: ClockPort, *, many: bool, optional: bool) -> Port:
    return Port(
        name=parameter.name,
        sends=kind not in ("clients", "lease_clients"),
        item=_LEASE_ASKED if "lease" in kind else _ASKED,
        many=many,
        optional=optional or parameter.default is not parameter.empty,
        reply=_LEASE_TOLD if "lease" in kind else _TOLD,
        clock=kind,
    )


def _without_none(hint: Any) -> Any:
    """T of `T | None`; anything else as it is."""
    if get_origin(hint) in (Union, types.UnionType):
        rest = [part for part in get_args(hint) if part is not type(None)]
        if len(rest) == 1 and len(get_args(hint)) == 2:
            return rest[0]
    return hint


def _is_end(hint: Any) -> bool:
    return (get_origin(hint) or hint) in (SendStream, ReceiveStream, *_CALLS, *_CLOCK)


def _mentions_end(hint: Any) -> bool:
    return _is_end(hint) or any(_mentions_end(part) for part in get_args(hint))


def _item_type(title: str, port: str, item_type: Any, what: str = "items") -> ItemType:
    if isinstance(item_type, TypeVar):
        return ItemType(text=item_type.__name__, shape="", type=Any, variable=item_type.__name__)
    if item_type is Any:
        # Each Any is for itself: nothing says that two of them are the same.
        return ItemType(
            text="Any",
            shape="",
            type=Any,
            variable=f"the type of {what} at {port}" if what != "items" else f"the type of {port}",
        )
    if getattr(item_type, "__parameters__", ()):
        raise BadType(
            f"port {port!r} of {title} has {what} of type {name_of(item_type)}, which is not known until it is "
            "filled in; use a type variable by itself, or a whole type"
        )
    text = name_of(item_type)
    because = why_it_stays(item_type)
    if because is not None:
        return ItemType(text=text, shape=f"only here: {item_type!r}", type=item_type, stays_because=because)
    return ItemType(text=text, shape=shape_of(item_type), type=item_type)


_ASKED = ItemType(text="Asked", shape=shape_of(Asked), type=Asked)
_TOLD = ItemType(text="Told", shape=shape_of(Told), type=Told)
_LEASE_ASKED = ItemType(text="lease Asked", shape=shape_of(lease_words.Said), type=lease_words.Said)
_LEASE_TOLD = ItemType(text="lease Told", shape=shape_of(lease_words.Told), type=lease_words.Told)


# -- config -----------------------------------------------------------------------------------------------------------


def _config_field(parameter: inspect.Parameter, hint: Any) -> ConfigField:
    return ConfigField(
        name=parameter.name,
        type_name=name_of(hint),
        required=parameter.default is parameter.empty,
        decode=partial(_decoded, hint),
    )


def _decoded(hint: Any, value: Any) -> Any:
    """The value of a config parameter for what the file says."""
    try:
        if _without_none(hint) is timedelta:
            return timedelta(seconds=seconds_of(value, "it"))
        return msgspec.convert(value, hint, dec_hook=_made_of_text)
    except GeartrainError as error:
        raise BadValue(str(error).removeprefix("it ")) from error
    except (ValueError, RecursionError) as error:
        raise BadValue(f"{str(error)[:1].lower()}{str(error)[1:]}") from error
    except TypeError as error:
        raise BadValue(f"{name_of(hint)} cannot be said in a pipeline file: {error}") from error


def _made_of_text(kind: type, value: Any) -> Any:
    """Path, and what else is made of one text."""
    if not isinstance(value, str):
        raise BadValue(f"Expected `str` for a {kind.__name__}, got `{type(value).__name__}`")
    return kind(value)


def as_in_a_file(value: object) -> Any:
    """A config value as a file would say it: text, numbers, lists and tables."""
    if isinstance(value, timedelta):
        return duration_text(value.total_seconds())
    try:
        return msgspec.to_builtins(value, enc_hook=_text_of)
    except TypeError as error:
        raise BadType(str(error)) from None


def _text_of(value: object) -> str:
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(f"a {type(value).__name__} cannot be said in a pipeline file, and so not go to another process")


# -- making -----------------------------------------------------------------------------------------------------------


def build(target: Target, ends: Ends, config: Mapping[str, Any]) -> Daemon:
    """A new daemon with its ends, by port, and its config, as the file says it. What is not given has its default."""
    signature = signature_of(target)
    arguments: dict[str, Any] = {
        field.name: field.decode(config[field.name]) for field in signature.config if field.name in config
    }
    arguments |= {name: ends[name] for name in (*signature.boards, *signature.memories) if name in ends}
    for port in signature.ports:
        if port.name in ends:
            arguments[port.name] = ends[port.name]
        elif port.optional and _default_of(target, port.name) is inspect.Parameter.empty:
            arguments[port.name] = None
    return target(**arguments)


def needed_memories(target: Target) -> tuple[str, ...]:
    """The parameters that are given what a run writes down, and have no default."""
    names = signature_of(target).memories
    return tuple(name for name in names if _default_of(target, name) is inspect.Parameter.empty)


def _default_of(target: Target, name: str) -> Any:
    return inspect.signature(target).parameters[name].default
