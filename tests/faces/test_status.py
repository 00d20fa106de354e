"""The live line of a terminal: what it says, and that nothing else is ever mixed up with it."""

import io

import anyio
import pytest

from geartrain.engine.roll import Standing, State
from geartrain.faces.looks import Printer
from geartrain.faces.status import StatusLine, in_short


class Terminal(io.StringIO):
    """Remembers what can be read on it: `\\r\\x1b[K` takes the last line away."""

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2

    @property
    def seen(self) -> list[str]:
        return [line.rpartition("\r\x1b[K")[2] for line in self.getvalue().split("\n")]


def standings(*states: State) -> tuple[Standing, ...]:
    return tuple(Standing(f"d{number}", "p", state=state) for number, state in enumerate(states))


@pytest.mark.parametrize(
    ("states", "elapsed_s", "stopping", "said"),
    [
        (("running", "restarting", "running"), 12.9, False, "v  2 running, 1 restarting  12 s  Ctrl-C stops"),
        (("waiting", "starting"), 0, False, "v  1 starting, 1 waiting  0 s  Ctrl-C stops"),
        (("ended", "running"), 61, True, "v  1 running, 1 ended  1 min 1 s  stopping, Ctrl-C does not wait"),
        (("running",), 7384, False, "v  1 running  2 h 3 min  Ctrl-C stops"),
    ],
)
def test_the_line_counts_daemons_and_says_what_ctrl_c_does(
    states: tuple[State, ...], elapsed_s: float, stopping: bool, said: str
) -> None:
    assert in_short("v", standings(*states), elapsed_s, stopping=stopping) == said


@pytest.mark.parametrize(
    ("stream", "environment", "shown"),
    [(Terminal(), {"TERM": "xterm"}, True), (Terminal(), {"TERM": "dumb"}, False), (io.StringIO(), {}, False)],
)
def test_the_line_is_for_terminals_that_can_erase(
    stream: io.StringIO, environment: dict[str, str], shown: bool
) -> None:
    assert StatusLine(stream, environment).is_wanted == shown


async def test_a_line_that_has_ended_does_not_come_again() -> None:
    terminal = Terminal()
    status = StatusLine(terminal, {}, lambda _fd: 80)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(status.keep, lambda: "one")
            while terminal.seen != ["one"]:
                await anyio.sleep(0.001)
            status.end()
    assert terminal.seen == [""]


async def test_the_line_stays_below_what_is_printed_and_is_gone_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geartrain.faces.status._CALM_S", 0.001)
    terminal = Terminal()
    status = StatusLine(terminal, {}, lambda _fd: 80)
    printer = Printer(terminal, ("eye",), status.erase)
    said = "one"
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(status.keep, lambda: said)
            while terminal.seen != ["one"]:
                await anyio.sleep(0.001)
            printer.text("a line\n")
            assert terminal.seen == ["a line", ""]
            # It comes again by itself, and well before its second is over.
            with anyio.fail_after(0.9):
                while terminal.seen != ["a line", "one"]:
                    await anyio.sleep(0.001)
                said = "two"
                status.change()
                while terminal.seen != ["a line", "two"]:
                    await anyio.sleep(0.001)
            tasks.cancel_scope.cancel()
    assert terminal.seen == ["a line", ""]


@pytest.mark.parametrize(("columns", "seen"), [(80, "a long line"), (7, "a long"), (1, ""), (0, "a long line")])
async def test_on_a_narrow_terminal_the_line_is_cut_and_never_wraps(columns: int, seen: str) -> None:
    terminal = Terminal()
    status = StatusLine(terminal, {}, lambda _fd: columns)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(status.keep, lambda: "a long line")
        while not terminal.getvalue():
            await anyio.sleep(0.001)
        assert terminal.seen == [seen]
        tasks.cancel_scope.cancel()


def test_a_terminal_that_is_gone_stops_nobody() -> None:
    class Gone(Terminal):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    StatusLine(Gone(), {}, lambda _fd: 80)._draw("x")
