"""A plot is well-formed SVG, in which everything lies where its value says and every line has its name."""

from xml.etree import ElementTree

import pytest

from geartrain.rules.plots import Axis, Guide, Line, Plot, Tick, svg

SVG = "{http://www.w3.org/2000/svg}"


def axis(*ats: float, logarithmic: bool = False) -> Axis:
    return Axis("axis", tuple(Tick(at, f"{at:g}") for at in ats), logarithmic)


def drawn(*lines: Line, guides: tuple[Guide, ...] = ()) -> ElementTree.Element:
    plot = Plot(
        title='a <title> & "more"', x=axis(0, 10), y=axis(1, 10, 100, logarithmic=True), lines=lines, guides=guides
    )
    return ElementTree.fromstring(svg(plot))


def points(picture: ElementTree.Element) -> list[list[tuple[float, ...]]]:
    lines = picture.iter(f"{SVG}polyline")
    return [[tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()] for line in lines]


def texts(picture: ElementTree.Element) -> dict[str, float]:
    return {text.text or "": float(text.attrib.get("y", 0)) for text in picture.iter(f"{SVG}text")}


@pytest.mark.parametrize(("value", "share"), [(1, 0), (10, 0.5), (100, 1), (0.1, 0), (1000, 1)])
def test_on_a_logarithmic_axis_each_factor_has_the_same_room_and_nothing_leaves_it(value: float, share: float) -> None:
    assert axis(1, 10, 100, logarithmic=True).share(value) == pytest.approx(share)


@pytest.mark.parametrize(("value", "share"), [(2, 0), (6, 0.5), (10, 1), (0, 0)])
def test_a_plain_axis_is_even(value: float, share: float) -> None:
    assert axis(2, 10).share(value) == pytest.approx(share)


def test_a_line_goes_up_and_to_the_right_with_its_values() -> None:
    ((begin, middle, end),) = points(drawn(Line("up", ((0, 1), (5, 10), (10, 100)))))
    assert begin[0] < middle[0] < end[0]
    assert begin[1] > middle[1] > end[1]
    assert middle == pytest.approx(((begin[0] + end[0]) / 2, (begin[1] + end[1]) / 2))


def test_a_guide_lies_at_its_value() -> None:
    picture = drawn(Line("at", ((0, 10), (10, 10))), guides=(Guide("wanted", 10),))
    ((begin, _),) = points(picture)
    (guide,) = (line for line in picture.iter(f"{SVG}line") if line.attrib["class"] == "guide")
    assert float(guide.attrib["y1"]) == float(guide.attrib["y2"]) == begin[1]


def test_names_that_would_cover_each_other_are_moved_apart() -> None:
    names = texts(drawn(*(Line(name, ((0, 10), (10, 10))) for name in ("first", "second", "third"))))
    assert names["second"] - names["first"] >= 15
    assert names["third"] - names["second"] >= 15


def test_a_line_without_points_is_left_out() -> None:
    assert points(drawn(Line("none", ()))) == []


def test_words_are_written_as_they_are() -> None:
    picture = drawn()
    assert picture.attrib["aria-label"] == 'a <title> & "more"'
    assert 'a <title> & "more"' in texts(picture)
