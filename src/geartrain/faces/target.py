"""The pipeline that a command line names: a file, or `module:attr` as web servers have it."""

from collections.abc import Sequence
from pathlib import Path
from traceback import format_exception
from types import FunctionType

from geartrain.engine.declare import load
from geartrain.engine.pipeline import Pipeline
from geartrain.errors import BadValue, CannotLoad, in_words

_SUFFIXES = (".toml", ".json", ".yaml", ".yml")


def pipeline_of(target: str, overrides: Sequence[str] = ()) -> Pipeline:
    """A pipeline of this file, or the Pipeline that `module:attr` is, or that it returns when it is called."""
    if _is_file(target):
        return Pipeline.from_file(target, overrides)
    found = load(target)
    made = _called(target, found) if isinstance(found, FunctionType) else found
    if not isinstance(made, Pipeline):
        raise BadValue(f"{target} is {made!r}; expected a Pipeline, or a function that returns one")
    return made.overridden(overrides) if overrides else made


def _called(target: str, function: FunctionType) -> object:
    try:
        return function()
    except Exception as error:
        raise CannotLoad(f"{target} failed: {in_words(error)}", "".join(format_exception(error))) from error


def _is_file(target: str) -> bool:
    return ":" not in target or target.endswith(_SUFFIXES) or Path(target).exists()
