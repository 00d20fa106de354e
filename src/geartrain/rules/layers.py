"""Where the daemons of a pipeline stand in a picture: in columns, so that what flows, flows to the right.

    column 0    column 1    column 2
    camera ---> detector -> sink
           \\--> (through) ->            a channel over several columns passes through each of them

Within a column the order is that of the neighbours (their mean place), swept to and fro a few times. A channel that
closes a cycle is laid out from its reader to its writer: it points back.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from msgspec import Struct

from geartrain.rules.pipeline import ChannelSpec, PipelineSpec
from geartrain.rules.wiring import edges, start_order, uncut

_SWEEPS = 8


class Spot(Struct, frozen=True):
    """A place in a column: that of a daemon, or one where a channel passes through."""

    column: int
    daemon: str | None = None
    channel: str | None = None


class Route(Struct, frozen=True):
    """The spots of a channel from left to right. `back` when it flows to the left."""

    channel: ChannelSpec
    spots: tuple[Spot, ...]
    back: bool


class Layers(Struct, frozen=True):
    """The columns, each from top to bottom, and the way of each channel through them.

    `leaving` and `arriving` are the routes to the right and left of a spot, from top to bottom of where they lead.
    """

    columns: tuple[tuple[Spot, ...], ...]
    routes: tuple[Route, ...]
    leaving: Mapping[Spot, Sequence[Route]]
    arriving: Mapping[Spot, Sequence[Route]]


def layers(spec: PipelineSpec) -> Layers:
    """The columns and routes of a pipeline. A channel with an end that leads nowhere is left out."""
    rank = _ranks(spec)
    routes = []
    for writer, reader, channel in edges(spec.channels):
        if writer in rank and reader in rank:
            back = rank[writer] > rank[reader]
            left, right = (reader, writer) if back else (writer, reader)
            through = (Spot(column, channel=channel.name) for column in range(rank[left] + 1, rank[right]))
            spots = (Spot(rank[left], daemon=left), *through, Spot(rank[right], daemon=right))
            routes.append(Route(channel, spots, back))
    daemons = [Spot(column, daemon=name) for name, column in rank.items()]
    passing = [spot for route in routes for spot in route.spots[1:-1]]
    columns: list[list[Spot]] = [[] for _ in range(max(rank.values(), default=-1) + 1)]
    for spot in (*daemons, *passing):
        columns[spot.column].append(spot)
    ordered = _ordered(columns, routes)
    place = {spot: number for column in ordered for number, spot in enumerate(column)}
    steps = [(left, right, route) for route in routes for left, right in pairwise(route.spots)]
    leaving: dict[Spot, list[Route]] = {spot: [] for spot in place}
    arriving: dict[Spot, list[Route]] = {spot: [] for spot in place}
    for begin, _, route in sorted(steps, key=lambda step: place[step[1]]):
        leaving[begin].append(route)
    for _, end, route in sorted(steps, key=lambda step: place[step[0]]):
        arriving[end].append(route)
    return Layers(ordered, tuple(routes), leaving, arriving)


def _ranks(spec: PipelineSpec) -> dict[str, int]:
    """The column of each daemon: one to the right of the last of those that write to it."""
    rank = {daemon.name: 0 for daemon in spec.daemons}
    readers: dict[str, list[str]] = {}
    for writer, reader, _ in edges(uncut(spec)):
        readers.setdefault(writer, []).append(reader)
    for writer in reversed(start_order(spec)):
        for reader in readers.get(writer, ()):
            if reader in rank:
                rank[reader] = max(rank[reader], rank[writer] + 1)
    return rank


def _ordered(columns: Sequence[Sequence[Spot]], routes: Sequence[Route]) -> tuple[tuple[Spot, ...], ...]:
    """The columns, each ordered by the mean place of its neighbours in the one before, and back again."""
    before: dict[Spot, list[Spot]] = {}
    after: dict[Spot, list[Spot]] = {}
    for route in routes:
        for left, right in pairwise(route.spots):
            before.setdefault(right, []).append(left)
            after.setdefault(left, []).append(right)
    order = [list(column) for column in columns]
    for sweep in range(_SWEEPS):
        neighbours, way = (before, order) if sweep % 2 == 0 else (after, order[::-1])
        for fixed, column in pairwise(way):
            place = {spot: number / max(len(fixed) - 1, 1) for number, spot in enumerate(fixed)}
            here = {spot: number / max(len(column) - 1, 1) for number, spot in enumerate(column)}
            column.sort(key=lambda spot: _mean(neighbours.get(spot, ()), place, here[spot]))
    return tuple(tuple(column) for column in order)


def _mean(spots: Sequence[Spot], place: Mapping[Spot, float], otherwise: float) -> float:
    known = [place[spot] for spot in spots if spot in place]
    return sum(known) / len(known) if known else otherwise
