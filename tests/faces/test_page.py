"""The observer's page, in a real browser: what it shows, and that everybody can read and reach it."""

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from geartrain.faces.web_address import Bind, listening
from geartrain.faces.web_live import LogLine
from geartrain.rules.health import Condition
from geartrain.rules.pipeline import POLICIES
from tests.faces import scenes
from tests.faces.browser import CHROMIUM, DRIVER, MISSING, Browser, browser
from tests.faces.conftest import Running
from tests.faces.pretend_gateway import PAGE, PretendGateway
from tests.faces.scenes import Scene

needs_chromium = pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason=MISSING)

# What of the page can be worked by who has no mouse, in the order of the tab key.
REACHABLE = "a[href], button, select, input, summary, [tabindex='0']"


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    with browser() as window:
        yield window


@pytest.fixture
def page(window: Browser) -> Iterator[Browser]:
    """The window as new, on an ordinary screen."""
    window.size(1360, 900)
    window.prefer("light")
    window.console()
    window.requests()
    yield window
    # Nobody is there any more when the test is over, and the next one is not to hear of it.
    window.go("about:blank")


@contextmanager
def shown(page: Browser, scene: Scene, looks: int = 8) -> Iterator[PretendGateway]:
    """The page of this scene, drawn."""
    gateway = PretendGateway(scene.graph)
    for node in scene.graph.nodes:
        gateway.logs[node.process] = [LogLine(stream="out", text=f"{node.process} says line {n}") for n in range(60)]
    with gateway.serving():
        gateway.say(*scene.many(looks))
        page.go(gateway.address)
        page.wait(
            "return document.querySelectorAll('#daemon-table tbody tr').length == arguments[0]", len(scene.graph.nodes)
        )
        page.wait("return document.querySelector('#drawing > svg') && document.querySelector('#log-lines p')")
        yield gateway
        page.go("about:blank")


def row(daemon: str) -> str:
    """A script's words for the row of a daemon in the table."""
    is_it = f"row.querySelector('button.name')?.textContent == '{daemon}'"
    return f"[...document.querySelectorAll('#daemon-table tr')].find((row) => {is_it})"


def box(daemon: str) -> str:
    return f"document.querySelector(\"#drawing [data-daemon='{daemon}']\")"


# -- what it shows ----------------------------------------------------------------------------------------------------


@needs_chromium
def test_a_killed_daemon_is_shown_within_two_seconds(page: Browser) -> None:
    scene = scenes.vision()
    with shown(page, scene) as gateway:
        scene.kill("detector")
        gateway.say(scene.next())
        page.wait(f"return {row('detector')}.dataset.condition == 'dead'", within_s=2)
        page.wait(f"return {box('detector')}.dataset.condition == 'dead'", within_s=2)
        assert "killed by SIGKILL" in page.run(f"return {row('detector')}.innerText")
        assert page.run(f"return {box('detector')}.getAttribute('aria-label')").startswith("detector: dead")
        assert "PROCESS_DEAD" in page.run("return document.querySelector('#fault-list').innerText")
        assert page.run("return document.querySelector('#health').innerText") == "critical"
        assert page.run("return document.title").startswith("(1) vision")
        # Also for who does not see it.
        assert page.run("return document.querySelector('#said').textContent") == "detector is dead"


@needs_chromium
def test_a_writer_that_waits_is_named_on_its_channel_in_words_and_by_shape(page: Browser) -> None:
    scene = scenes.vision()
    with shown(page, scene) as gateway:
        assert "waits" not in page.run("return document.querySelector('#drawing').textContent")
        scene.press("frames")
        gateway.say(scene.next())
        page.wait("return document.querySelector(\"[data-channel='frames'] .note\").textContent == '▲ camera waits'")
        assert page.run("return document.querySelector(\"[data-channel='frames'] .fill\").textContent") == "8/8"
        said = page.run("return document.querySelector('#channel-table tbody tr').innerText")
        assert "▲ camera, for room" in said


@needs_chromium
def test_a_fault_is_listed_with_severity_entity_since_and_count_and_folded_away_when_healed(page: Browser) -> None:
    scene = scenes.rover()
    with shown(page, scene) as gateway:
        scene.raise_fault("planner", "app", "APP_HUNG", 3, "critical", "in its body for 4.2 s")
        scene.raise_fault("mapper", "app", "APP_ERROR", 1, "warn", "it raised")
        gateway.say(scene.next())
        page.wait("return document.querySelectorAll('#fault-list > li').length == 2")
        first = page.run("return document.querySelector('#fault-list > li').innerText")
        assert re.search(
            r"critical\s+planner\s+APP_HUNG\s+in its body for 4.2 s\s+since \d\d:\d\d:\d\d, 0 s\s+1 time", first
        )
        scene.heal("planner", "APP_HUNG")
        gateway.say(scene.next())
        # For a while it is to be seen, after those that are.
        page.wait("return document.querySelector('#fault-list > li:last-child').innerText.startsWith('healed')")
        gateway.say(*scene.many(130))
        page.wait("return document.querySelectorAll('#fault-list > li').length == 1")
        assert page.run("return document.querySelector('#healed summary').textContent") == "1 healed or cleared"


@needs_chromium
def test_charts_show_throughput_waiting_items_durations_and_lateness_and_say_where_there_are_none(
    page: Browser,
) -> None:
    scene = scenes.vision(cycling=["camera"])
    with shown(page, scene, looks=40) as gateway:
        page.wait("return document.querySelectorAll('.chart:not([data-empty]) canvas').length == 4")
        spoken = page.run(
            "return [...document.querySelectorAll('.plot')].map((plot) => plot.getAttribute('aria-label'))"
        )
        assert [words.partition(":")[0] for words in spoken] == [
            "Throughput",
            "Waiting items",
            "Body duration",
            "Lateness",
        ]
        assert "frames" in spoken[0]
        assert "camera" in spoken[2]
        page.run("document.querySelectorAll('.plot')[0].focus()")
        page.press("Left", "Left")
        page.wait("return /^Throughput at \\d\\d:/.test(document.querySelector('.plot').getAttribute('aria-label'))")
        page.press("Escape")
        gateway.say(scene.next())
    with shown(page, scenes.vision(), looks=40):
        page.wait("return document.querySelectorAll('.chart:not([data-empty]) canvas').length == 2")
        assert "No cycles here" in page.run("return document.querySelector('#charts').innerText")


@needs_chromium
def test_the_log_follows_the_chosen_daemon_and_marks_what_came_by_stderr(page: Browser) -> None:
    scene = scenes.rover()
    with shown(page, scene) as gateway:
        gateway.logs["drive"] = [LogLine(stream="err", text="<b>too hot</b>")]
        page.run(f"{row('wheels')}.querySelector('button').click()")
        page.wait("return document.querySelector('#log-lines').innerText.includes('err<b>too hot</b>')")
        assert page.run("return document.querySelector('#log-process').value") == "drive"
        gateway.logs["drive"].append(LogLine(stream="out", text="well again"))
        page.wait("return document.querySelector('#log-lines').innerText.includes('well again')")


@needs_chromium
def test_the_log_stays_at_its_end_and_still_while_somebody_reads_above(page: Browser) -> None:
    scene = scenes.vision()
    log = "const log = document.querySelector('#log-lines');"
    at_end = f"{log} return log.scrollHeight - log.scrollTop < log.clientHeight + 4"
    with shown(page, scene) as gateway:
        page.wait(at_end)
        gateway.logs["album"].append(LogLine(stream="out", text="one more"))
        page.wait("return document.querySelector('#log-lines').innerText.includes('one more')")
        page.wait(at_end)
        page.run("document.querySelector('#log-lines').scrollTop = 0")
        gateway.logs["album"].append(LogLine(stream="out", text="and one"))
        page.wait("return document.querySelector('#log-lines').innerText.includes('and one')")
        assert page.run("return document.querySelector('#log-lines').scrollTop") == 0


@needs_chromium
def test_a_table_is_sorted_by_any_column_and_goes_back_to_the_order_of_the_pipeline(page: Browser) -> None:
    scene = scenes.vision()
    names = "return [...document.querySelectorAll('#daemon-table button.name')].map((name) => name.textContent)"
    with shown(page, scene) as gateway:
        scene.kill("tracker")
        gateway.say(scene.next())
        page.wait(f"return {row('tracker')}.dataset.condition == 'dead'")
        state = "document.querySelector('#daemon-table thead button')"
        page.run(f"{state}.click()")
        assert page.run(names)[0] == "tracker"
        assert page.run(f"return {state}.parentElement.getAttribute('aria-sort')") == "descending"
        page.run(f"{state}.click()")
        assert page.run(names)[-1] == "tracker"
        page.run(f"{state}.click()")
        assert page.run(names) == ["camera", "detector", "tracker", "album"]


@needs_chromium
@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("duration(null)", "\u2013"),
        ("duration(0)", "0 s"),
        ("duration(4.2e-8)", "42 ns"),
        ("duration(9.9996e-7)", "1.00 µs"),
        ("duration(0.0021)", "2.10 ms"),
        ("duration(-0.0003)", "\u2212300 µs"),
        ("duration(0.99996)", "1.00 s"),
        ("duration(125)", "2 min 5 s"),
        ("rate(null)", "\u2013"),
        ("rate(96.04)", "96.0/s"),
        ("rate(99.97)", "100/s"),
        ("rate(12345)", "12 345/s"),
        ("rate(1234567)", "1235k/s"),
        ("long(7384)", "2 h 3 min"),
        ("count(1234567)", "1 234 567"),
        ("ending(-9)", "killed by SIGKILL"),
        ("ending(-40)", "killed by signal 40"),
        ("ending(3)", "exit code 3"),
        ("ending(null)", "nobody saw how it ended"),
    ],
)
def test_figures_have_three_digits_that_matter_a_unit_and_a_dash_for_what_is_not_known(
    figures: Browser, call: str, said: str
) -> None:
    assert figures.run(f"return import('/shown.js').then((shown) => shown.{call})") == said


@pytest.fixture(scope="module")
def figures(window: Browser) -> Iterator[Browser]:
    with PretendGateway(scenes.vision().graph).serving() as gateway:
        window.go(f"{gateway.address}/icon.svg")
        yield window
        window.go("about:blank")


# -- the real thing ---------------------------------------------------------------------------------------------------


@needs_chromium
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_run_is_shown_as_it_is_and_a_death_within_two_seconds(
    page: Browser, running: Running, place: Path, backend: str
) -> None:
    slow = place / "slow"
    settings = (f'daemons.detector.config.slow="{slow}"', f'pipeline.backend="{backend}"')
    words = [word for setting in settings for word in ("--set", setting)]
    with listening(Bind("127.0.0.1", 0)) as opened:
        port = opened.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with running("tests/faces/seen.toml", "--observe", f"127.0.0.1:{port}", *words) as live:
        live.until("observer | is ready")
        page.go(url)
        page.wait("return document.querySelectorAll('#daemon-table tbody tr').length == 5")
        page.wait("return document.querySelectorAll('.chart:not([data-empty]) canvas').length == 4")
        slow.touch()
        page.wait("return document.querySelector(\"[data-channel='frames'] .note\").textContent == '▲ camera waits'")
        slow.unlink()
        pid = page.wait(f"return {row('detector')}.innerText.match(/pid (\\d+)/)[1]")
        os.kill(int(pid), signal.SIGKILL)
        page.wait("return document.querySelector('#faults').textContent.includes('PROCESS_DEAD')", within_s=2)
        page.wait(f"return {row('detector')}.querySelector('[data-title=Restarts]').textContent == '1'")
        assert page.console() == []
        assert [asked for asked in page.requests() if not asked.startswith(url)] == []
        page.go("about:blank")


# -- the connection ---------------------------------------------------------------------------------------------------


@needs_chromium
def test_a_stream_that_breaks_is_said_with_the_time_and_comes_back_where_it_was(page: Browser) -> None:
    scene = scenes.vision()
    with shown(page, scene) as gateway:
        gateway.break_streams(refuse=True)
        page.wait("return !document.querySelector('#banner').hidden")
        assert re.match(
            r"Disconnected since \d\d:\d\d:\d\d\.", page.run("return document.querySelector('#banner').innerText")
        )
        assert page.run("return document.body.dataset.old") == "true"
        gateway.say(*scene.many(3))
        gateway.accept()
        page.wait("return document.querySelector('#banner').hidden && !document.body.dataset.old")
        assert gateway.came_again == [None, "8"]


@needs_chromium
def test_silence_is_a_break_too(page: Browser) -> None:
    scene = scenes.vision()
    with shown(page, scene) as gateway:
        page.wait("return !document.querySelector('#banner').hidden")
        gateway.say(scene.next())
        page.wait("return document.querySelector('#banner').hidden")


@needs_chromium
def test_an_observer_that_was_started_again_counts_from_one_and_is_heard(page: Browser) -> None:
    scene = scenes.vision()
    with shown(page, scene) as gateway:
        gateway.break_streams()
        scene.look, scene.began = 0, scene.began + 60
        scene.kill("album")
        gateway.looks = [scene.next()]
        gateway.forgets = True
        page.wait(f"return {row('album')}.dataset.condition == 'dead'")


@needs_chromium
def test_a_run_that_is_over_says_so(page: Browser) -> None:
    scene = scenes.vision()
    with shown(page, scene) as gateway:
        scene.alive = False
        gateway.say(scene.next())
        page.wait("return document.querySelector('#banner').innerText.startsWith('The run is over.')")


@needs_chromium
def test_a_gateway_that_wants_a_token_is_given_that_of_the_address_or_one_that_is_typed(page: Browser) -> None:
    scene = scenes.vision()
    gateway = PretendGateway(scene.graph)
    gateway.token = "open sesame"
    with gateway.serving():
        gateway.say(*scene.many(3))
        page.go(gateway.address)
        page.wait("return !document.querySelector('#token').hidden")
        page.run("document.querySelector('#token input').focus()")
        page.press(*"open", "Space", *"sesame", "Enter")
        page.wait(f"return {row('camera')}")
        page.wait("return document.querySelector('#token').hidden")
        page.run("sessionStorage.clear()")
        page.go(f"{gateway.address}/?token=open+sesame")
        page.wait(f"return {row('camera')}")
        assert page.run("return location.search") == ""
        page.go("about:blank")


# -- everybody --------------------------------------------------------------------------------------------------------


@needs_chromium
def test_nothing_is_asked_of_anybody_else_and_nothing_is_wrong_in_the_console(page: Browser) -> None:
    scene = scenes.rover()
    with shown(page, scene, looks=40) as gateway:
        page.run(f"{row('planner')}.querySelector('button').click()")
        page.run("document.querySelector('#span input[value=\"300\"]').click()")
        page.run("document.querySelector('#theme').click()")
        page.size(360, 740, phone=True)
        scene.kill("drive")
        gateway.say(*scene.many(3))
        page.wait(f"return {row('wheels')}.dataset.condition == 'dead'")
        page.size(1360, 900)
        page.run("document.querySelector('#unchoose').click(); localStorage.clear()")
        gateway.say(*scene.many(3))
        page.wait("return document.querySelector('#chosen').hidden")
        asked = page.requests()
        assert [url for url in asked if not url.startswith(gateway.address)] == []
        assert len(asked) > 10
        assert page.console() == []


@needs_chromium
@pytest.mark.parametrize("make", [scenes.vision, scenes.rover, scenes.forty], ids=["vision", "rover", "forty"])
def test_a_phone_scrolls_the_page_up_and_down_only(page: Browser, make: Callable[[], Scene]) -> None:
    page.size(360, 740, phone=True)
    pipeline = make()
    with shown(page, pipeline, looks=30) as gateway:
        page.run(f"{row(pipeline.graph.nodes[0].id)}.querySelector('button').click()")
        gateway.say(pipeline.next())
        page.wait("return !document.querySelector('#chosen').hidden")
        assert page.run("return document.documentElement.scrollWidth") == 360
        wide = """return [...document.querySelectorAll('body *')]
            .filter((one) => !one.closest('.scrolls, .unseen, thead') && one.getBoundingClientRect().right > 361)
            .map((one) => one.outerHTML.slice(0, 80))"""
        assert page.run(wide) == []


@needs_chromium
def test_every_part_is_reached_by_the_tab_key_and_shows_that_it_is(page: Browser) -> None:
    scene = scenes.rover()
    with shown(page, scene, looks=30):
        page.wait("return document.querySelectorAll('.chart:not([data-empty]) canvas').length == 4")
        page.run("window.met = []")
        expected = page.run(f"""return [...document.querySelectorAll("{REACHABLE}")].filter((one) =>
            one.checkVisibility() && (one.type != 'radio' || one.checked) && one.tabIndex >= 0).length""")
        page.press("Tab")
        while page.run("return document.activeElement != document.body && !met.includes(document.activeElement)"):
            page.run("met.push(document.activeElement)")
            assert page.run("""
                const one = document.activeElement, ring = one.querySelector?.('.ring') ?? one.nextElementSibling;
                const seen = (thing, name) => thing && getComputedStyle(thing)[name] != 'none';
                return seen(one, 'outlineStyle') || seen(ring, 'stroke') || seen(ring, 'outlineStyle')"""), page.run(
                "return document.activeElement.outerHTML.slice(0, 200)")  # fmt: skip
            page.press("Tab")
        assert page.run("return met.length") == expected
        assert expected > 40


@needs_chromium
def test_arrows_walk_through_the_picture_enter_chooses_and_escape_goes_back(page: Browser) -> None:
    with shown(page, scenes.vision()):
        page.run(f"{box('camera')}.focus()")
        focused = "return document.activeElement.dataset.daemon"
        page.press("Right", "Right")
        assert page.run(focused) == "tracker"
        page.press("Left")
        assert page.run(focused) == "detector"
        page.press("Enter")
        page.wait("return document.querySelector('#chosen-title').textContent == 'detector'")
        assert page.run(f"return {row('detector')}.dataset.chosen") == "true"
        assert "2 of its process" not in page.run("return document.querySelector('#chosen-facts').innerText")
        page.press("Escape")
        page.wait("return document.querySelector('#chosen').hidden")
        assert page.run(focused) == "detector"


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_word_stands_out_from_what_is_behind_it(page: Browser, scheme: str) -> None:
    """4.5 to 1, as the WCAG ask of text; also of what is in trouble, waits or is chosen."""
    page.prefer(scheme)
    scene = scenes.rover()
    with shown(page, scene, looks=30) as gateway:
        scene.kill("drive")
        scene.press("world")
        scene.be("planner", "hung")
        scene.be("mapper", "stale")
        scene.be("recorder", "stopped")
        scene.raise_fault("mapper", "app", "APP_ERROR", 1, "warn", "it raised")
        gateway.logs["sensors"].append(LogLine(stream="err", text="hot"))
        page.run(f"{row('planner')}.querySelector('button').click()")
        gateway.say(*scene.many(3))
        page.wait(f"return {row('wheels')}.dataset.condition == 'dead'")
        found = page.run(_CONTRASTS)
        assert len(found) > 100
        assert [words for words, ratio in found if ratio < 4.5] == []


_CONTRASTS = """
    const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    const rgba = (colour) => {
        canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const light = (colour) => rgba(colour).slice(0, 3).map((part) => part / 255)
        .map((part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
        .reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0);
    const behind = (one) => {
        const frame = one.closest('g')?.querySelector('.frame');
        if (frame) return getComputedStyle(frame).fill;
        while (one && rgba(getComputedStyle(one).backgroundColor)[3] < 255) one = one.parentElement;
        return getComputedStyle(one ?? document.body).backgroundColor;
    };
    return [...document.querySelectorAll('body *')]
        .filter((one) => one.checkVisibility() && one.getBoundingClientRect().width
            && [...one.childNodes].some((node) => node.nodeType == 3 && node.data.trim()))
        .filter((one) => !['SCRIPT', 'STYLE', 'OPTION', 'title'].includes(one.tagName))
        .map((one) => {
            const ink = one instanceof SVGElement ? getComputedStyle(one).fill : getComputedStyle(one).color;
            const [a, b] = [light(ink), light(behind(one))].sort((a, b) => b - a);
            const name = one.className.baseVal ?? one.className;
            return [`${name} ${one.textContent.slice(0, 40)}`, (a + 0.05) / (b + 0.05)];
        });
"""


@needs_chromium
def test_the_theme_is_that_of_the_system_until_somebody_chooses_and_is_kept(page: Browser) -> None:
    ground = "return getComputedStyle(document.body).backgroundColor"
    with shown(page, scenes.vision()) as gateway:
        light = page.run(ground)
        page.prefer("dark")
        page.wait(f"return (() => {{ {ground} }})() != arguments[0]", light)
        page.run("document.querySelector('#theme').click()")
        assert page.run(ground) == light
        assert page.run("return document.querySelector('#theme').textContent") == "Theme: light"
        page.go(gateway.address)
        assert page.run(ground) == light
        page.run("document.querySelector('#theme').click()")
        assert page.run(ground) != light
        page.run("localStorage.clear()")


# -- the files --------------------------------------------------------------------------------------------------------


def _text(name: str) -> str:
    return (PAGE / name).read_text()


def test_every_condition_has_a_shape_and_a_place_in_the_order() -> None:
    ordered = re.search(r"CONDITIONS = \[(.*?)\]", _text("model.js"))
    assert ordered is not None
    assert set(re.findall(r'"(\w+)"', ordered[1])) == set(Condition)
    assert {f"is-{condition}" for condition in Condition} <= set(re.findall(r'id="(is-\w+)"', _text("index.html")))


def test_the_page_takes_a_policy_that_blocks_for_one_that_keeps_everything() -> None:
    assert [policy for policy in POLICIES if policy.startswith("block")] == ["block"]


def test_the_page_names_nothing_outside_itself() -> None:
    """But for the namespace of SVG, and where uPlot comes from."""
    ours = [path for path in PAGE.rglob("*") if path.is_file() and path.parent.name != "vendor"]
    found = [url for path in ours for url in re.findall(r"https?://[^\s\"']+", path.read_text())]
    assert set(found) == {"http://www.w3.org/2000/svg"}


def test_what_is_not_ours_comes_with_its_licence() -> None:
    vendor = PAGE / "vendor"
    assert {path.name for path in vendor.iterdir()} == {"uPlot.iife.min.js", "uPlot.min.css", "uPlot.LICENSE.txt"}
    assert "The MIT License" in (vendor / "uPlot.LICENSE.txt").read_text()


def test_every_file_that_the_page_asks_for_is_there() -> None:
    asked = set(re.findall(r'(?:src|href)="([\w./-]+)"', _text("index.html")))
    asked |= {name for path in PAGE.glob("*.js") for name in re.findall(r'from "\./([\w.]+)"', path.read_text())}
    assert [name for name in sorted(asked) if not Path(PAGE, name).is_file()] == []
