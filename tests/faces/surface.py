"""The command line as text: names, options and help lines. `python -m tests.faces.surface` writes it anew.

tests/faces/surface.txt     what must not change by accident
docs/cli.md                 the same for people: the help of every command, after the words that are written by hand
"""

from collections.abc import Iterator
from pathlib import Path

import click

from geartrain.faces.command_line import geartrain

HERE = Path(__file__).parent
SURFACE = HERE / "surface.txt"
PAGE = HERE.parent.parent / "docs" / "cli.md"

BEGIN = "<!-- from here on written by tests/faces/surface.py -->\n"
_WIDTH = 100


def commands() -> Iterator[tuple[str, click.Command]]:
    yield from _from("geartrain", geartrain)


def _from(title: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield title, command
    if isinstance(command, click.Group):
        for name in sorted(command.commands):
            yield from _from(f"{title} {name}", command.commands[name])


def surface() -> str:
    return "\n".join("".join(f"{line}\n" for line in _lines(title, command)) for title, command in commands())


def _lines(title: str, command: click.Command) -> Iterator[str]:
    yield title
    yield f"  {(command.help or '').partition(chr(10))[0]}"
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            yield f"  {', '.join(parameter.opts)}  {_kind(parameter.type)}  {parameter.help}"
        else:
            yield f"  {parameter.human_readable_name}  {'required' if parameter.required else 'optional'}"


def _kind(kind: click.ParamType[object]) -> str:
    return "|".join(kind.choices) if isinstance(kind, click.Choice) else kind.name


def reference() -> str:
    return "".join(f"\n## {title}\n\n```\n{_help(title, command)}\n```\n" for title, command in commands())


def _help(title: str, command: click.Command) -> str:
    context = click.Context(command, info_name=title, max_content_width=_WIDTH, terminal_width=_WIDTH,
                            help_option_names=["-h", "--help"])  # fmt: skip
    return command.get_help(context)


def page() -> str:
    """The page with its generated part anew."""
    by_hand, begin, _ = PAGE.read_text().partition(BEGIN)
    return by_hand + begin + reference()


if __name__ == "__main__":
    SURFACE.write_text(surface())
    PAGE.write_text(page())
