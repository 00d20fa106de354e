"""A whole pipeline in processes: starts them in order, watches them, starts again what died, stops them in order.

    Pipeline -> orders -> processes, each a daemon of one Supervisor here       engine/node.py is at the other end

A process is a daemon too: its `run` waits for its exit, and how that was goes through the policy of its daemons.
"""

import os
import signal
import socket
import sys
from collections.abc import Container, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import anyio
import anyio.abc
import msgspec

from geartrain.engine.context import Context
from geartrain.engine.daemon import Daemon
from geartrain.engine.hosted import FINALIZE_TIMEOUT_S
from geartrain.engine.pipeline import Pipeline
from geartrain.engine.roll import Roll, Stream, Watcher
from geartrain.engine.signal import Bell, Lock, Signal
from geartrain.engine.supervisor import Supervisor
from geartrain.errors import BadValue, DaemonError, Fault, PipelineFailed, PipelineFaulty, ProcessFailed, leaves
from geartrain.ports.lifeline import Lifeline
from geartrain.ports.log_capture import LogCapture, LogFile
from geartrain.ports.process import Command, Exit, Process, Processes, RealProcesses
from geartrain.ports.run_directory import RunDirectory, new_run, state_dir
from geartrain.ports.stacks import Stacks
from geartrain.rules import wiring
from geartrain.rules.lifecycle import OnError
from geartrain.rules.nearest import did_you_mean
from geartrain.rules.orders import (
    DaemonOrder,
    Ended,
    EndOrder,
    Failed,
    Finished,
    Go,
    Gone,
    Listener,
    NodeOrder,
    Noted,
    Over,
    Quit,
    Ready,
    Report,
    Said,
    Stop,
    to_line,
)
from geartrain.rules.pipeline import ChannelSpec, DaemonSpec, PipelineSpec, ProcessSpec
from geartrain.rules.restart import RestartPolicy

# A source that does not look whether it should stop is cancelled after this; the others have what is left.
SOURCE_GRACE_S = 0.5

# Who is cancelled because the run is over may clean up for so long, and then there is a moment to leave in.
FINALIZE_S = 1.5
QUIT_S = FINALIZE_TIMEOUT_S

# A process that hears nothing more from here cancels its daemons this long after the grace.
_LATER_S = 2.0

_CHUNK = 64 * 1024
_STREAMS: tuple[Stream, ...] = ("out", "err")


class Reading:
    """What one process prints, read from its first moment until it has ended."""

    def __init__(self, logs: Sequence[LogCapture]) -> None:
        self._logs = logs
        self._scope = anyio.CancelScope()
        self._over = Signal("the end of the logs")

    async def live(self) -> None:
        try:
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    for log in self._logs:
                        tasks.start_soon(log.run)
        finally:
            self._over.set()

    async def end(self) -> None:
        """Whatever is still in its pipes is taken, and nothing after that."""
        self._scope.cancel()
        await self._over.wait()


class NodeProcess(Daemon):
    """One process, from its start to its exit."""

    def __init__(self, launcher: "Launcher", process: str) -> None:
        self.name = process
        self.report: Report | None = None
        self.ended: set[str] = set()
        self._launcher = launcher
        self._daemons = launcher.left_of(process)
        self._ready: set[str] = set()
        self._process: Process | None = None
        self._control: anyio.abc.SocketStream | None = None
        self._saying = Lock()
        self._listener = Listener()
        self._logs: list[LogCapture] = []
        self._reading: Reading | None = None
        self._stacks = Stacks(launcher.stacks_path(process))
        self._gone = False
        self._again = False

    async def on_start(self, ctx: Context) -> None:
        try:
            await self._begin()
        except BaseException:
            # Nobody calls `on_stop` after a start that has failed or was cancelled.
            with anyio.CancelScope(shield=True):
                await self.on_stop(ctx)
            raise

    async def _begin(self) -> None:
        """A new process, until its daemons are ready."""
        here, there = socket.socketpair()
        with there:
            self._process = self._spawn(there.fileno())
        self._control = await anyio.abc.UNIXSocketStream.from_socket(here)
        self._launcher.present[self.name] = self
        while len(self._ready) < len(self._daemons) and not self._gone:
            await self._hear_some()

    def _spawn(self, control: int) -> Process:
        launcher = self._launcher
        order = launcher.order_for(self.name, control)
        self._logs = [
            LogCapture(launcher.log_file(f"{self.name}.{stream}"), partial(launcher.hear_line, self.name, stream))
            for stream in _STREAMS
        ]
        settings = launcher.settings_of(self.name)
        process = launcher.processes.spawn(
            Command(
                arguments=(sys.executable, "-m", "geartrain.engine.node"),
                environment=os.environ | dict(settings.env),
                folder=settings.cwd,
                nice=settings.nice,
                bootstrap=msgspec.json.encode(order),
                out=self._logs[0].fd,
                err=self._logs[1].fd,
                keep_open=(control, launcher.lifeline.fd),
            )
        )
        for log in self._logs:
            log.handed_over()
        self._reading = launcher.read(self._logs)
        launcher.run.record(self.name, process.pid)
        launcher.roll.spawned(self.name, process.pid)
        return process

    async def run(self, ctx: Context) -> None:
        exited = await self._one_life()
        while self._again:
            await self._forget_the_former_life()
            await self._begin()
            exited = await self._one_life()
        try:
            self._judge(exited)
        except ProcessFailed:
            if self._launcher.ignores(self.name):
                await self._launcher.give_up(self.name)
            raise

    async def _one_life(self) -> Exit:
        assert self._process is not None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._say_go)
            while not self._gone:
                await self._hear_some()
            exited = await self._process.wait_group()
            tasks.cancel_scope.cancel()
        await self._end_logs()
        await self._launcher.tell_of(self.name, "finished", self._launcher.finished)
        return exited

    async def _end_logs(self) -> None:
        if self._reading is not None:
            await self._reading.end()

    async def _forget_the_former_life(self) -> None:
        assert self._control is not None
        await self._control.aclose()
        self.ended.clear()
        self.report = None
        self._ready.clear()
        self._daemons = self._launcher.left_of(self.name)
        self._listener = Listener()
        self._gone = self._again = False

    def _judge(self, exited: Exit) -> None:
        if self.report is not None:
            self._launcher.failure = self.report
            raise PipelineFailed(str(self.report), self.report.trace)
        if exited.code != 0 and self._launcher.left_of(self.name):
            assert self._process is not None
            self._launcher.roll.gone(self.name, str(exited))
            tail = "".join(f"\n    {line}" for line in self.last_lines())
            raise ProcessFailed(f"process {self.name!r} (pid {self._process.pid}): {exited}{tail}")

    def last_lines(self) -> list[str]:
        """What the process printed last."""
        return [line for log in self._logs for line in log.tail()[-10:]]

    async def stacks(self) -> str:
        """Where each of its threads stands, also when its loop hangs; `ProcessFailed` says why it cannot be told."""
        assert self._process is not None
        return await self._stacks.ask(self._process)

    def kill(self, *, again: bool) -> None:
        """End its group at once; `again` starts it anew, and its policy is not asked."""
        assert self._process is not None
        self._again = again
        self._process.kill_group(signal.SIGKILL)

    async def on_stop(self, ctx: Context) -> None:
        try:
            await self._quit()
        finally:
            with anyio.CancelScope(shield=True):
                await self._end()

    async def _quit(self) -> None:
        """Somebody else's failure may have ended the run: the daemons here may clean up all the same."""
        if self._process is None or self._control is None or self._process.group_is_empty():
            return
        with anyio.move_on_after(QUIT_S):
            await self.say(Quit(FINALIZE_S))
            while not self._gone:
                await self._hear_some()
            await self._process.wait_group()

    async def _end(self) -> None:
        self._launcher.present.pop(self.name, None)
        if self._process is not None:
            self._process.kill_group(signal.SIGKILL)
            await self._process.wait_group()
        if self._control is not None:
            await self._control.aclose()
        await self._end_logs()
        self._launcher.last_lines[self.name] = self.last_lines()
        self._launcher.run.forget(self.name)
        self._launcher.news.ring()

    async def _say_go(self) -> None:
        await self._launcher.gate.wait()
        for name in self._launcher.start_order:
            if name in self._daemons:
                await self.say(Go(name))

    async def say(self, word: Said) -> None:
        assert self._control is not None
        try:
            async with self._saying:
                await self._control.send(to_line(word))
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            self._gone = True

    async def _hear_some(self) -> None:
        assert self._control is not None
        try:
            chunk = await self._control.receive(_CHUNK)
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            self._gone = True
            return
        for word in self._listener.feed(chunk):
            self._hear(word)
            if isinstance(word, Finished):
                await self.say(Noted(word.daemon))

    def _hear(self, word: Said) -> None:
        match word:
            case Ready(daemon):
                self._ready.add(daemon)
                self._launcher.roll.ready(daemon)
            case Failed(report, escalates):
                self._launcher.note(report)
                self._launcher.roll.failed(report, escalates=escalates)
                if escalates:
                    self.report = report
            case Finished(daemon):
                self._launcher.finished.add(daemon)
            case Ended(daemon):
                self.ended.add(daemon)
                self._launcher.roll.ended(daemon)
                self._launcher.news.ring()
            case _:
                pass


class Launcher:
    """One run of a pipeline."""

    def __init__(self, pipeline: Pipeline, processes: Processes | None = None, watcher: Watcher | None = None) -> None:
        pipeline.checked()
        if cannot_yet := tuple(_cannot_yet(pipeline.spec)):
            raise PipelineFaulty(cannot_yet)
        self.spec: PipelineSpec = pipeline.spec
        self.roll = Roll(self.spec, watcher)
        self.processes = processes or RealProcesses()
        self.start_order = wiring.start_order(self.spec)
        self.gate = Signal("the start of the pipeline")
        self.news = Bell()
        self.present: dict[str, NodeProcess] = {}
        self.reports: list[Report] = []
        # A daemon that has finished is finished: it is not started again when its process dies later.
        self.finished: set[str] = set()
        # A daemon whose process has died, which is ignored.
        self.given_up: set[str] = set()
        self.failure: Report | None = None
        self.last_lines: dict[str, list[str]] = {}
        self.run: RunDirectory = new_run(self.spec.name)
        self.lifeline = Lifeline()
        self._folder = pipeline.folder
        self._state = state_dir(self.run.run_id)
        self._supervisor = Supervisor()
        self._generations: dict[str, int] = {}
        self._stopping = False
        self._readers: anyio.abc.TaskGroup

    # -- what a process is told ---------------------------------------------------------------------------------------

    def left_of(self, process: str) -> dict[str, DaemonSpec]:
        """Those of a process that have still something to do."""
        daemons = self.daemons_of(process)
        return {name: daemon for name, daemon in daemons.items() if name not in self.finished}

    def daemons_of(self, process: str) -> dict[str, DaemonSpec]:
        return {daemon.name: daemon for daemon in self.spec.daemons if daemon.process == process}

    def settings_of(self, process: str) -> ProcessSpec:
        found = (settings for settings in self.spec.processes if settings.name == process)
        return next(found, ProcessSpec(name=process))

    def log_file(self, name: str) -> LogFile:
        return LogFile(self._state / f"{name}.log")

    def stacks_path(self, process: str) -> Path:
        return self.run.folder / f"{process}.stacks"

    def order_for(self, process: str, control: int) -> NodeOrder:
        self._generations[process] = self._generations.get(process, 0) + 1
        return NodeOrder(
            pipeline=self.spec.name,
            process=process,
            generation=self._generations[process],
            backend=self.settings_of(process).backend or self.spec.backend,
            launcher=os.getpid(),
            control=control,
            lifeline=self.lifeline.fd,
            path=tuple(sys.path),
            folder=None if self._folder is None else str(self._folder),
            aside=str(self._state),
            stacks=str(self.stacks_path(process)),
            daemons=tuple(self._order_of(daemon) for daemon in self.left_of(process).values()),
        )

    def _order_of(self, daemon: DaemonSpec) -> DaemonOrder:
        assert daemon.run is not None
        windows = wiring.longest_windows(self.spec)
        ends = [
            self._end_of(channel, port, sends=sends, retain=2 * windows[channel.name].items + 2)
            for channel in self.spec.channels
            for port, sends in ((channel.writer, True), (channel.reader, False))
            if port is not None and port.daemon == daemon.name
        ]
        return DaemonOrder(
            name=daemon.name,
            run=daemon.run,
            on_error=daemon.on_error,
            restart=daemon.restart,
            config=dict(daemon.config),
            ends=tuple(ends),
        )

    def _end_of(self, channel: ChannelSpec, port: object, *, sends: bool, retain: int) -> EndOrder:
        assert channel.writer is not None
        assert channel.reader is not None
        daemons = {daemon.name: daemon for daemon in self.spec.daemons}
        stays = daemons[channel.writer.daemon].process == daemons[channel.reader.daemon].process
        address = f"inner://{channel.name}" if stays else f"ipc://{self.run.socket_path(channel.name)}"
        return EndOrder(
            port=(channel.writer if sends else channel.reader).port,
            sends=sends,
            channel=channel.name,
            address=address,
            binds=not sends,
            maxsize=channel.maxsize,
            max_bytes=channel.max_bytes,
            policy=channel.policy,
            ack=channel.ack,
            keep=channel.keep,
            retain=channel.retain or max(retain, channel.maxsize, 1),
            max_deliveries=channel.max_deliveries,
            counter=str(self.run.folder / f"{self.run.socket_path(channel.name).name}.count") if sends else None,
            over=self._how_gone((channel.reader if sends else channel.writer).daemon),
        )

    def _how_gone(self, daemon: str) -> Gone | None:
        if daemon in self.given_up:
            return "ignored"
        return "finished" if daemon in self.finished else None

    async def tell_of(self, process: str, gone: Gone, which: Container[str]) -> None:
        """Its process has ended, and these daemons of it are gone for good: those at their other ends are told."""
        mine = self.daemons_of(process)
        for channel in self.spec.channels:
            assert channel.writer is not None
            assert channel.reader is not None
            for here, there in ((channel.writer, channel.reader), (channel.reader, channel.writer)):
                node = self.present.get(self._process_of(there.daemon))
                if here.daemon in mine and here.daemon in which and there.daemon not in mine and node is not None:
                    await node.say(Over(channel.name, gone))

    def ignores(self, process: str) -> bool:
        """Whether the others go on without it when it dies."""
        return _policy_of(self.daemons_of(process))[0] == "ignore"

    async def give_up(self, process: str) -> None:
        """It has died, which is ignored: what is sent to its daemons is discarded, and nothing comes from them."""
        left = self.left_of(process)
        self.given_up.update(left)
        await self.tell_of(process, "ignored", left)

    def read(self, logs: Sequence[LogCapture]) -> "Reading":
        """Read what a process prints, from its first moment on."""
        reading = Reading(logs)
        self._readers.start_soon(reading.live)
        return reading

    def note(self, report: Report) -> None:
        self.reports.append(report)

    def hear_line(self, process: str, stream: Stream, line: str) -> None:
        self.roll.watcher.process_said(process, stream, line)

    # -- the run ------------------------------------------------------------------------------------------------------

    async def live(self) -> None:
        """Until every daemon has returned. Raises `PipelineFailed` when one failed and its policy did not absorb it."""
        failures: list[BaseException] = []
        try:
            async with anyio.create_task_group() as self._readers, self._supervisor as supervisor:
                for process in dict.fromkeys(daemon.process for daemon in self.spec.daemons):
                    policy, restart = _policy_of(self.daemons_of(process))
                    supervisor.add(NodeProcess, self, process, name=process, on_error=policy, restart=restart)
                await supervisor.wait_all_started()
                self.gate.set()
        except* DaemonError as group:
            failures.extend(leaves(group))
        finally:
            self.lifeline.cut()
            self.run.close()
        if failures:
            raise self._in_our_words(failures[0])

    def _in_our_words(self, error: BaseException) -> PipelineFailed:
        if self.failure is not None:
            return PipelineFailed(str(self.failure), self.failure.trace)
        return PipelineFailed(str(error.__cause__ or error))

    async def stop(self, grace_s: float = 5.0) -> tuple[str, ...]:
        """Sources first; their closing lets the others end by themselves. Returns when all have ended.

        The answer is who had not ended within the grace, and was ended by force.
        """
        self._stopping = True
        self._supervisor.signal_stop()
        # Before the start nobody has anything in hand.
        late = await self._ask_all(grace_s) if self.gate.is_set() else ()
        await self.end_now()
        return late

    async def _ask_all(self, grace_s: float) -> tuple[str, ...]:
        """The answer is who has not ended in time. Who is to be cancelled for that is said afterwards, from here."""
        with anyio.move_on_after(grace_s + SOURCE_GRACE_S):
            for name in wiring.stop_order(self.spec):
                await self._say_stop(
                    name, min(SOURCE_GRACE_S, grace_s) if self._is_source(name) else grace_s + _LATER_S
                )
            while self.present:
                await self.news.wait()
        # Also who has ended, and whose process still waits for its readers to take what it sent.
        return tuple(daemon.name for daemon in self.spec.daemons if daemon.process in self.present)

    async def end_now(self) -> None:
        """Cancel everybody, whose `on_stop` has a moment, and then end the processes."""
        self._stopping = True
        self._supervisor.signal_stop()
        with anyio.move_on_after(QUIT_S):
            for node in tuple(self.present.values()):
                await node.say(Quit(FINALIZE_S))
            while self.present:
                await self.news.wait()
        await self._supervisor.stop(grace=0)

    async def _say_stop(self, daemon: str, grace_s: float) -> None:
        node = self.present.get(self._process_of(daemon))
        if node is not None and daemon not in node.ended:
            await node.say(Stop(daemon, grace_s))

    # -- what people ask for ------------------------------------------------------------------------------------------

    def restart(self, daemon: str) -> None:
        """End the process of this daemon at once and start it again; its channels go on where they were."""
        if self._stopping:
            raise BadValue("the run is stopping, and nothing is started any more")
        self._node_of(daemon).kill(again=True)

    def kill(self, daemon: str) -> None:
        """End the process of this daemon at once. What its policy says of a death comes then."""
        self._node_of(daemon).kill(again=False)

    async def stacks(self, daemon: str) -> str:
        """Where each thread of the process of this daemon stands."""
        return await self._node_of(daemon).stacks()

    def _node_of(self, daemon: str) -> NodeProcess:
        names = [spec.name for spec in self.spec.daemons]
        if daemon not in names:
            raise BadValue(f"there is no daemon {daemon!r}; {did_you_mean(daemon, names)}")
        node = self.present.get(self._process_of(daemon))
        if node is None:
            raise BadValue(f"the process of {daemon!r} is not alive")
        return node

    def _process_of(self, daemon: str) -> str:
        return next(spec.process for spec in self.spec.daemons if spec.name == daemon)

    def _is_source(self, daemon: str) -> bool:
        return not any(channel.reader is not None and channel.reader.daemon == daemon for channel in self.spec.channels)


def _cannot_yet(spec: PipelineSpec) -> Iterator[Fault]:
    """What may be declared, and cannot be run so far: better said than left out."""
    for daemon in spec.daemons:
        if daemon.run is None:
            yield Fault(spec.file, f"daemons.{daemon.name}.command", "foreign programs cannot be run yet")
        if daemon.start_within is not None:
            yield Fault(spec.file, f"daemons.{daemon.name}.start_within", "is not looked at yet; leave it out")
    for channel in spec.channels:
        if channel.transport == "tcp":
            yield Fault(spec.file, f"channels.{channel.name}.transport", 'only "auto" and "ipc" can be run yet')
        if channel.on_peer_restart == "restart":
            yield Fault(spec.file, f"channels.{channel.name}.on_peer_restart", 'only "resume" can be run yet')


def run(pipeline: Pipeline) -> None:
    """Run a pipeline in processes of its own, and return when every daemon has; for programs that have no loop yet."""
    anyio.run(pipeline.run, backend=pipeline.spec.backend)


def _policy_of(daemons: Mapping[str, DaemonSpec]) -> tuple[OnError, RestartPolicy | None]:
    """What the death of a process means: the strictest of what its daemons say."""
    said = {daemon.on_error for daemon in daemons.values()}
    if "shutdown" in said:
        return "shutdown", None
    if "restart" in said:
        policies = [daemon.restart for daemon in daemons.values() if daemon.restart is not None]
        return "restart", policies[0] if policies else None
    return "ignore", None
