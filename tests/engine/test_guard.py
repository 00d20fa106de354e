"""Nothing of a run stays behind, whoever of it is killed: real processes, real signals."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from random import Random

import anyio
import pytest

import geartrain
from geartrain.engine.guard import USAGE, Job, job_of
from geartrain.ports.process import Command, Exit, RealProcess, RealProcesses, ended
from geartrain.ports.process_table import below

Alive = Callable[[], list[int]]

SLEEP = "import time; time.sleep(1000)"

# Everybody who is hard to get rid of: with a session of its own, with a parent that has gone, still, busy, deaf.
TROUBLE = """
import os, signal, subprocess, sys, time
subprocess.Popen(["sleep", "1000"], start_new_session=True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(1000)
    os._exit(0)
os.wait()
still = subprocess.Popen(["sleep", "1000"])
os.kill(still.pid, signal.SIGSTOP)
subprocess.Popen([sys.executable, "-c", "while True: pass"])
subprocess.Popen(["nohup", "setsid", "sh", "-c", "trap '' TERM INT HUP; sleep 1000; sleep 1000"])
"""

# Says which signal has come, and goes on.
COUNTS = """
import signal
def heard(number, frame):
    print(signal.Signals(number).name, flush=True)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, heard)
"""


class Run:
    """A guard, with whom it guards, and what that one says."""

    def __init__(self, guard: RealProcess, said: int) -> None:
        self.guard = guard
        self._said = said
        self._open = b""

    @property
    def family(self) -> list[int]:
        """The twin, the command, and whoever is below."""
        return below(self.guard.pid)

    async def line(self) -> str:
        """What the command says next; the empty line when it has nothing to say any more."""
        with anyio.fail_after(20):
            while b"\n" not in self._open:
                await anyio.wait_readable(self._said)
                chunk = os.read(self._said, 4096)
                self._open += chunk or b"\n"
        line, self._open = self._open.split(b"\n", 1)
        return line.decode()

    async def ends(self) -> Exit:
        with anyio.fail_after(20):
            return await self.guard.wait_group()


Guarded = Callable[..., AbstractAsyncContextManager[Run]]


@pytest.fixture
def guarded(nothing_left: Alive) -> Guarded:
    """Guards a command, and at the end of the block waits for everybody whom the guard's death has ended."""

    @asynccontextmanager
    async def guard(*command: str, options: tuple[str, ...] = ()) -> AsyncIterator[Run]:
        reader, writer = os.pipe()
        words = (sys.executable, "-m", "geartrain.engine.guard", *options, "--", *command)
        run = Run(RealProcesses().spawn(Command(words, out=writer, err=writer)), reader)
        os.close(writer)
        try:
            yield run
        finally:
            run.guard.kill_group(signal.SIGKILL)
            with anyio.CancelScope(shield=True):
                await run.ends()
                await all_ended(nothing_left)
            os.close(reader)

    return guard


def python(*statements: str) -> tuple[str, str, str]:
    return sys.executable, "-c", "\n".join(statements)


async def ready(run: Run) -> tuple[int, int]:
    """The twin and the command, once the command has said that it has got so far."""
    assert await run.line() == "ready"
    twin, command, *_ = run.family
    return twin, command


READY = "print('ready', flush=True)"


async def all_ended(alive: Alive) -> None:
    with anyio.fail_after(10):
        while left := alive():
            await ended(left[0])


@pytest.fixture
def run_directory(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    (folder / "socket").touch()
    (folder / "more").mkdir()
    (folder / "more" / "file").touch()
    return folder


# -- the command line -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "job"),
    [
        (["--", "a", "--", "b"], Job(("a", "--", "b"), None)),
        (["--run-directory", "/run/me", "--", "a"], Job(("a",), Path("/run/me"))),
        ([], None),
        (["a"], None),
        (["--"], None),
        (["--run-directory", "--", "a"], None),
        (["--other", "/run/me", "--", "a"], None),
    ],
)
def test_a_command_line_is_understood_or_refused(arguments: list[str], job: Job | None) -> None:
    assert job_of(arguments) == job


def test_a_command_line_that_is_not_understood_is_answered_with_the_usage() -> None:
    found = subprocess.run([*python("from geartrain.engine.guard import main; raise SystemExit(main(['a']))")],
                           capture_output=True, text=True)  # fmt: skip
    assert (found.returncode, found.stderr) == (2, USAGE + "\n")


def test_the_guard_imports_nothing_but_the_standard_library() -> None:
    """Without `site`, which imports what is installed for its own purposes."""
    where = str(Path(geartrain.__file__).parent.parent)
    code = (
        f"import sys; sys.path.append({where!r}); import geartrain.engine.guard; "
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    isolated = [sys.executable, "-S", "-c"]
    said = subprocess.run([*isolated, code], capture_output=True, text=True, check=True).stdout
    assert [name for name in said.split() if name not in sys.stdlib_module_names] == ["__main__", "geartrain"]


# -- how it ends ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "code"),
    [("pass", 0), ("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 15)", 143),
     ("import os; os.kill(os.getpid(), 9)", 137), ("import os; os._exit(255)", 255)],
)  # fmt: skip
async def test_the_guard_exits_as_its_command_did(statement: str, code: int, guarded: Guarded) -> None:
    async with guarded(*python(statement)) as run:
        assert await run.ends() == Exit(code=code)


async def test_a_command_that_cannot_be_started_is_named(guarded: Guarded) -> None:
    async with guarded("no-such-program") as run:
        assert await run.line() == "'no-such-program' cannot be started: No such file or directory"
        assert await run.ends() == Exit(code=127)


def ignored_here() -> int:
    """As a mask. What Python ignores for itself, it does not pass on to what it starts."""
    status = Path("/proc/self/status").read_text()
    mask = int(next(line for line in status.splitlines() if line.startswith("SigIgn")).split()[1], 16)
    return mask & ~(1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1))


async def test_the_command_finds_its_signals_as_the_guard_found_them(guarded: Guarded) -> None:
    async with guarded("grep", "-E", "Sig(Blk|Ign)", "/proc/self/status") as run:
        found = [await run.line(), await run.line()]
    assert found == ["SigBlk:\t0000000000000000", f"SigIgn:\t{ignored_here():016x}"]


# -- signals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_is_handed_on_twice_and_the_third_ends_everything(
    number: signal.Signals, guarded: Guarded, nothing_left: Alive
) -> None:
    async with guarded(*python(COUNTS, TROUBLE, READY, "while True: time.sleep(1000)")) as run:
        await ready(run)
        for _ in range(2):
            run.guard.signal(number)
            assert await run.line() == number.name
        run.guard.signal(number)
        assert await run.ends() == Exit(code=128 + number)
        await all_ended(nothing_left)


async def test_different_signals_count_together(guarded: Guarded) -> None:
    async with guarded(*python(COUNTS, READY, "import time\nwhile True: time.sleep(1000)")) as run:
        await ready(run)
        run.guard.signal(signal.SIGHUP)
        assert await run.line() == "SIGHUP"
        run.guard.signal(signal.SIGTERM)
        assert await run.line() == "SIGTERM"
        run.guard.signal(signal.SIGINT)
        assert await run.ends() == Exit(code=130)


async def test_ctrl_c_at_the_terminal_comes_to_the_command_once(guarded: Guarded) -> None:
    """The terminal signals the whole group of the guard, in which the guard is alone."""
    async with guarded(*python(COUNTS, READY, "import time\nwhile True: time.sleep(1000)")) as run:
        await ready(run)
        run.guard.kill_group(signal.SIGINT)
        assert await run.line() == "SIGINT"
        run.guard.kill_group(signal.SIGTERM)
        assert await run.line() == "SIGTERM"


async def test_a_command_that_stops_when_told_ends_with_its_own_code(guarded: Guarded) -> None:
    obeys = "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(5))"
    async with guarded(*python(obeys, READY, SLEEP)) as run:
        await ready(run)
        run.guard.signal(signal.SIGTERM)
        assert await run.ends() == Exit(code=5)


async def test_the_signal_of_the_kernel_means_nothing_when_somebody_else_sends_it(guarded: Guarded) -> None:
    async with guarded(*python(COUNTS, READY, SLEEP)) as run:
        twin, _ = await ready(run)
        run.guard.signal(signal.SIGUSR1)
        os.kill(twin, signal.SIGUSR1)
        run.guard.signal(signal.SIGHUP)
        assert await run.line() == "SIGHUP"


# -- who is killed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("victim", ["command", "twin", "guard"])
async def test_nothing_is_left_200_ms_after_one_of_the_three_is_killed(
    victim: str, run_directory: Path, guarded: Guarded, nothing_left: Alive
) -> None:
    """The best of three rounds, since the machine has other work too."""
    took = []
    for _ in range(3):
        await anyio.Path(run_directory).mkdir(mode=0o700, exist_ok=True)
        options = ("--run-directory", str(run_directory))
        async with guarded(*python(TROUBLE, READY, "time.sleep(1000)"), options=options) as run:
            twin, command = await ready(run)
            assert len(run.family) >= 7
            os.kill({"command": command, "twin": twin, "guard": run.guard.pid}[victim], signal.SIGKILL)
            began = time.monotonic()
            await all_ended(nothing_left)
            took.append(time.monotonic() - began)
            assert await run.ends() == (Exit(signal=9) if victim == "guard" else Exit(code=137))
        assert not await anyio.Path(run_directory).exists()
    assert min(took) < 0.2


async def test_the_command_is_gone_even_when_both_guards_are_killed_at_once(
    guarded: Guarded, nothing_left: Alive
) -> None:
    async with guarded(*python(READY, SLEEP)) as run:
        twin, _ = await ready(run)
        for victim in (run.guard.pid, twin):
            os.kill(victim, signal.SIGSTOP)
        for victim in (run.guard.pid, twin):
            os.kill(victim, signal.SIGKILL)
        await all_ended(nothing_left)


async def test_what_the_command_leaves_when_it_ends_well_is_swept_too(
    run_directory: Path, guarded: Guarded, nothing_left: Alive
) -> None:
    async with guarded(*python(TROUBLE), options=("--run-directory", str(run_directory))) as run:
        assert await run.ends() == Exit(code=0)
        assert nothing_left() == []
    assert not await anyio.Path(run_directory).exists()


# -- the run directory ----------------------------------------------------------------------------------------------


async def test_a_run_directory_that_is_gone_already_is_no_fault(tmp_path: Path, guarded: Guarded) -> None:
    async with guarded("true", options=("--run-directory", str(tmp_path / "nowhere"))) as run:
        assert await run.line() == ""
        assert await run.ends() == Exit(code=0)


async def test_a_link_in_the_place_of_the_run_directory_is_not_followed(
    run_directory: Path, tmp_path: Path, guarded: Guarded
) -> None:
    (tmp_path / "planted").symlink_to(run_directory)
    async with guarded("true", options=("--run-directory", str(tmp_path / "planted"))) as run:
        assert (await run.line()).startswith("geartrain: the run directory stays: ")
        assert await run.ends() == Exit(code=0)
    assert await anyio.Path(tmp_path / "planted").is_symlink()
    assert await anyio.Path(run_directory / "more" / "file").exists()


async def test_a_run_directory_that_lets_others_in_stays(run_directory: Path, guarded: Guarded) -> None:
    await anyio.Path(run_directory).chmod(0o755)
    async with guarded("true", options=("--run-directory", str(run_directory))) as run:
        assert "nobody else can enter" in await run.line()
        assert await run.ends() == Exit(code=0)
    assert await anyio.Path(run_directory / "socket").exists()


# -- at any instant -------------------------------------------------------------------------------------------------


@pytest.mark.soak
async def test_two_hundred_random_kills_and_stops_leave_nothing(
    tmp_path: Path, guarded: Guarded, nothing_left: Alive
) -> None:
    """Of anybody, at any instant from the start on."""
    chance = Random("guard")
    for number in range(200):
        folder = tmp_path / str(number)
        folder.mkdir(mode=0o700)
        async with guarded(*python(TROUBLE, "time.sleep(1000)"), options=("--run-directory", str(folder))) as run:
            with anyio.move_on_after(chance.random() * 0.15):
                await run.guard.wait()
            for _ in range(chance.randrange(3)):
                run.guard.signal(chance.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP]))
            victim = chance.choice([run.guard.pid, *run.family[:2]])
            # The signals may have ended it already.
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
            await all_ended(nothing_left)
            await run.ends()
        # Who is killed before it has come to guard anything has not got so far as to remove it.
        assert not folder.exists() or victim == run.guard.pid
