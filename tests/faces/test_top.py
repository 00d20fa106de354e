"""What `geartrain top` shows of the files of a run, on paper and on a terminal, which is restored whatever ends it."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from geartrain.faces import top
from geartrain.faces.top import Shown, Watch, drawn, plainly
from geartrain.rules.faults import Fault, FaultCode, FaultKey, FaultStatus, Severity
from geartrain.rules.health import Condition, health
from geartrain.rules.top import ChannelRow, DaemonRow, Rows
from tests.faces.conftest import COMMAND, ROOT, Told
from tests.faces.remains import RUN, Remains

if sys.platform != "linux":
    pytest.skip("a run of many processes needs Linux", allow_module_level=True)

PATIENCE_S = 30
ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"


def remains(*, alive: bool = False) -> Remains:
    """A camera that waits for room, and a detector that has an item in hand."""
    made = Remains(alive=alive)
    camera, detector = made.begins("camera"), made.begins("detector")
    camera.counts(accepted=1240, taken=1232, waits=1)
    detector.counts(accepted=1240, taken=1232, in_hand=1233)
    for _ in range(3):
        detector.daemon.begins_body(time.monotonic_ns())
        detector.daemon.ends_body(time.monotonic_ns(), 2_000_000)
    return made


# -- on paper ---------------------------------------------------------------------------------------------------------


def test_one_look_is_two_tables(told_here: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    remains(alive=True)
    said = told_here("top", "--once", "--every", "50ms")
    assert (said.returncode, said.stderr) == (0, "")
    lines = said.stdout.splitlines()
    assert lines[0].startswith(f"{RUN}  runs for ")
    assert lines[2].split()[:2] == ["DAEMON", "STATE"]
    assert [line.split()[0] for line in lines[3:5]] == ["camera", "detector"]
    assert lines[6].split()[0] == "CHANNEL"
    assert "████████ 8/8  camera" in lines[7]
    assert max(map(len, lines)) <= 80


def test_one_look_as_json_is_a_line_for_each_daemon(told_here: Told) -> None:
    remains()
    rows = [json.loads(line) for line in told_here("top", "eyes", "--once", "--format", "json").stdout.splitlines()]
    assert [(row["run"], row["daemon"]) for row in rows] == [(RUN, "camera"), (RUN, "detector")]
    assert rows[1]["executions"] == 3
    assert 0.002 <= rows[1]["p50_s"] <= 0.0025


def test_a_run_that_is_over_is_shown_as_it_was_left(told_here: Told) -> None:
    made = remains()
    del made
    assert "is over, this is how it was left" in told_here("top", "--once").stdout


def test_a_file_that_cannot_be_read_is_named_below_the_rest(told_here: Told) -> None:
    path = remains().path("camera")
    path.write_bytes(path.read_bytes()[:50])
    lines = told_here("top", "--once").stdout.splitlines()
    assert lines[-1].startswith(f"{path} is not read: ")
    assert any(line.startswith("detector") for line in lines)


def test_looks_that_would_keep_the_machine_busy_are_refused(told_here: Told) -> None:
    remains()
    said = told_here("top", "--every", "1ms")
    assert (said.returncode, said.stdout) == (2, "")
    assert "--every must be at least 50ms" in said.stderr


def test_the_same_is_drawn_without_rich(told_here: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    remains()
    for name in ("NO_COLOR", "COLUMNS"):
        monkeypatch.setenv(name, "100")
    with_rich = re.sub("is over.*", "", told_here("top", "--once").stdout)
    monkeypatch.setitem(sys.modules, "rich", None)
    assert top.drawer(sys.stdout) is plainly
    assert re.sub("is over.*", "", told_here("top", "--once").stdout) == with_rich


def test_rich_is_imported_by_nobody_else() -> None:
    users = [path.name for path in (ROOT / "src").rglob("*.py") if re.search(r"(import|from) rich", path.read_text())]
    assert users == ["top.py"]
    script = "import sys, geartrain.faces.command_line; sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 0


# -- what fits --------------------------------------------------------------------------------------------------------


def daemon(name: str, condition: Condition = Condition.IDLE) -> DaemonRow:
    return DaemonRow(
        run=RUN, daemon=name, process=name, pid=1, condition=condition, phase="run", is_system=False, rate_hz=None,
        p50_s=None, p99_s=None, lateness_s=None, max_lateness_s=None, in_body_s=None, silent_s=12.0, executions=0,
        skipped=0, errors=0, restarts=0, deaths=0, health=health(condition),
    )  # fmt: skip


def channel(name: str, *, blocked: bool = False) -> ChannelRow:
    return ChannelRow(
        channel=name, writer="w", reader="r", policy="block", maxsize=8, fill=8, in_hz=1.0, out_hz=1.0,
        waits="w" if blocked else None, waits_s=3.0 if blocked else None, dropped=0, lost=0,
    )  # fmt: skip


def fault(name: str) -> Fault:
    return Fault(
        key=FaultKey(name, FaultCode.WRITER_BLOCKED), status=FaultStatus.CONFIRMED, severity=Severity.WARN,
        said="it waits " * 20, first_ns=1, last_ns=1, occurrences=1, streak=1,
    )  # fmt: skip


def shown(daemons: list[DaemonRow], channels: list[ChannelRow], faults: list[Fault] | None = None) -> Shown:
    rows = Rows(daemons=tuple(daemons), channels=tuple(channels), faults=tuple(faults or ()))
    return Shown(run=RUN, is_alive=True, age_s=5.0, rows=rows)


@pytest.mark.parametrize(("daemons", "channels"), [(3, 2), (100, 0), (100, 1), (2, 100), (100, 100), (17, 3), (1, 0)])
@pytest.mark.parametrize("faults", [0, 1, 100])
@pytest.mark.parametrize("lines", [16, 24, 50])
def test_never_more_is_drawn_than_there_are_lines(daemons: int, channels: int, faults: int, lines: int) -> None:
    what = shown(
        [daemon(f"d{n}") for n in range(daemons)],
        [channel(f"c{n}") for n in range(channels)],
        [fault(f"f{n}") for n in range(faults)],
    )
    found = drawn(what, 80, lines, plainly)
    # The last line says how to leave.
    assert len(found) <= lines - 1
    assert all(len(line) <= 80 for line in found)


def test_where_not_everybody_fits_who_is_not_well_is_shown_and_how_many_are_not() -> None:
    daemons = [daemon(f"d{n}", Condition.STALE if n == 60 else Condition.IDLE) for n in range(100)]
    channels = [channel(f"c{n}", blocked=n == 70) for n in range(100)]
    found = drawn(shown(daemons, channels), 80, 24, plainly)
    assert any(line.startswith("d60") and "stale 12 s" in line for line in found)
    assert any(line.startswith("c70") for line in found)
    listed = [line for line in found if re.match(r"[dc]\d", line)]
    left_out = [int(number) for line in found for number in re.findall(r"^and (\d+) ", line)]
    assert len(listed) + sum(left_out) == 200


@pytest.mark.parametrize("draw", [plainly, top.drawer(sys.stdout)])
def test_of_a_fault_its_words_are_cut_and_nothing_else(draw: top.Draw) -> None:
    line = drawn(shown([daemon("camera")], [], [fault("camera")]), 80, 24, draw)[-1]
    assert line.startswith("camera  WRITER_BLOCKED  it waits it waits")
    assert line.endswith("…")
    assert len(line) <= 80


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""), (0.0, "0 us"), (4.2e-7, "0.42 us"), (3.2e-5, "32.0 us"), (0.00123, "1.23 ms"), (0.5, "500 ms"),
        (59.0, "59.0 s"), (61, "1 min 1 s"), (3600, "1 h 0 min"), (90061, "1 d 1 h"),
    ],
)  # fmt: skip
def test_a_length_of_time_is_told_in_three_digits(seconds: float | None, text: str) -> None:
    assert top.span(seconds) == text


@pytest.mark.parametrize(("hz", "text"), [(None, ""), (0.0, "0"), (0.5, "0.50"), (12.34, "12.3"), (12345.6, "12,346")])
def test_a_rate_is_told_in_three_digits_or_as_a_whole_number(hz: float | None, text: str) -> None:
    assert top.rate(hz) == text


def test_rates_are_of_the_time_between_two_looks(place: Path) -> None:
    made = Remains(alive=True)
    camera = made.begins("camera")
    camera.counts(accepted=100, taken=100)
    watch = Watch(made.state)
    assert watch.look().rows.channels[0].in_hz is None
    camera.counts(accepted=150, taken=150)
    assert (watch.look().rows.channels[0].in_hz or 0) > 0
    watch.close()


# -- on a terminal ----------------------------------------------------------------------------------------------------


class Terminal:
    """A terminal of its own, with `geartrain top` on it."""

    def __init__(self, process: "subprocess.Popen[bytes]", end: int, other: int) -> None:
        self.process = process
        self.end = end
        self._other = other
        self.said = ""

    @property
    def settings(self) -> list[object]:
        return list(termios.tcgetattr(self._other))

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._other, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def until(self, wanted: str) -> str:
        """What it says until this comes, since the last time."""
        give_up_at = time.monotonic() + PATIENCE_S
        while wanted not in self.said:
            assert time.monotonic() < give_up_at, self.said
            if select.select([self.end], [], [], 0.1)[0]:
                self.said += os.read(self.end, 65536).decode()
        said, _, self.said = self.said.partition(wanted)
        return said + wanted

    def press(self, keys: str) -> None:
        os.write(self.end, keys.encode())


@contextmanager
def on_terminal(columns: int = 80, lines: int = 24, **environment: str) -> Iterator[Terminal]:
    end, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    words = [*COMMAND, "top", "eyes", "--every", "100ms"]
    env = {**os.environ, "TERM": "xterm-256color", **environment}
    env = {name: value for name, value in env.items() if name not in ("COLUMNS", "LINES")}
    # Its own session, so that Ctrl-C on this terminal is for it alone.
    process = subprocess.Popen(["setsid", "--ctty", *words], cwd=ROOT, env=env, stdin=other, stdout=other, stderr=other)
    try:
        yield Terminal(process, end, other)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(PATIENCE_S)
        os.close(end)
        os.close(other)


@pytest.mark.parametrize("without_rich", [False, True])
@pytest.mark.parametrize("keys", ["q", "\x03"])
def test_q_and_ctrl_c_leave_the_terminal_as_it_was(
    place: Path, tmp_path: Path, nothing_left: object, keys: str, without_rich: bool
) -> None:
    remains(alive=True)
    if without_rich:
        (tmp_path / "rich.py").write_text("raise ImportError\n")
    with on_terminal(PYTHONPATH=str(tmp_path)) as terminal:
        before = terminal.settings
        assert ENTER in terminal.until("q leaves")
        assert terminal.settings != before
        terminal.press(keys)
        terminal.until(LEAVE)
        assert terminal.process.wait(PATIENCE_S) == 0
        assert terminal.settings == before


def test_a_signal_that_ends_it_leaves_the_terminal_as_it_was(place: Path, nothing_left: object) -> None:
    remains(alive=True)
    with on_terminal() as terminal:
        before = terminal.settings
        terminal.until("q leaves")
        terminal.process.send_signal(signal.SIGTERM)
        terminal.until(LEAVE)
        assert terminal.process.wait(PATIENCE_S) == 128 + signal.SIGTERM
        assert terminal.settings == before


def test_a_window_that_becomes_wider_shows_more_at_once(place: Path, nothing_left: object) -> None:
    remains(alive=True)
    with on_terminal() as terminal:
        assert "POLICY" not in terminal.until("q leaves")
        terminal.resize(200, 50)
        terminal.until("POLICY")
        terminal.resize(20, 5)
        terminal.until("\x1b[5;1H")
        terminal.press("q")
        terminal.until(LEAVE)


def test_it_goes_on_looking(place: Path, nothing_left: object) -> None:
    made = Remains(alive=True)
    camera = made.begins("camera")
    with on_terminal() as terminal:
        terminal.until("q leaves")
        camera.stops()
        terminal.until("stopped")
        terminal.press("q")
        terminal.until(LEAVE)


def test_a_terminal_that_cannot_be_drawn_on_gets_one_look_after_the_other(place: Path, nothing_left: object) -> None:
    remains(alive=True)
    with on_terminal(TERM="dumb") as terminal:
        terminal.until("DAEMON")
        assert "\x1b" not in terminal.until("DAEMON")
