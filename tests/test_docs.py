"""Every example in README.md and docs/ runs, on both loops, and prints what the page says it prints.

A block marked `python` is a script of its own. A block marked `text` right after it is what it prints.
"""

import logging
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Literal

import anyio
import pytest
from msgspec import Struct

import geartrain
from geartrain import (
    Channel,
    Context,
    Daemon,
    OnError,
    Pipeline,
    RestartPolicy,
    SimClock,
    Supervisor,
    open_channel,
    simulate,
)
from geartrain.rules.pipeline_file import parsed, read
from tests.rules import keys

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
Loop = Literal["asyncio", "trio"]
LOOPS: tuple[Loop, ...] = ("asyncio", "trio")

BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```\n(?:\n*^```text\n(?P<printed>.*?)^```$)?", re.MULTILINE | re.DOTALL)


TOML = r"^```toml\n(.*?)^```$"


class Example(Struct, frozen=True):
    """One block of a page."""

    page: Path
    line: int
    code: str
    printed: str | None

    @property
    def takes_a_loop(self) -> bool:
        return "simulate(" in self.code or "anyio.run(" in self.code

    def run(self) -> None:
        # Empty lines before the code make a traceback name the line of the page.
        source = "\n" * self.line + self.code
        exec(compile(source, str(self.page), "exec", dont_inherit=True), {"__name__": "__main__"})


def examples() -> Iterator[Example]:
    for page in PAGES:
        text = page.read_text()
        for block in BLOCK.finditer(text):
            yield Example(page, text.count("\n", 0, block.start()) + 1, block["code"], block["printed"])


def cases() -> Iterator[object]:
    for example in examples():
        for loop in LOOPS if example.takes_a_loop else LOOPS[:1]:
            yield pytest.param(example, loop, id=f"{example.page.name}:{example.line}-{loop}")


@pytest.fixture(autouse=True)
def log_levels_are_put_back() -> Iterator[None]:
    level = logging.getLogger("geartrain").level
    yield
    logging.getLogger("geartrain").setLevel(level)


@pytest.mark.parametrize(("example", "loop"), list(cases()))
def test_an_example_of_a_page_runs_and_prints_what_the_page_says(
    example: Example, loop: Loop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(geartrain, "simulate", partial(simulate, backend=loop), raising=False)
    monkeypatch.setattr(anyio, "run", partial(anyio.run, backend=loop))
    # Daemons of a script are loaded from its file, and this one's is the page.
    script = ModuleType("__main__")
    script.__file__ = str(example.page)
    monkeypatch.setitem(sys.modules, "__main__", script)
    example.run()
    if example.printed is not None:
        assert capsys.readouterr().out == example.printed


def test_no_block_of_a_page_is_overlooked() -> None:
    found = {page.name: 0 for page in PAGES}
    for example in examples():
        found[example.page.name] += 1
    assert found == {page.name: page.read_text().count("```python") for page in PAGES}
    assert sum(found.values()) > 20


def test_the_example_in_the_readme_is_the_one_in_examples() -> None:
    readme = next(example for example in examples() if example.page.name == "README.md")
    assert readme.code in (ROOT / "examples" / "quick.py").read_text().replace('if __name__ == "__main__":\n    ', "")


def test_every_link_between_the_pages_leads_somewhere() -> None:
    pages = [*PAGES, *sorted((ROOT / "adr").glob("*.md")), ROOT / "CHANGELOG.md"]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^):]+)\)", page.read_text())]
    assert [f"{page.name}: {link}" for page, link in links if not leads_somewhere(page, link)] == []


def leads_somewhere(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE) if anchor else []
    return target.exists() and anchor in {"", *(heading.lower().replace(" ", "-") for heading in headings)}


def files_of_pages() -> Iterator[object]:
    for page in PAGES:
        for number, text in enumerate(re.findall(TOML, page.read_text(), re.MULTILINE | re.DOTALL)):
            yield pytest.param(text, id=f"{page.name}:{number}")


@pytest.mark.parametrize("text", list(files_of_pages()))
def test_a_pipeline_file_of_a_page_says_nothing_that_is_refused(text: str) -> None:
    name_of_a_part = "is missing; give the pipeline a name"
    assert [fault for fault in read(parsed(text, "toml", "")).faults if not fault.said.startswith(name_of_a_part)] == []


def test_nothing_is_wrong_with_the_pipeline_in_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [text] = re.findall(TOML, (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "home.toml").write_text(text)
    monkeypatch.syspath_prepend(ROOT / "examples")
    assert Pipeline.from_file(tmp_path / "home.toml").check() == ()


# -- the first pipeline ---------------------------------------------------------------------------------------------


def test_the_first_pipeline_of_the_start_page_runs_as_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "start.md").read_text()
    for name, text in re.findall(r"^`([\w.]+)`:\n\n```\w+\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        (tmp_path / name).write_text(text)
    [(command, printed)] = re.findall(
        r"^    (geartrain run [^\n]*)\n\n```output\n(.*?)^```$", page, re.MULTILINE | re.DOTALL
    )
    with TemporaryDirectory(prefix="gt-") as place:  # not below pytest's folder: the path of a socket must be short
        for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
            monkeypatch.setenv(name, place)
        arguments = [sys.executable, "-m", *command.split()]
        done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, printed), done.stderr


# -- the keys of a pipeline file ------------------------------------------------------------------------------------


def test_the_page_of_pipeline_files_says_what_the_code_says() -> None:
    """What is meant to change is written anew by `python -m tests.rules.keys`."""
    assert keys.page() == keys.PAGE.read_text()


@pytest.mark.parametrize("table", keys.TABLES, ids=lambda table: table.title)
def test_every_key_of_a_pipeline_file_has_a_meaning_and_an_example_that_is_accepted(table: keys.Table) -> None:
    assert set(table.keys) == keys.keys_of(table)
    assert [said for name, key in table.keys.items() for said in keys.refusals(table, name, key.example)] == []


# -- the table of what each way of dying means ----------------------------------------------------------------------


class Dying(Struct, frozen=True):
    """One cell of the table in concepts.md."""

    how: str
    phase: str
    policy: OnError
    expected: str


def table_of_deaths() -> Iterator[Dying]:
    section = (ROOT / "docs" / "concepts.md").read_text().split("### What each way of dying means")[1].split("\n#")[0]
    lines = [line.replace("`", "").strip("|") for line in section.splitlines() if line.startswith("|")]
    table = [[cell.strip() for cell in line.split("|")] for line in lines]
    policies: tuple[OnError, ...] = ("shutdown", "restart", "ignore")
    assert table[0][2:] == list(policies)
    for how, where, *answers in table[2:]:
        for phase in ("on_start", "run", "on_stop") if where == "any" else (where,):
            for policy, answer in zip(policies, answers, strict=True):
                yield Dying(how, phase, policy, answer)


async def die_returning(ctx: Context) -> None:
    """Nothing happens."""


async def die_raising(ctx: Context) -> None:
    raise OSError("first")


async def die_raising_a_group(ctx: Context) -> None:
    raise ExceptionGroup("two", [OSError("first"), OSError("second")])


async def die_while_being_stopped(ctx: Context) -> None:
    await ctx.stop_event.wait()
    raise OSError("first")


async def die_sending_to_nobody(ctx: Context) -> None:
    channel: Channel[str] = open_channel(1)
    await ctx.stop_event.wait()
    await channel.recv.aclose()
    await channel.send.send("too late")


async def die_exiting(ctx: Context) -> None:
    raise SystemExit(3)


async def die_cancelled_by_oneself(ctx: Context) -> None:
    ctx.cancel_scope.cancel()
    await ctx.clock.sleep(1)


async def die_late(ctx: Context) -> None:
    await anyio.sleep_forever()


WAYS: dict[str, Callable[[Context], Awaitable[None]]] = {
    "it returns": die_returning,
    "it raises an error": die_raising,
    "it raises an ExceptionGroup": die_raising_a_group,
    "it raises an error while it is being stopped": die_while_being_stopped,
    "its reader was stopped before it (ChannelClosed)": die_sending_to_nobody,
    "it raises SystemExit or KeyboardInterrupt": die_exiting,
    "it cancels its own ctx.cancel_scope": die_cancelled_by_oneself,
    "stop() cancels it, for it was late": die_late,
}


class Mortal(Daemon):
    """Dies in one phase of its first life."""

    def __init__(self, phase: str, way: Callable[[Context], Awaitable[None]]) -> None:
        self._phase = phase
        self._way = way

    async def on_start(self, ctx: Context) -> None:
        await self._maybe_die("on_start", ctx)

    async def run(self, ctx: Context) -> None:
        await self._maybe_die("run", ctx)

    async def on_stop(self, ctx: Context) -> None:
        await self._maybe_die("on_stop", ctx)

    async def _maybe_die(self, phase: str, ctx: Context) -> None:
        if phase == self._phase and ctx.supervisor.snapshot()["mortal"].restart_count == 0:
            await self._way(ctx)


async def outcome(dying: Dying) -> str:
    clock = SimClock()
    sup = Supervisor(clock=clock, on_error=dying.policy, restart=RestartPolicy(max_retries=1))
    try:
        async with sup:
            sup.add(Mortal(dying.phase, WAYS[dying.how]), name="mortal")
            await clock.run()
            sup.signal_stop()
            await clock.run()
            await sup.stop(grace=0)
    except SystemExit:
        return "raised as it is"
    except ExceptionGroup as group:
        return ", ".join(type(error).__name__ for error in group.exceptions)
    health = sup.snapshot()["mortal"]
    return "started again" if health.restart_count else health.state


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    "dying", list(table_of_deaths()), ids=lambda dying: f"{dying.how}, {dying.phase}, {dying.policy}"
)
def test_a_daemon_that_dies_has_the_outcome_of_the_table(dying: Dying, loop: Loop) -> None:
    assert simulate(outcome, dying, backend=loop) == dying.expected
