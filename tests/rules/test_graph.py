"""Pictures of a pipeline: everything is in them, they are well formed, and small ones look as they are drawn here."""

import re
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geartrain.rules.graph import FORMATS, PictureFormat, picture
from geartrain.rules.pipeline import ChannelSpec, DaemonSpec, PipelineSpec, PortRef


def drawn(*edges: tuple[Any, ...], process: dict[str, str] | None = None) -> PipelineSpec:
    """A pipeline from edges (writer, reader, channel, settings)."""
    names = dict.fromkeys(name for edge in edges for name in edge[:2])
    places = process or {}
    return PipelineSpec(
        name="demo",
        daemons=tuple(DaemonSpec(name=name, process=places.get(name, name), run="m:X") for name in names),
        channels=tuple(
            ChannelSpec(name=channel, writer=PortRef(writer, "o"), reader=PortRef(reader, "i"), **settings_of(*said))
            for writer, reader, channel, *said in edges
        ),
    )


def settings_of(said: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"maxsize": 8} | (said or {})


CHAIN = drawn(("camera", "detector", "frames"), ("detector", "sink", "objects", {"policy": "latest", "maxsize": 1}))
DIAMOND = drawn(
    ("src", "left", "a"),
    ("src", "right", "b"),
    ("left", "join", "c"),
    ("right", "join", "d"),
    ("src", "join", "raw", {"policy": "drop_oldest", "maxsize": 3}),
    process={"left": "work", "right": "work"},
)
CYCLE = drawn(
    ("planner", "actuator", "commands"),
    ("actuator", "sensor", "moves"),
    ("sensor", "planner", "state", {"keep": "taken", "maxsize": 4}),
)


def lines(spec: PipelineSpec, width: int = 100) -> list[str]:
    return picture(spec, "ascii", width).splitlines()


def test_a_chain_is_drawn_from_left_to_right() -> None:
    assert lines(CHAIN) == [
        "+--------+               +----------+                     +------+",
        "| camera |--frames (8)-->| detector |--objects (latest) ->| sink |",
        "+--------+               +----------+                     +------+",
    ]


def test_a_channel_over_several_columns_goes_around_what_is_between() -> None:
    assert lines(DIAMOND) == [
        "                                      +-------------+",
        "                               +----->| left @work  |--c (8)--+",
        "+-----+                        |      +-------------+         |      +------+",
        "|     |--a (8)-----------------+                              +----->|      |",
        "| src |--b (8)---------------------+  +-------------+           +--->| join |",
        "|     |- raw (3, drop_oldest)- - + +->| right @work |--d (8)----+ +->|      |",
        "+-----+                          |    +-------------+             |  +------+",
        "                                 |                                |",
        "                                 +- - -- - - - - - - -- - - - - - +",
    ]


def test_a_channel_that_closes_a_cycle_points_back() -> None:
    assert lines(CYCLE) == [
        "+---------+                       +----------+                +--------+",
        "|         |--commands (8)-------->| actuator |--moves (8)---->|        |",
        "| planner |<-state (4, taken)--+  +----------+             +--| sensor |",
        "+---------+                    |                           |  +--------+",
        "                               +---------------------------+",
    ]


def test_what_is_too_wide_is_listed_from_the_sources_down() -> None:
    assert lines(DIAMOND, width=60) == [
        "src",
        "  ---- a (8) ----> left",
        "  ---- b (8) ----> right",
        "  - -  raw (3, drop_oldest) - - > join",
        "left @work",
        "  ---- c (8) ----> join",
        "right @work",
        "  ---- d (8) ----> join",
        "join",
    ]


def test_mermaid_groups_the_daemons_of_a_process_and_dots_what_may_drop() -> None:
    assert picture(DIAMOND, "mermaid").splitlines() == [
        "flowchart LR",
        '  d0["src"]',
        '  subgraph p1 ["process work"]',
        '    d1["left"]',
        '    d2["right"]',
        "  end",
        '  d3["join"]',
        '  d0 -->|"a (8)"| d1',
        '  d0 -->|"b (8)"| d2',
        '  d1 -->|"c (8)"| d3',
        '  d2 -->|"d (8)"| d3',
        '  d0 -.->|"raw (3, drop_oldest)"| d3',
    ]


def test_dot_groups_the_daemons_of_a_process_and_dashes_what_may_drop() -> None:
    assert picture(DIAMOND, "dot").splitlines() == [
        'digraph "demo" {',
        "  rankdir=LR;",
        "  node [shape=box, style=rounded];",
        '  "src";',
        '  subgraph cluster_1 { label="process work"; style=rounded; "left"; "right"; }',
        '  "join";',
        '  "src" -> "left" [label="a (8)"];',
        '  "src" -> "right" [label="b (8)"];',
        '  "left" -> "join" [label="c (8)"];',
        '  "right" -> "join" [label="d (8)"];',
        '  "src" -> "join" [label="raw (3, drop_oldest)", style=dashed];',
        "}",
    ]


def svg_of(spec: PipelineSpec) -> ElementTree.Element:
    return ElementTree.fromstring(picture(spec, "svg"))


def parts(svg: ElementTree.Element, tag: str) -> list[ElementTree.Element]:
    return list(svg.iter(f"{{http://www.w3.org/2000/svg}}{tag}"))


def test_svg_has_a_box_for_each_daemon_an_arrow_for_each_channel_and_says_what_they_are() -> None:
    svg = svg_of(DIAMOND)
    assert len(parts(svg, "rect")) == 4
    assert len([path for path in parts(svg, "path") if path.get("marker-end")]) == 5
    assert [path.get("class") for path in parts(svg, "path") if path.get("class")] == ["lossy"]
    assert {text.text for text in parts(svg, "text")} == {
        "src", "left", "right", "join", "in work", "a (8)", "b (8)", "c (8)", "d (8)", "raw (3, drop_oldest)"
    }  # fmt: skip


def test_an_arrow_of_an_svg_goes_from_the_writer_to_the_reader_also_when_that_is_to_the_left() -> None:
    begins_and_ends = [
        [float(number) for number in re.findall(r"[\d.]+", path.get("d", ""))]
        for path in parts(svg_of(CYCLE), "path")
        if path.get("marker-end")
    ]
    assert [numbers[0] < numbers[-2] for numbers in begins_and_ends] == [True, True, False]


def test_boxes_of_an_svg_do_not_overlap_and_are_inside_of_it() -> None:
    svg = svg_of(DIAMOND)
    boxes = [[float(box.get(side, "")) for side in ("x", "y", "width", "height")] for box in parts(svg, "rect")]
    for x, y, width, height in boxes:
        assert 0 <= x < x + width <= float(svg.get("width", ""))
        assert 0 <= y < y + height <= float(svg.get("height", ""))
    for number, (x, y, width, height) in enumerate(boxes):
        for other_x, other_y, _, other_height in boxes[number + 1 :]:
            assert x + width <= other_x or y + height <= other_y or other_y + other_height <= y or other_x < x


def test_an_svg_takes_its_colours_from_where_it_is_shown() -> None:
    assert "currentColor" in picture(CHAIN, "svg")
    assert "#" not in picture(CHAIN, "svg").replace("url(#arrow)", "")


@pytest.mark.parametrize("form", FORMATS)
def test_names_that_mean_something_in_a_form_are_only_names_in_it(form: PictureFormat) -> None:
    text = picture(drawn(('a"b', "c<&>", "x#y\\")), form)
    assert text.endswith("\n")
    if form == "svg":
        assert {part.text for part in parts(ElementTree.fromstring(text), "text")} == {'a"b', "c<&>", "x#y\\ (8)"}
    if form == "dot":
        assert '"a\\"b" -> "c<&>" [label="x#y\\\\ (8)"];' in text
    if form == "mermaid":
        assert 'd0["a#quot;b"]' in text
        assert "x#35;y" in text


@pytest.mark.parametrize("form", FORMATS)
def test_a_channel_that_leads_nowhere_is_left_out(form: PictureFormat) -> None:
    spec = PipelineSpec(
        name="p",
        daemons=(DaemonSpec(name="a", process="a"),),
        channels=(
            ChannelSpec(name="lost", writer=PortRef("a", "o"), reader=PortRef("gone", "i")),
            ChannelSpec(name="half", writer=None, reader=PortRef("a", "i")),
        ),
    )
    assert "lost" not in picture(spec, form)
    assert "half" not in picture(spec, form)


@pytest.mark.parametrize("form", FORMATS)
def test_a_pipeline_of_nothing_has_a_picture(form: PictureFormat) -> None:
    assert picture(PipelineSpec(name="p"), form).endswith("\n")


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("abcdefgh")), max_size=14))
def test_whatever_the_wiring_every_daemon_and_every_channel_is_in_the_drawing(ends: list[tuple[str, str]]) -> None:
    spec = drawn(*((f"daemon-{a}", f"daemon-{b}", f"channel-{n}") for n, (a, b) in enumerate(ends) if a != b))
    wanted = [*(daemon.name for daemon in spec.daemons), *(channel.name for channel in spec.channels)]
    for form in FORMATS:
        text = picture(spec, form, 10_000)
        assert [name for name in wanted if name not in text] == []


def test_twenty_daemons_have_a_drawing_and_a_list() -> None:
    names = [f"daemon-{number}" for number in range(20)]
    spec = drawn(*((a, b, f"c{number}") for number, (a, b) in enumerate(pairwise(names))))
    assert len(lines(spec, 1000)) == 3
    assert max(map(len, lines(spec))) <= 100


@pytest.mark.parametrize("form", FORMATS)
def test_a_system_daemon_is_marked_as_one(form: PictureFormat) -> None:
    clock = DaemonSpec(name="clock", process="clock", run="geartrain.actors:ReactorClock")
    text = picture(PipelineSpec(name="demo", daemons=(*CHAIN.daemons, clock)), form)
    assert text.count("(system)") == 1
    assert "clock (system)" in text
