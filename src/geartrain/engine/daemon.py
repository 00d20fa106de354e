"""What a daemon is: an object with three hooks, or an `async def` dressed as one.

class Camera(Daemon):                           @daemon
    def __init__(self, out): ...                async def camera(ctx, out):
    async def on_start(self, ctx): ...              ...
    async def run(self, ctx): ...
    async def on_stop(self, ctx): ...

sup.add(Camera, out)                            sup.add(camera, out)        a new object for every life
sup.add(Camera(out))                            sup.add(camera(out))        this object, entered again
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from functools import update_wrapper
from typing import Any, Concatenate, Generic, ParamSpec, overload

from geartrain.engine.context import Context
from geartrain.errors import BadType

P = ParamSpec("P")


class Daemon(ABC):
    """A long-lived actor. `on_stop` is called once whenever `on_start` has returned, however `run` ended."""

    name: str = ""

    async def on_start(self, ctx: Context) -> None:  # noqa: B027 -- optional hook
        """Get ready. Others are told that the daemon has started when this returns."""

    @abstractmethod
    async def run(self, ctx: Context) -> None:
        """Work until there is nothing left to do, or `ctx.stopping`."""

    async def on_stop(self, ctx: Context) -> None:  # noqa: B027 -- optional hook
        """Clean up. Not cancelled, but bounded in time once the daemon is stopped by force."""


class FunctionDaemon(Daemon, Generic[P]):
    """A daemon whose `run` is a function."""

    def __init__(
        self, fn: Callable[Concatenate[Context, P], Awaitable[object]], name: str, /, *args: P.args, **kwargs: P.kwargs
    ) -> None:
        _check_arguments(fn, args, kwargs)
        self.name = name
        self._fn = fn
        self._args = args
        self._kwargs = kwargs

    def __repr__(self) -> str:
        return f"<daemon {self.name!r}>"

    async def run(self, ctx: Context) -> None:
        await self._fn(ctx, *self._args, **self._kwargs)


class DaemonFactory(Generic[P]):
    """What `@daemon` makes of a function: called with the function's arguments, it gives a daemon."""

    def __init__(self, fn: Callable[Concatenate[Context, P], Awaitable[object]], name: str | None) -> None:
        self._fn = fn
        self.name = name or fn.__name__
        update_wrapper(self, fn)

    def __repr__(self) -> str:
        return f"<@daemon factory {self.name!r}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> FunctionDaemon[P]:
        return FunctionDaemon(self._fn, self.name, *args, **kwargs)


@overload
def daemon(fn: Callable[Concatenate[Context, P], Awaitable[object]]) -> DaemonFactory[P]: ...


@overload
def daemon(
    fn: None = None, *, name: str | None = None
) -> Callable[[Callable[Concatenate[Context, P], Awaitable[object]]], DaemonFactory[P]]: ...


def daemon(fn: Callable[..., Awaitable[object]] | None = None, *, name: str | None = None) -> Any:
    """Make a daemon factory of an `async def fn(ctx, *args)`; `name` is the daemon's, if not the function's."""

    def dress(fn: Callable[..., Awaitable[object]]) -> DaemonFactory[Any]:
        return DaemonFactory(checked_function("@daemon", fn), name)

    return dress if fn is None else dress(fn)


def _check_arguments(fn: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]) -> None:
    """Arguments that do not fit are refused here, and not in another task a moment later."""
    try:
        signature = inspect.signature(fn)
    except ValueError:
        return
    try:
        signature.bind(None, *args, **kwargs)
    except TypeError as misfit:
        name = getattr(fn, "__name__", repr(fn))
        raise BadType(f"daemon function {name}{signature} was given other arguments after ctx: {misfit}") from None


def checked_function(user: str, fn: object) -> Callable[..., Awaitable[object]]:
    """An `async def`, or something that is called like one. What only looks like one is found when it is called."""
    if isinstance(fn, DaemonFactory):
        raise BadType(f"{user} got the @daemon factory {fn.name!r}; give it to add(), with its arguments")
    if not callable(fn) or isinstance(fn, type) or inspect.isbuiltin(fn):
        raise BadType(f"{user} expected an `async def fn(ctx, ...)`, got {fn!r}")
    if inspect.isfunction(fn) and fn.__name__ != "<lambda>" and not inspect.iscoroutinefunction(inspect.unwrap(fn)):
        raise BadType(
            f"{user} expected an `async def`, got the plain function {fn.__qualname__!r}: a daemon's body "
            "is awaited, so write `async def`"
        )
    return fn
