"""A plot as SVG, without a library: lines over two axes, each with its own ticks, and guides for what is wanted.

    Plot(title, x=Axis(...), y=Axis(...), lines=(Line(...), ...), guides=(Guide(...), ...))  --->  svg

It is read in light and in dark, and each line has its name at its end, so that nothing depends on colours alone.
"""

import math
from collections.abc import Sequence
from html import escape

from msgspec import Struct

_WIDTH, _HEIGHT = 760, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 170, 44, 56
_COLOURS = ("#2563eb", "#d97706", "#059669", "#db2777", "#7c3aed")
# Two names closer than this would be written over each other.
_LINE_OF_TEXT = 15


class Tick(Struct, frozen=True):
    at: float
    text: str


class Axis(Struct, frozen=True):
    """From the first to the last of its ticks; `logarithmic` axes begin above 0."""

    title: str
    ticks: tuple[Tick, ...]
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """Where a value lies, from 0 to 1; what is beyond an end lies at that end."""
        least, most = self.ticks[0].at, self.ticks[-1].at
        value = min(max(value, least), most)
        if self.logarithmic:
            return math.log(value / least) / math.log(most / least)
        return (value - least) / (most - least)


class Line(Struct, frozen=True):
    name: str
    points: tuple[tuple[float, float], ...]


class Guide(Struct, frozen=True):
    """A dashed line at a value of y."""

    name: str
    y: float


class Plot(Struct, frozen=True, kw_only=True):
    title: str
    x: Axis
    y: Axis
    lines: tuple[Line, ...]
    guides: tuple[Guide, ...] = ()


def svg(plot: Plot) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
            f'aria-label="{_text(plot.title)}">',
            "<style>",
            "  svg { background: #fff; color: #1f2937; font: 12px system-ui, sans-serif }",
            "  @media (prefers-color-scheme: dark) { svg { background: #111827; color: #e5e7eb } }",
            "  text { fill: currentColor } .grid { stroke: currentColor; opacity: .15 }",
            "  .guide { stroke: currentColor; opacity: .6; stroke-dasharray: 6 4 }",
            "  .line { fill: none; stroke-width: 2 }",
            "</style>",
            f'<text x="{_LEFT}" y="24" font-size="15">{_text(plot.title)}</text>',
            *_grid(plot),
            *_guides(plot),
            *_lines(plot),
            "</svg>",
            "",
        ]
    )


def _x(plot: Plot, value: float) -> float:
    return round(_LEFT + plot.x.share(value) * (_WIDTH - _LEFT - _RIGHT), 1)


def _y(plot: Plot, value: float) -> float:
    return round(_HEIGHT - _BOTTOM - plot.y.share(value) * (_HEIGHT - _TOP - _BOTTOM), 1)


def _grid(plot: Plot) -> list[str]:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts = []
    for tick in plot.x.ticks:
        x = _x(plot, tick.at)
        parts += [f'<line class="grid" x1="{x}" y1="{_TOP}" x2="{x}" y2="{bottom}"/>',
                  f'<text x="{x}" y="{bottom + 18}" text-anchor="middle">{_text(tick.text)}</text>']  # fmt: skip
    for tick in plot.y.ticks:
        y = _y(plot, tick.at)
        parts += [f'<line class="grid" x1="{_LEFT}" y1="{y}" x2="{right}" y2="{y}"/>',
                  f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{_text(tick.text)}</text>']  # fmt: skip
    middle_x, middle_y = (_LEFT + right) / 2, (_TOP + bottom) / 2
    return [
        *parts,
        f'<text x="{middle_x}" y="{_HEIGHT - 14}" text-anchor="middle">{_text(plot.x.title)}</text>',
        f'<text transform="translate(16 {middle_y}) rotate(-90)" text-anchor="middle">{_text(plot.y.title)}</text>',
    ]


def _guides(plot: Plot) -> list[str]:
    parts = []
    for guide in plot.guides:
        y = _y(plot, guide.y)
        parts += [f'<line class="guide" x1="{_LEFT}" y1="{y}" x2="{_WIDTH - _RIGHT}" y2="{y}"/>',
                  f'<text x="{_LEFT + 6}" y="{y - 5}">{_text(guide.name)}</text>']  # fmt: skip
    return parts


def _lines(plot: Plot) -> list[str]:
    drawn = [(line, colour) for line, colour in zip(plot.lines, _endless(len(plot.lines)), strict=True) if line.points]
    names = _apart([_y(plot, line.points[-1][1]) for line, _ in drawn])
    parts = []
    for (line, colour), y in zip(drawn, names, strict=True):
        points = " ".join(f"{_x(plot, x)},{_y(plot, value)}" for x, value in line.points)
        end = _x(plot, line.points[-1][0])
        parts += [f'<polyline class="line" stroke="{colour}" points="{points}"/>',
                  f'<text x="{end + 8}" y="{y + 4}" style="fill: {colour}">{_text(line.name)}</text>']  # fmt: skip
    return parts


def _endless(count: int) -> list[str]:
    return [_COLOURS[number % len(_COLOURS)] for number in range(count)]


def _apart(places: Sequence[float]) -> list[float]:
    """The same places, moved down where two names would be written over each other."""
    moved = dict.fromkeys(range(len(places)), 0.0)
    last = -math.inf
    for number in sorted(moved, key=lambda each: places[each]):
        last = moved[number] = max(places[number], last + _LINE_OF_TEXT)
    return list(moved.values())


def _text(text: str) -> str:
    return escape(text)
