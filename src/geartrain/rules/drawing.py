"""Boxes and arrows in letters, for a terminal.

+--------+                  +----------+
| camera |--frames (8)--+-->| detector |        a channel leaves its box on a row of its own, bends once on a
+--------+              |   +----------+        track of its own, and arrives on a row of its own
                        |
                        ...
"""

from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

from msgspec import Struct

from geartrain.rules.layers import Route, Spot, layers
from geartrain.rules.pipeline import PipelineSpec


def drawn(spec: PipelineSpec, titles: Mapping[str, str], labels: Mapping[str, str]) -> list[str]:
    """The lines of a picture of this pipeline, with these names for its daemons and channels."""
    return _Drawing(spec, titles, labels).lines()


class _Piece(Struct, frozen=True):
    """The part of a channel between two columns: from a row on the left to a row on the right."""

    route: Route
    left: Spot
    right: Spot
    start: int
    goal: int

    @property
    def is_straight(self) -> bool:
        return self.start == self.goal


class _Drawing:
    def __init__(self, spec: PipelineSpec, titles: Mapping[str, str], labels: Mapping[str, str]) -> None:
        self._layers = layers(spec)
        self._titles = titles
        self._labels = labels
        self._cells: dict[tuple[int, int], str] = {}
        self._top: dict[Spot, int] = {}
        self._place_rows()
        x = 0
        for column in self._layers.columns:
            x = self._draw_column(column, x)

    def lines(self) -> list[str]:
        rows: dict[int, dict[int, str]] = {}
        for (y, x), mark in self._cells.items():
            rows.setdefault(y, {})[x] = mark
        return [_line(rows.get(y, {})) for y in range(max(rows, default=-1) + 1)]

    # -- rows ---------------------------------------------------------------------------------------------------

    def _height(self, spot: Spot) -> int:
        if spot.daemon is None:
            return 1
        return 2 + max(len(self._layers.leaving[spot]), len(self._layers.arriving[spot]), 1)

    def _place_rows(self) -> None:
        heights = [sum(map(self._height, column)) + len(column) - 1 for column in self._layers.columns]
        for column, height in zip(self._layers.columns, heights, strict=True):
            y = (max(heights) - height) // 2
            for spot in column:
                self._top[spot] = y
                y += self._height(spot) + 1

    def _row(self, spot: Spot, route: Route, beside: Sequence[Route]) -> int:
        """The row of a channel at a spot: in the middle of a box, one for each that is beside it."""
        if spot.daemon is None:
            return self._top[spot]
        room = self._height(spot) - 2
        return self._top[spot] + 1 + (room - len(beside)) // 2 + beside.index(route)

    # -- marks --------------------------------------------------------------------------------------------------

    def _draw_column(self, column: Sequence[Spot], x: int) -> int:
        """The boxes of a column and what leaves them; answers where the next column begins."""
        width = max((len(self._titles[spot.daemon]) + 4 for spot in column if spot.daemon is not None), default=1)
        for spot in column:
            if spot.daemon is not None:
                self._draw_box(self._top[spot], x, width, self._height(spot), self._titles[spot.daemon])
        for route in self._layers.routes:
            for spot in route.spots[1:-1]:
                if spot in column:
                    self._lay(self._top[spot], x, x + width, route)
        return self._draw_gap(self._pieces(column), x + width)

    def _draw_box(self, top: int, x: int, width: int, height: int, title: str) -> None:
        for y in range(top, top + height):
            inside = y not in (top, top + height - 1)
            self._write(y, x, f"|{' ' * (width - 2)}|" if inside else f"+{'-' * (width - 2)}+")
        self._write(top + height // 2, x + 2, title)

    def _pieces(self, column: Sequence[Spot]) -> list[_Piece]:
        pieces = []
        for route in self._layers.routes:
            for left, right in pairwise(route.spots):
                if left in column:
                    start = self._row(left, route, self._layers.leaving[left])
                    goal = self._row(right, route, self._layers.arriving[right])
                    pieces.append(_Piece(route, left, right, start, goal))
        return pieces

    def _draw_gap(self, pieces: list[_Piece], x: int) -> int:
        tracks = _tracks(pieces)
        label_width = max((len(self._label(piece)) for piece in pieces), default=0)
        bend = x + label_width + 4
        end = bend + 2 * len(tracks) + 1
        for piece in pieces:
            turn = x if piece.is_straight else bend + 2 * tracks.index(piece)
            self._lay(piece.start, x, turn, piece.route)
            self._lay(piece.goal, turn, end, piece.route)
        for number, piece in enumerate(tracks):
            self._bend(piece, bend + 2 * number)
        for piece in pieces:
            self._write(piece.start, x + 2, self._label(piece))
            if piece.route.back and piece.left.daemon is not None:
                self._write(piece.start, x, "<")
            if not piece.route.back and piece.right.daemon is not None:
                self._write(piece.goal, end - 1, ">")
        return end if pieces else x + 2

    def _label(self, piece: _Piece) -> str:
        return self._labels[piece.route.channel.name] if piece.left.daemon is not None else ""

    def _bend(self, piece: _Piece, x: int) -> None:
        for y in range(min(piece.start, piece.goal) + 1, max(piece.start, piece.goal)):
            self._write(y, x, "|")
        self._write(piece.start, x, "+")
        self._write(piece.goal, x, "+")

    def _lay(self, y: int, begin: int, end: int, route: Route) -> None:
        """A line, dashed if the channel may drop items, with a dash where it begins and before its arrow."""
        for x in range(begin, end):
            is_gap = route.channel.is_lossy and (end - x) % 2 == 1 and x != begin
            self._write(y, x, " " if is_gap else "-")

    def _write(self, y: int, x: int, text: str) -> None:
        for offset, mark in enumerate(text):
            self._cells[y, x + offset] = mark


def _tracks(pieces: Sequence[_Piece]) -> list[_Piece]:
    """The pieces that bend, in the order of their tracks: one that arrives on a row bends after who leaves from it."""
    bent = [piece for piece in pieces if not piece.is_straight]
    leaving = {piece.start: number for number, piece in enumerate(bent)}
    order = TopologicalSorter({number: list[int]() for number in range(len(bent))})
    for number, piece in enumerate(bent):
        if leaving.get(piece.goal, number) != number:
            order.add(number, leaving[piece.goal])
    try:
        return [bent[number] for number in order.static_order()]
    except CycleError:
        # Two that change places: one of them runs over the other, whatever comes first.
        return bent


def _line(marks: Mapping[int, str]) -> str:
    return "".join(marks.get(x, " ") for x in range(max(marks, default=-1) + 1)).rstrip()
