"""A live run answers those who ask: one line of JSON each way over the socket `control` in its folder.

    geartrain ps, stop, restart, kill, clear       the supervisor of the run
    Ask            ------------------------------>
                   <------------------------------  Answer
                   <------------------------------  the end of the connection, when the run is over

Only the run's own user gets there: the folder is 0700 and the socket 0600.
"""

import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import anyio.abc
import msgspec
from msgspec import Struct

from geartrain.engine.launcher import Launcher
from geartrain.engine.roll import Standing
from geartrain.errors import BadValue, GeartrainError, ProcessFailed
from geartrain.rules.counts import ChannelCounts
from geartrain.rules.shown import Shown

SOCKET = "control"

# Nobody asks with more, and an answer is a line for each daemon.
_ASK_MOST = 64 * 1024
_ANSWER_WITHIN_S = 10.0


class Ask(Struct, frozen=True, tag_field="ask"):
    """What all questions have in common: nothing but their form."""


class AskStandings(Ask, frozen=True, tag="ps"):
    """How is every daemon?"""


class AskStop(Ask, frozen=True, tag="stop"):
    """End the run in order."""


class AskRestart(Ask, frozen=True, tag="restart"):
    """End the daemon's process and start it again, whatever its policy says of deaths."""

    daemon: str


class AskKill(Ask, frozen=True, tag="kill"):
    """End the daemon's process with SIGKILL; its policy decides what comes."""

    daemon: str


class AskClear(Ask, frozen=True, tag="clear"):
    """Let the body of the daemon be entered again, after it has been held for its budget or that of its process."""

    daemon: str


class AskStack(Ask, frozen=True, tag="stack"):
    """Where does each thread of the daemon's process stand?"""

    daemon: str


class AskChannels(Ask, frozen=True, tag="channels"):
    """How many items went through every channel?"""


class AskEcho(Ask, frozen=True, tag="echo"):
    """What goes into this channel? After the answer each item is a line, as long as the connection lasts."""

    channel: str


class Answer(Struct, frozen=True, kw_only=True):
    """`refused` says why nothing was done."""

    pipeline: str = ""
    refused: str | None = None
    daemons: tuple[Standing, ...] = ()
    stack: str = ""
    channels: tuple[ChannelCounts, ...] = ()
    # When the channels were looked at, and the processes whose numbers are older, for they do not answer.
    at_s: float = 0.0
    silent: tuple[str, ...] = ()


Question = AskStandings | AskStop | AskRestart | AskKill | AskClear | AskStack | AskChannels | AskEcho

_shown = msgspec.json.Decoder(Shown)
_questions = msgspec.json.Decoder(Question)


class Control:
    """The answering side. `stop` is what begins the end of the run."""

    def __init__(self, launcher: Launcher, stop: Callable[[], None]) -> None:
        self._launcher = launcher
        self._stop = stop

    async def serve(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled, which ends the connections of those who wait for the end of the run."""
        path = self._launcher.run.folder / SOCKET
        async with await anyio.create_unix_listener(path, mode=0o600) as listener:
            task_status.started()
            await listener.serve(self._answer_one)

    async def _answer_one(self, stream: anyio.abc.SocketStream) -> None:
        async with stream:
            try:
                await self._answer(stream, await _line(stream))
                # Whoever waits for the end of the run keeps the connection.
                await stream.receive(1)
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return

    async def _answer(self, stream: anyio.abc.SocketStream, line: bytes) -> None:
        try:
            question = _questions.decode(line)
            if isinstance(question, AskEcho):
                await self._echo(stream, question.channel)
                return
            answer = await self._do(question)
        except (GeartrainError, ValueError, RecursionError) as error:
            answer = Answer(refused=str(error))
        await self._send(stream, answer)

    async def _send(self, stream: anyio.abc.SocketStream, answer: Answer) -> None:
        named = msgspec.structs.replace(answer, pipeline=self._launcher.spec.name)
        await stream.send(msgspec.json.encode(named) + b"\n")

    async def _echo(self, stream: anyio.abc.SocketStream, channel: str) -> None:
        """Until whoever looks has gone."""
        async with self._launcher.echo(channel) as echo, anyio.create_task_group() as tasks:
            tasks.start_soon(_until_gone, stream, tasks.cancel_scope)
            await self._send(stream, Answer())
            while True:
                lines = (msgspec.json.encode(shown) + b"\n" for shown in await echo.next())
                await _send_or_end(stream, b"".join(lines), tasks.cancel_scope)

    async def _do(self, question: Question) -> Answer:
        match question:
            case AskStack(daemon):
                stack = await self._launcher.stacks(daemon)
                return Answer(daemons=self._launcher.standings(), stack=stack)
            case AskChannels():
                channels, silent = await self._launcher.channel_counts()
                return Answer(channels=channels, at_s=time.monotonic(), silent=silent)
            case AskStop():
                self._stop()
            case AskRestart(daemon):
                self._launcher.restart(daemon)
            case AskKill(daemon):
                self._launcher.kill(daemon)
            case AskClear(daemon):
                await self._launcher.clear(daemon)
            case _:
                pass
        return Answer(daemons=self._launcher.standings())


async def _until_gone(stream: anyio.abc.SocketStream, scope: anyio.CancelScope) -> None:
    try:
        while True:
            await stream.receive()
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        scope.cancel()


async def _send_or_end(stream: anyio.abc.SocketStream, data: bytes, scope: anyio.CancelScope) -> None:
    try:
        await stream.send(data)
    except anyio.BrokenResourceError:
        scope.cancel()


async def _line(stream: anyio.abc.SocketStream) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        line += await stream.receive()
        if len(line) > _ASK_MOST:
            raise BadValue(f"a question of more than {_ASK_MOST} bytes")
    return line


# -- the asking side ------------------------------------------------------------------------------------------------


def ask(folder: Path, question: Question, *, until_over: bool = False, within_s: float = _ANSWER_WITHIN_S) -> Answer:
    """Ask the run that has this folder; with `until_over`, return when it is over. For programs without a loop."""
    try:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(within_s)
            asking.connect(os.fspath(folder / SOCKET))
            asking.sendall(msgspec.json.encode(question) + b"\n")
            answer = _answered(asking)
            if until_over and answer.refused is None:
                asking.settimeout(None)
                _wait_for_the_end(asking)
    except OSError as error:
        raise ProcessFailed(f"the run {folder.name} does not answer: {error.strerror or error}") from error
    if answer.refused is not None:
        raise BadValue(answer.refused)
    return answer


def listen(folder: Path, channel: str, for_s: float | None = None) -> Iterator[Shown]:
    """What goes into a channel of the run that has this folder, so long or until it is over."""
    until_s = None if for_s is None else time.monotonic() + for_s
    with socket.socket(socket.AF_UNIX) as asking:
        try:
            asking.settimeout(_ANSWER_WITHIN_S)
            asking.connect(os.fspath(folder / SOCKET))
            asking.sendall(msgspec.json.encode(AskEcho(channel)) + b"\n")
            line, rest = _first_line(asking)
        except OSError as error:
            raise ProcessFailed(f"the run {folder.name} does not answer: {error.strerror or error}") from error
        answer = msgspec.json.decode(line, type=Answer)
        if answer.refused is not None:
            raise BadValue(answer.refused)
        while True:
            *lines, rest = rest.split(b"\n")
            yield from (_shown.decode(line) for line in lines)
            chunk = _more(asking, until_s)
            if not chunk:
                return
            rest += chunk


def _more(asking: socket.socket, until_s: float | None) -> bytes:
    """Nothing at the end of the connection, or of the time."""
    left_s = None if until_s is None else until_s - time.monotonic()
    if left_s is not None and left_s <= 0:
        return b""
    asking.settimeout(left_s)
    try:
        return asking.recv(_ASK_MOST)
    except (TimeoutError, ConnectionResetError):
        return b""


def _answered(asking: socket.socket) -> Answer:
    line, _ = _first_line(asking)
    return msgspec.json.decode(line, type=Answer)


def _first_line(asking: socket.socket) -> tuple[bytes, bytes]:
    """The first line, and what came with it."""
    come = b""
    while b"\n" not in come:
        chunk = asking.recv(_ASK_MOST)
        if not chunk:
            raise ConnectionResetError("it ended without an answer")
        come += chunk
    line, _, rest = come.partition(b"\n")
    return line, rest


def _wait_for_the_end(asking: socket.socket) -> None:
    try:
        while asking.recv(_ASK_MOST):
            pass
    except ConnectionResetError:
        return
