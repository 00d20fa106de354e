"""A new project: a small pipeline that works, with its test, for its owner to change.

What is written is in `template/`. The code there is text for this package: its name ends with `.txt`, which it loses.
"""

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from geartrain.errors import PlaceRefused

_TEXT = ".txt"


class NotMade(PlaceRefused):
    """A folder for a new project cannot be made, or is in use."""


def make_project(folder: Path) -> tuple[Path, ...]:
    """Write a project into this folder, which is made, or is empty. The answer is what has been written."""
    name = _name_of(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise NotMade(f"{folder} is not empty; name a folder that does not exist yet, or is empty")
        return tuple(_write(folder / place, text.replace("{name}", name)) for place, text in _template())
    except OSError as error:
        raise NotMade(f"{error.filename or folder} cannot be made: {error.strerror}") from error


def _name_of(folder: Path) -> str:
    """What a pipeline in this folder is called: words that need no quotes, in a file or on a command line."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", folder.resolve().name).strip("-") or "pipeline"


def _template() -> Iterator[tuple[str, str]]:
    place = files("geartrain.faces") / "template"
    for file in sorted(place.iterdir(), key=lambda file: file.name):
        yield file.name.removesuffix(_TEXT), file.read_text(encoding="utf-8")


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path
