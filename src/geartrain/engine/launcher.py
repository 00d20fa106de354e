"""A whole pipeline in processes: starts them in order, watches them, starts again what died, stops them in order.

    Pipeline -> orders -> processes, each a daemon of one Supervisor here       engine/node.py is at the other end

A process is a daemon too: its `run` waits for its exit, and how that was goes through the policy of its daemons.
"""

import os
import signal
import socket
import sys
from collections.abc import Mapping

import anyio
import anyio.abc
import msgspec

from geartrain.engine.context import Context
from geartrain.engine.daemon import Daemon
from geartrain.engine.pipeline import Pipeline
from geartrain.engine.signal import Bell, Signal
from geartrain.engine.supervisor import Supervisor
from geartrain.errors import DaemonError, PipelineFailed, ProcessFailed, daemon_errors
from geartrain.ports.lifeline import Lifeline
from geartrain.ports.log_capture import LogCapture, LogFile
from geartrain.ports.process import Command, Process, Processes, RealProcesses
from geartrain.ports.run_directory import RunDirectory, new_run, state_dir
from geartrain.rules import wiring
from geartrain.rules.lifecycle import OnError
from geartrain.rules.orders import (
    DaemonOrder,
    Ended,
    EndOrder,
    Failed,
    Go,
    Listener,
    NodeOrder,
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

_CHUNK = 64 * 1024


class NodeProcess(Daemon):
    """One process, from its start to its exit."""

    def __init__(self, launcher: "Launcher", process: str) -> None:
        self.name = process
        self.report: Report | None = None
        self.ended: set[str] = set()
        self._launcher = launcher
        self._daemons = launcher.daemons_of(process)
        self._ready: set[str] = set()
        self._process: Process | None = None
        self._control: anyio.abc.SocketStream | None = None
        self._listener = Listener()
        self._logs: list[LogCapture] = []
        self._gone = False

    async def on_start(self, ctx: Context) -> None:
        here, there = socket.socketpair()
        with there:
            self._process = self._spawn(there.fileno())
        self._control = await anyio.abc.UNIXSocketStream.from_socket(here)
        while len(self._ready) < len(self._daemons) and not self._gone:
            await self._hear_some()

    def _spawn(self, control: int) -> Process:
        launcher = self._launcher
        order = launcher.order_for(self.name, control)
        self._logs = [LogCapture(launcher.log_file(f"{self.name}.{what}")) for what in ("out", "err")]
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
        launcher.run.record(self.name, process.pid)
        return process

    async def run(self, ctx: Context) -> None:
        assert self._process is not None
        self._launcher.present[self.name] = self
        async with anyio.create_task_group() as tasks:
            for log in self._logs:
                tasks.start_soon(log.run)
            tasks.start_soon(self._say_go)
            while not self._gone:
                await self._hear_some()
            exited = await self._process.wait_group()
            tasks.cancel_scope.cancel()
        self._judge(str(exited), clean=exited.code == 0)

    def _judge(self, exited: str, *, clean: bool) -> None:
        if self.report is not None:
            self._launcher.failure = self.report
            raise PipelineFailed(str(self.report), self.report.trace)
        if not clean:
            assert self._process is not None
            tail = "".join(f"\n    {line}" for log in self._logs for line in log.tail()[-10:])
            raise ProcessFailed(f"process {self.name!r} (pid {self._process.pid}): {exited}{tail}")

    async def on_stop(self, ctx: Context) -> None:
        self._launcher.present.pop(self.name, None)
        self.kill()
        if self._process is not None:
            await self._process.wait_group()
        if self._control is not None:
            await self._control.aclose()
        for log in self._logs:
            log.close()
        self._launcher.run.forget(self.name)
        self._launcher.news.ring()

    def kill(self) -> None:
        """SIGKILL for the process and all it has started. What follows is decided as for any other death."""
        if self._process is not None:
            self._process.kill_group(signal.SIGKILL)

    async def _say_go(self) -> None:
        await self._launcher.gate.wait()
        for name in self._launcher.start_order:
            if name in self._daemons:
                await self.say(Go(name))

    async def say(self, word: Said) -> None:
        assert self._control is not None
        try:
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

    def _hear(self, word: Said) -> None:
        match word:
            case Ready(daemon):
                self._ready.add(daemon)
            case Failed(report, escalates):
                self._launcher.note(report)
                if escalates:
                    self.report = report
            case Ended(daemon):
                self.ended.add(daemon)
                self._launcher.news.ring()
            case _:
                pass


class Launcher:
    """One run of a pipeline."""

    def __init__(self, pipeline: Pipeline, processes: Processes | None = None) -> None:
        pipeline.checked()
        self.spec: PipelineSpec = pipeline.spec
        self.processes = processes or RealProcesses()
        self.start_order = wiring.start_order(self.spec)
        self.gate = Signal("the start of the pipeline")
        self.news = Bell()
        self.present: dict[str, NodeProcess] = {}
        self.reports: list[Report] = []
        self.failure: Report | None = None
        self.run: RunDirectory = new_run(self.spec.name)
        self.lifeline = Lifeline()
        self._folder = pipeline.folder
        self._state = state_dir(self.run.run_id)
        self._supervisor = Supervisor()
        self._generations: dict[str, int] = {}

    # -- what a process is told ---------------------------------------------------------------------------------------

    def daemons_of(self, process: str) -> dict[str, DaemonSpec]:
        return {daemon.name: daemon for daemon in self.spec.daemons if daemon.process == process}

    def settings_of(self, process: str) -> ProcessSpec:
        found = (settings for settings in self.spec.processes if settings.name == process)
        return next(found, ProcessSpec(name=process))

    def log_file(self, name: str) -> LogFile:
        return LogFile(self._state / f"{name}.log")

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
            daemons=tuple(self._order_of(daemon) for daemon in self.daemons_of(process).values()),
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
        )

    def note(self, report: Report) -> None:
        self.reports.append(report)

    # -- the run ------------------------------------------------------------------------------------------------------

    async def live(self) -> None:
        """Until every daemon has returned. Raises `PipelineFailed` when one failed and its policy did not absorb it."""
        try:
            async with self._supervisor as supervisor:
                for process in dict.fromkeys(daemon.process for daemon in self.spec.daemons):
                    policy, restart = _policy_of(self.daemons_of(process))
                    supervisor.add(NodeProcess, self, process, name=process, on_error=policy, restart=restart)
                await supervisor.wait_all_started()
                self.gate.set()
        except Exception as error:
            failed = daemon_errors(error)
            if not failed:
                raise
            raise self._in_our_words(failed[0]) from None
        finally:
            self.lifeline.cut()
            self.run.close()

    def _in_our_words(self, error: DaemonError) -> PipelineFailed:
        if self.failure is not None:
            return PipelineFailed(str(self.failure), self.failure.trace)
        return PipelineFailed(str(error.__cause__ or error))

    async def stop(self, grace_s: float = 5.0) -> None:
        """Sources first; their closing lets the others end by themselves. Returns when all have, or have been ended."""
        with anyio.move_on_after(grace_s + SOURCE_GRACE_S):
            for name in wiring.stop_order(self.spec):
                node = self.present.get(next(daemon.process for daemon in self.spec.daemons if daemon.name == name))
                if node is not None and name not in node.ended:
                    await node.say(Stop(name, SOURCE_GRACE_S if self._is_source(name) else grace_s))
            while self.present:
                await self.news.wait()
        await self._supervisor.stop(grace=0)

    def _is_source(self, daemon: str) -> bool:
        return not any(channel.reader is not None and channel.reader.daemon == daemon for channel in self.spec.channels)


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
