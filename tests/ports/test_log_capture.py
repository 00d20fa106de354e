"""What processes write is kept, bounded, and never waited for."""

import errno
import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import anyio
import anyio.lowlevel
import pytest

from geartrain.errors import PlaceRefused
from geartrain.ports.log_capture import LINE_BYTES, TAIL_BYTES, LogCapture, LogFile
from geartrain.ports.process import Command, Exit, RealProcesses

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "camera.out"


def text_of(path: Path) -> str:
    return path.read_text()


class FullDisk:
    """`os.write` to files takes so many bytes more, then says that there is no room, as a disk does: first a part."""

    def __init__(self, room_bytes: int) -> None:
        self.room_bytes = room_bytes
        self._write = os.write

    def write(self, file: int, data: bytes) -> int:
        part = data[: self.room_bytes]
        if data and not part:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room_bytes -= len(part)
        return self._write(file, part)


async def captured(capture: LogCapture, *statements: str) -> Exit:
    """Run this program to its end, and read all of it."""
    program = "\n".join(("import os, sys, time", *statements))
    process = RealProcesses().spawn(Command((sys.executable, "-c", program), out=capture.fd))
    capture.handed_over()
    with anyio.fail_after(30):
        await capture.run()
        return await process.wait_group()


# -- lines ----------------------------------------------------------------------------------------------------------


async def test_output_is_heard_kept_and_written_line_by_line(log: Path) -> None:
    heard: list[str] = []
    capture = LogCapture(LogFile(log), heard.append)
    await captured(capture, "print('one', flush=True)", "print('two')", "sys.stdout.write('half')")
    assert heard == ["one", "two", "half"]
    assert capture.tail() == ("one", "two", "half")
    assert text_of(log) == "one\ntwo\nhalf\n"
    assert capture.lost_bytes == 0


async def test_a_line_is_heard_while_the_process_goes_on(log: Path) -> None:
    first = anyio.Event()
    capture = LogCapture(LogFile(log), lambda _line: first.set())
    reader, writer = os.pipe()
    program = f"import os; print('here', flush=True); os.read({reader}, 1); print('gone')"
    process = RealProcesses().spawn(Command((sys.executable, "-c", program), out=capture.fd, keep_open=(reader,)))
    os.close(reader)
    capture.handed_over()
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(capture.run)
            await first.wait()
            assert capture.tail() == ("here",)
            os.write(writer, b".")
        await process.wait_group()
    os.close(writer)
    assert capture.tail() == ("here", "gone")


async def test_bad_text_is_replaced_and_a_flood_without_line_ends_is_bounded(log: Path) -> None:
    longest = 0

    def hear(line: str) -> None:
        nonlocal longest
        longest = max(longest, len(line))

    capture = LogCapture(LogFile(log), hear)
    await captured(capture, "os.write(1, b'caf\\xe9\\n')", "for _ in range(64): os.write(1, b'x' * 65536)")
    assert longest == LINE_BYTES + 1
    assert text_of(log).startswith("caf\ufffd\nxxx")
    assert sum(len(line) + 1 for line in capture.tail()) <= TAIL_BYTES


async def test_the_last_64_kib_are_kept_in_memory(log: Path) -> None:
    capture = LogCapture(LogFile(log))
    await captured(capture, "for number in range(100_000): print(number)")
    kept = capture.tail()
    assert kept[-1] == "99999"
    assert TAIL_BYTES - 6 < sum(len(line) + 1 for line in kept) <= TAIL_BYTES
    assert text_of(log).count("\n") == 100_000


async def test_a_flood_holds_nobody_up_on_the_loop(log: Path) -> None:
    """While a process writes as fast as it can, another task goes round."""
    capture = LogCapture(LogFile(log))
    process = RealProcesses().spawn(Command(("yes",), out=capture.fd))
    capture.handed_over()
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(capture.run)
            while not capture.tail():
                await anyio.lowlevel.checkpoint()
            for _ in range(20):
                await anyio.lowlevel.checkpoint()
            process.kill_group(9)
            await process.wait_group()
    assert capture.tail()[-1] in ("y", "")


async def test_to_be_cancelled_is_to_take_what_is_there_even_if_somebody_floods_it(log: Path) -> None:
    """A grandchild may hold the pipe for ever."""
    capture = LogCapture(LogFile(log))
    os.write(capture.fd, b"last words\n")
    flood = RealProcesses().spawn(Command(("yes",), out=capture.fd))
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.cancel_scope.cancel()
            tasks.start_soon(capture.run)
        assert await flood.wait_group() == Exit(signal=signal.SIGPIPE)
    assert text_of(log).startswith("last words\n")


async def test_to_be_cancelled_is_not_to_wait_for_who_holds_the_pipe_in_silence(log: Path) -> None:
    capture = LogCapture(LogFile(log))
    silent = RealProcesses().spawn(Command(("sleep", "1000"), out=capture.fd))
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.cancel_scope.cancel()
            tasks.start_soon(capture.run)
        silent.signal(signal.SIGKILL)
        await silent.wait_group()


def test_a_flood_without_end_does_not_keep_a_capture_from_closing(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    capture = LogCapture(LogFile(log))
    with monkeypatch.context() as flooded:
        flooded.setattr(os, "read", lambda _file, _most: b"y\n")
        capture.close()
    assert set(capture.tail()) == {"y"}


async def test_a_capture_that_was_never_run_gives_everything_back(log: Path) -> None:
    capture = LogCapture(LogFile(log))
    os.write(capture.fd, b"never read")
    capture.close()
    capture.close()
    assert text_of(log) == "never read\n"


# -- the file -------------------------------------------------------------------------------------------------------


def test_a_file_that_is_full_becomes_the_former_one_and_a_new_one_says_so(log: Path) -> None:
    file = LogFile(log, most_bytes=1000)
    for number in range(500):
        file.write([f"line {number:03}"])
    file.close()
    former = log.with_name("camera.out.1")
    assert log.stat().st_size <= 1000
    assert former.stat().st_size <= 1000
    first, *rest = text_of(log).splitlines()
    assert first == "[what came before is in camera.out.1, as far as it is kept]"
    numbers = former.read_text().splitlines()[1:] + rest
    assert numbers == [f"line {number:03}" for number in range(500 - len(numbers), 500)]
    assert file.lost_bytes == 0
    assert sorted(path.name for path in log.parent.iterdir()) == ["camera.out", "camera.out.1"]


def test_a_file_goes_on_where_a_former_process_has_left_it(log: Path) -> None:
    for word in ("one", "two", "three"):
        file = LogFile(log, most_bytes=10)
        file.write([word])
        file.close()
    assert text_of(log.with_name("camera.out.1")) == "one\ntwo\n"
    assert text_of(log).endswith("\nthree\n")


def test_a_full_disk_drops_and_counts_and_names_the_gap_when_there_is_room(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FullDisk(room_bytes=10)
    monkeypatch.setattr(os, "write", disk.write)
    file = LogFile(log)
    for word in ("one", "two", "three", "four"):
        file.write([word])
    assert file.lost_bytes == 4 + 5
    disk.room_bytes = 5
    file.write(["five"])
    disk.room_bytes = 1000
    file.write(["six"])
    file.close()
    assert file.lost_bytes == 4 + 5 + 5
    text = text_of(log)
    assert text.startswith("one\ntwo\nth\n")
    assert text.endswith("\n[14 bytes are missing here: they could not be written]\nsix\n")


def test_a_gap_at_the_very_end_is_named_too(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FullDisk(room_bytes=0)
    monkeypatch.setattr(os, "write", disk.write)
    file = LogFile(log)
    file.write(["lost"])
    disk.room_bytes = 1000
    file.close()
    assert text_of(log) == "[5 bytes are missing here: they could not be written]\n"


def test_nothing_ever_raises_on_a_disk_that_comes_and_goes(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every byte is in the files or counted, through any number of new files."""
    chance = Random("disk")
    disk = FullDisk(room_bytes=0)
    monkeypatch.setattr(os, "write", disk.write)
    file = LogFile(log, most_bytes=10_000)
    written = 0
    kept = 0
    for number in range(2_000):
        if chance.random() < 0.3:
            disk.room_bytes = chance.choice([0, 0, 3, 50, 400])
        before = file.lost_bytes
        file.write([f"{number:04}"])
        written += 5
        kept += 5 - (file.lost_bytes - before)
    file.close()
    assert written == kept + file.lost_bytes
    assert 0 < file.lost_bytes < written
    assert log.stat().st_size <= 10_000


def test_a_new_file_that_cannot_be_opened_is_tried_again(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = LogFile(log, most_bytes=10)
    file.write(["12345678"])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        file.write(["lost"])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    file.write(["x"])
    file.close()
    assert file.lost_bytes == 5
    assert log.with_name("camera.out.1").read_text() == "12345678\n"
    assert text_of(log).endswith("[5 bytes are missing here: they could not be written]\nx\n")


@contextmanager
def limited_files(most: int) -> Iterator[None]:
    """Files of this process may not grow beyond a size: the kernel's own refusal, without a disk to fill.

    No longer than needed: what the tests print may go into a file too.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_process_goes_on_while_nothing_of_it_can_be_written(log: Path) -> None:
    capture = LogCapture(LogFile(log))
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))",
        "for number in range(100_000): print(number)",
    )
    with limited_files(4096):
        found = await captured(capture, *program)
    assert found == Exit(code=0)
    assert capture.tail()[-1] == "99999"
    assert len(text_of(log)) == 4096
    assert capture.lost_bytes == sum(len(f"{number}\n") for number in range(100_000)) - 4096


@pytest.mark.parametrize("planted", ["a link", "a folder", "no folder around it"])
def test_a_place_that_is_no_file_of_ours_is_refused_at_the_start(log: Path, planted: str) -> None:
    if planted == "a link":
        (log.parent / "mine").write_text("precious")
        log.symlink_to(log.parent / "mine")
    elif planted == "a folder":
        log.mkdir()
    else:
        log = log.parent / "nowhere" / log.name
    with pytest.raises(PlaceRefused, match=r"the log file .* cannot be opened"):
        LogFile(log)
    if planted == "a link":
        assert (log.parent / "mine").read_text() == "precious"
