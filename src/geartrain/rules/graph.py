"""Pictures of a pipeline, as text: for a page (mermaid), for graphviz (dot), for a terminal (ascii), for a browser
(svg).

    +--------+              +----------+
    | camera |-frames (8)-->| detector |
    +--------+              +----------+

In all of them a channel that may drop items is dashed, and daemons that share a process are shown together or say so.
"""

from collections.abc import Callable, Iterator, Mapping
from html import escape
from itertools import pairwise
from typing import Literal, get_args

from geartrain.rules.drawing import drawn
from geartrain.rules.layers import Route, Spot, layers
from geartrain.rules.pipeline import ChannelSpec, DaemonSpec, PipelineSpec
from geartrain.rules.wiring import edges

PictureFormat = Literal["ascii", "mermaid", "dot", "svg"]

FORMATS: tuple[PictureFormat, ...] = get_args(PictureFormat)


def picture(spec: PipelineSpec, form: PictureFormat, width: int = 100) -> str:
    """The pipeline as a picture of this form, ending with a newline; in ascii within `width`."""
    draw: Mapping[PictureFormat, Callable[[PipelineSpec], str]] = {
        "ascii": lambda spec: ascii_picture(spec, width),
        "mermaid": mermaid,
        "dot": dot,
        "svg": svg,
    }
    return draw[form](spec)


def _label(channel: ChannelSpec) -> str:
    """The name of a channel, and what is to be known of it at a glance."""
    window = "latest" if channel.policy == "latest" else str(channel.maxsize)
    policy = f", {channel.policy}" if channel.policy in ("drop_oldest", "drop_newest") else ""
    return f"{channel.name} ({window}{policy}{', taken' if channel.keep == 'taken' else ''})"


def _title(daemon: DaemonSpec) -> str:
    return f"{daemon.name} (system)" if daemon.is_system else daemon.name


def _known_edges(spec: PipelineSpec) -> Iterator[tuple[str, str, ChannelSpec]]:
    known = {daemon.name for daemon in spec.daemons}
    return ((writer, reader, channel) for writer, reader, channel in edges(spec.channels) if {writer, reader} <= known)


def _by_process(spec: PipelineSpec) -> dict[str, list[DaemonSpec]]:
    places: dict[str, list[DaemonSpec]] = {}
    for daemon in spec.daemons:
        places.setdefault(daemon.process, []).append(daemon)
    return places


# -- mermaid and dot --------------------------------------------------------------------------------------------------


def mermaid(spec: PipelineSpec) -> str:
    """For GitHub and for documentation."""
    number = {daemon.name: f"d{count}" for count, daemon in enumerate(spec.daemons)}
    lines = ["flowchart LR"]
    for count, (process, daemons) in enumerate(_by_process(spec).items()):
        nodes = [f'{number[daemon.name]}["{_in_mermaid(_title(daemon))}"]' for daemon in daemons]
        if len(nodes) == 1:
            lines.append(f"  {nodes[0]}")
        else:
            inside = [f"    {node}" for node in nodes]
            lines += [f'  subgraph p{count} ["process {_in_mermaid(process)}"]', *inside, "  end"]
    for writer, reader, channel in _known_edges(spec):
        arrow = "-.->" if channel.is_lossy else "-->"
        lines.append(f'  {number[writer]} {arrow}|"{_in_mermaid(_label(channel))}"| {number[reader]}')
    return "\n".join(lines) + "\n"


def _in_mermaid(text: str) -> str:
    return text.replace("#", "#35;").replace('"', "#quot;").replace("\n", " ")


def dot(spec: PipelineSpec) -> str:
    """For graphviz: `dot -Tsvg`."""
    lines = [f"digraph {_in_dot(spec.name)} {{", "  rankdir=LR;", "  node [shape=box, style=rounded];"]
    for count, (process, daemons) in enumerate(_by_process(spec).items()):
        nodes = [_node_in_dot(daemon) for daemon in daemons]
        if len(nodes) == 1:
            lines.append(f"  {nodes[0]}")
        else:
            label = _in_dot(f"process {process}")
            lines += [f"  subgraph cluster_{count} {{ label={label}; style=rounded; {' '.join(nodes)} }}"]
    for writer, reader, channel in _known_edges(spec):
        style = ", style=dashed" if channel.is_lossy else ""
        lines.append(f"  {_in_dot(writer)} -> {_in_dot(reader)} [label={_in_dot(_label(channel))}{style}];")
    return "\n".join([*lines, "}"]) + "\n"


def _node_in_dot(daemon: DaemonSpec) -> str:
    label = f" [label={_in_dot(_title(daemon))}]" if daemon.is_system else ""
    return f"{_in_dot(daemon.name)}{label};"


def _in_dot(text: str) -> str:
    quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
    return f'"{quoted}"'


# -- ascii ------------------------------------------------------------------------------------------------------------


def ascii_picture(spec: PipelineSpec, width: int = 100) -> str:
    """Boxes and arrows if they fit into this width, else a line for each channel."""
    lines = drawn(spec, _titles(spec), _labels(spec))
    return "\n".join(lines if max(map(len, lines), default=0) <= width else _listed(spec)) + "\n"


def _listed(spec: PipelineSpec) -> list[str]:
    """One line for each channel, under the daemon that writes it, from the sources down."""
    by_writer: dict[str, list[str]] = {}
    for writer, reader, channel in _known_edges(spec):
        line = "- - " if channel.is_lossy else "----"
        by_writer.setdefault(writer, []).append(f"  {line} {_label(channel)} {line}> {reader}")
    lines = []
    titles = _titles(spec)
    for spot in (spot for column in layers(spec).columns for spot in column if spot.daemon is not None):
        assert spot.daemon is not None
        lines += [titles[spot.daemon], *by_writer.get(spot.daemon, ())]
    return lines


# -- svg --------------------------------------------------------------------------------------------------------------

_BOX_HEIGHT = 40
_THROUGH_HEIGHT = 22
_BETWEEN = 22
_MARGIN = 16
_LETTER = 7.2

_STYLE = """
  svg:root { color-scheme: light dark; color: CanvasText; }
  svg { font: 12px ui-monospace, SFMono-Regular, Menlo, monospace; }
  rect, path { fill: none; stroke: currentColor; stroke-width: 1.2; }
  text { fill: currentColor; text-anchor: middle; dominant-baseline: central; }
  .small { font-size: 10px; paint-order: stroke; stroke: Canvas; stroke-width: 3px; stroke-linejoin: round; }
  .lossy { stroke-dasharray: 5 4; }
  marker path { fill: currentColor; stroke: none; }
"""


def svg(spec: PipelineSpec) -> str:
    """For a browser; its colour is that of the text around it, on light and on dark."""
    plan = _Plan(spec)
    parts = [*plan.channels(), *plan.daemons()]
    arrow = '<marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {plan.width:g} {plan.height:g}" '
        f'width="{plan.width:g}" height="{plan.height:g}" role="img">',
        f"<title>{escape(spec.name)}</title>",
        f"<style>{_STYLE}</style>",
        f'<defs>{arrow}<path d="M0 0 L8 4 L0 8 z"/></marker></defs>',
        *parts,
        "</svg>",
    ]) + "\n"  # fmt: skip


class _Plan:
    """Where everything is in the drawing."""

    def __init__(self, spec: PipelineSpec) -> None:
        self._layers = layers(spec)
        self._processes = {daemon.name: daemon.process for daemon in spec.daemons}
        self._names = {daemon.name: _title(daemon) for daemon in spec.daemons}
        self._labels = _labels(spec)
        self._left: list[float] = []
        self._box_width: list[float] = []
        self._middle: dict[Spot, float] = {}
        self.width = self._place_columns()
        self.height = self._place_rows()

    def daemons(self) -> Iterator[str]:
        for spot in (spot for column in self._layers.columns for spot in column if spot.daemon is not None):
            assert spot.daemon is not None
            x, width, y = self._left[spot.column], self._box_width[spot.column], self._middle[spot]
            process = self._processes[spot.daemon]
            shift = 0 if process == spot.daemon else 7
            yield f'<rect x="{x:g}" y="{y - _BOX_HEIGHT / 2:g}" width="{width:g}" height="{_BOX_HEIGHT}" rx="6"/>'
            yield f'<text x="{x + width / 2:g}" y="{y - shift:g}">{escape(self._names[spot.daemon])}</text>'
            if shift:
                yield f'<text class="small" x="{x + width / 2:g}" y="{y + shift:g}">{escape(f"in {process}")}</text>'

    def channels(self) -> Iterator[str]:
        for route in self._layers.routes:
            points = self._points(route)
            way = [f"M{points[0][0]:g} {points[0][1]:g}"]
            for (x, y), (to_x, to_y) in pairwise(points):
                half = (x + to_x) / 2
                way.append(f"C{half:g} {y:g} {half:g} {to_y:g} {to_x:g} {to_y:g}")
            dashes = ' class="lossy"' if route.channel.is_lossy else ""
            yield f'<path d="{" ".join(way)}"{dashes} marker-end="url(#arrow)"/>'
            x, y = self._label_place(route)
            yield f'<text class="small" x="{x:g}" y="{y:g}">{escape(self._labels[route.channel.name])}</text>'

    def _points(self, route: Route) -> list[tuple[float, float]]:
        """The points that a channel goes through, from its writer to its reader."""
        points = []
        for spot in route.spots:
            left, right = self._left[spot.column], self._left[spot.column] + self._box_width[spot.column]
            y = self._middle[spot]
            if spot is route.spots[0]:
                points.append((right, y + self._offset(spot, route, "leaving")))
            elif spot is route.spots[-1]:
                points.append((left, y + self._offset(spot, route, "arriving")))
            else:
                points += [(left, y), (right, y)]
        return points[::-1] if route.back else points

    def _offset(self, spot: Spot, route: Route, side: Literal["leaving", "arriving"]) -> float:
        """Channels leave a box side by side, in the order of where they go to."""
        ends = (self._layers.leaving if side == "leaving" else self._layers.arriving)[spot]
        step = min(10.0, (_BOX_HEIGHT - 12) / max(len(ends) - 1, 1))
        return (ends.index(route) - (len(ends) - 1) / 2) * step

    def _label_place(self, route: Route) -> tuple[float, float]:
        """Above the channel, in the gap where it leaves its left daemon."""
        first, second = route.spots[0], route.spots[1]
        x = self._left[first.column] + self._box_width[first.column]
        y = self._middle[first] + self._offset(first, route, "leaving")
        to_y = self._middle[second]
        if second is route.spots[-1]:
            to_y += self._offset(second, route, "arriving")
        return (x + self._left[second.column]) / 2, (y + to_y) / 2 - 7

    def _place_columns(self) -> float:
        x = float(_MARGIN)
        for number, column in enumerate(self._layers.columns):
            titles = [
                text
                for spot in column
                if spot.daemon is not None
                for text in (self._names[spot.daemon], f"in {self._processes[spot.daemon]}")
            ]
            labels = [
                self._labels[route.channel.name] for route in self._layers.routes if route.spots[0].column == number
            ]
            self._left.append(x)
            self._box_width.append(max(map(len, titles), default=2) * _LETTER + 24)
            x += self._box_width[-1] + max(map(len, labels), default=6) * _LETTER + 36
        return x if not self._left else self._left[-1] + self._box_width[-1] + _MARGIN

    def _place_rows(self) -> float:
        heights = [sum(map(_height, column)) + _BETWEEN * (len(column) - 1) for column in self._layers.columns]
        tallest = max(heights, default=0)
        for column, height in zip(self._layers.columns, heights, strict=True):
            y = _MARGIN + (tallest - height) / 2
            for spot in column:
                self._middle[spot] = y + _height(spot) / 2
                y += _height(spot) + _BETWEEN
        return tallest + 2 * _MARGIN


def _height(spot: Spot) -> float:
    return _THROUGH_HEIGHT if spot.daemon is None else _BOX_HEIGHT


def _titles(spec: PipelineSpec) -> dict[str, str]:
    """The daemons, each with its process where that is not its own."""
    return {
        daemon.name: _title(daemon) if daemon.process == daemon.name else f"{_title(daemon)} @{daemon.process}"
        for daemon in spec.daemons
    }


def _labels(spec: PipelineSpec) -> dict[str, str]:
    return {channel.name: _label(channel) for channel in spec.channels}
