"""Who gets colours, and how tables stand."""

import io

import pytest

from geartrain.faces.looks import Printer, has_colours, in_columns


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Gone(io.StringIO):
    """Nobody reads it any more."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


@pytest.mark.parametrize(
    ("stream", "environment", "coloured"),
    [
        (Terminal(), {"TERM": "xterm"}, True),
        (io.StringIO(), {"TERM": "xterm"}, False),
        (Terminal(), {"TERM": "dumb"}, False),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": ""}, True),
        (io.StringIO(), {"FORCE_COLOR": "1"}, True),
        (Terminal(), {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ],
)
def test_colours_are_for_terminals_unless_somebody_says_otherwise(
    stream: io.StringIO, environment: dict[str, str], coloured: bool
) -> None:
    assert has_colours(stream, environment) == coloured


def test_columns_are_as_wide_as_what_stands_in_them() -> None:
    assert in_columns(("A", "LONG"), [("wide", "x"), ("y", "z")]) == "A     LONG\nwide  x\ny     z\n"


def test_names_before_lines_are_of_one_width() -> None:
    stream = io.StringIO()
    printer = Printer(stream, ("camera", "eye"))
    printer.line("eye", "is ready")
    assert stream.getvalue() == "eye    | is ready\n"


def test_a_reader_that_has_gone_stops_nobody() -> None:
    printer = Printer(Gone(), ())
    printer.text("nobody reads this\n")
    printer.text("nor this\n")


def test_a_column_in_which_nothing_stands_is_left_out() -> None:
    assert in_columns(("NAME", "STALE", "AGE"), [("a", "", "1s"), ("b", "", "")]) == "NAME  AGE\na     1s\nb\n"
    assert in_columns(("NAME", "STALE"), []) == "NAME  STALE\n"
