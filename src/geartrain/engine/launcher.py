"""A whole pipeline in processes: starts them in order, watches them, starts again what died, stops them in order.

    Pipeline -> orders -> processes, each a daemon of one Supervisor here       engine/node.py is at the other end

A process is a daemon too: its `run` waits for its exit, and how that was goes through the policy of its daemons.
"""

import logging
from collections.abc import AsyncIterator, Callable, Container, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.abc
from msgspec.structs import replace

from geartrain.engine.briefing import Briefing
from geartrain.engine.child import Child, Reading
from geartrain.engine.chronicle import Chronicle
from geartrain.engine.declare import signature_of
from geartrain.engine.echo import Echo
from geartrain.engine.foreign import CommandProcess
from geartrain.engine.node_process import FINALIZE_S, QUIT_S, NodeProcess
from geartrain.engine.pipeline import Pipeline
from geartrain.engine.roll import Roll, Standing, Stream, Watcher
from geartrain.engine.signal import Bell, Signal
from geartrain.engine.spare import Spare, Spares
from geartrain.engine.supervisor import Supervisor
from geartrain.errors import BadValue, DaemonError, PipelineFailed, leaves
from geartrain.ports.limits import need_descriptors
from geartrain.ports.log_capture import LogCapture
from geartrain.ports.observer import Observer
from geartrain.ports.plane_words import plane_in
from geartrain.ports.process import Processes, RealProcesses
from geartrain.ports.run_directory import RunDirectory, new_run
from geartrain.ports.tally import lives_in
from geartrain.rules import wiring
from geartrain.rules.counts import ChannelCounts, Ledger, judged
from geartrain.rules.descriptors import descriptors_needed
from geartrain.rules.lifecycle import DaemonFailurePhase, OnError
from geartrain.rules.nearest import did_you_mean
from geartrain.rules.orders import (
    CloseTap,
    Gone,
    OpenTap,
    Over,
    Quit,
    Report,
    Stop,
)
from geartrain.rules.pipeline import DaemonSpec, PipelineSpec
from geartrain.rules.planes import PlaneSnapshot
from geartrain.rules.restart import RestartPolicy
from geartrain.rules.shown import Shown

_log = logging.getLogger("geartrain.launcher")

# A process that hears nothing more from here cancels its daemons this long after the grace.
_LATER_S = 2.0

# A process that hangs is not waited for with the others' numbers.
COUNTS_WITHIN_S = 1.0

# Nobody is left whom a system daemon could serve.
SYSTEM_GRACE_S = 2.0


class Launcher(Observer):
    """One run of a pipeline. It observes its own supervisor, whose daemons are processes."""

    def __init__(self, pipeline: Pipeline, processes: Processes | None = None, watcher: Watcher | None = None) -> None:
        targets = pipeline.checked()
        signatures = {name: signature_of(target) for name, target in targets.items()}
        self.spec: PipelineSpec = pipeline.whole
        carried = wiring.carried(self.spec, signatures)
        # Where there are too few, a library spins later instead of saying so.
        need_descriptors(descriptors_needed(carried))
        self.run: RunDirectory = new_run(self.spec.name)
        self.brief = Briefing(self.spec, signatures, self.run, pipeline.folder)
        self.chronicle = Chronicle(self.run.run_id, self.spec, self.brief.state, self.run.folder, watcher or Watcher())
        self.roll = Roll(self.spec, self.chronicle)
        self.processes = processes or RealProcesses()
        self.start_order = wiring.start_order(self.spec)
        self.ledger = Ledger(carried)
        self.gate = Signal("the start of the pipeline")
        self.news = Bell()
        self.present: dict[str, Child] = {}
        self.reports: list[Report] = []
        self.failure: Report | None = None
        self.last_lines: dict[str, list[str]] = {}
        self._echoes: dict[str, list[Echo]] = {}
        self._supervisor = Supervisor(observer=self)
        self._stopping = False
        self._readers: anyio.abc.TaskGroup
        self.spares = Spares(self, self._spares_wanted())

    @property
    def is_stopping(self) -> bool:
        return self._stopping

    def _spares_wanted(self) -> int:
        """As many as are asked for; if nobody has said it, one where anything may have to be started again."""
        if self.spec.spares is not None:
            return self.spec.spares
        return int(any(daemon.on_error == "restart" and daemon.run for daemon in self.spec.daemons))

    def spare_for(self, process: str) -> Spare | None:
        """A spare, for a process that has lived before."""
        return self.spares.take(process) if self.brief.lives(process) else None

    async def tell_of(self, process: str, gone: Gone, which: Container[str]) -> None:
        """Its process has ended, and these daemons of it are gone for good: those at their other ends are told."""
        mine = self.brief.daemons_of(process)
        for channel in self.brief.carried.channels:
            assert channel.writer is not None
            assert channel.reader is not None
            for here, there in ((channel.writer, channel.reader), (channel.reader, channel.writer)):
                node = self.present.get(self.brief.process_of(there.daemon))
                if here.daemon in mine and here.daemon in which and there.daemon not in mine and node is not None:
                    died = here is channel.writer and gone == "ignored"
                    lives = lives_in(self.brief.counter_path(channel.name)) if died else ()
                    await node.say(Over(channel.name, gone, lives))

    def absorbed(self, report: Report) -> None:
        """A daemon has failed, and its policy has absorbed that over there."""
        (spec,) = (daemon for daemon in self.spec.daemons if daemon.name == report.daemon)
        if spec.on_error == "ignore":
            self.brief.given_up.add(spec.name)
        elif spec.on_error == "restart" and report.phase != "on_stop":
            self.restart_cone(spec.name)

    def on_daemon_error(self, daemon: str, phase: DaemonFailurePhase, error: BaseException) -> None:
        """A process has failed, before it was ready or later."""
        if _policy_of(self.brief.daemons_of(daemon))[0] == "restart":
            for name in self.brief.left_of(daemon):
                self.restart_cone(name)

    def on_daemon_stop(self, daemon: str) -> None:
        """A process has ended for good. Where the others go on, they need not wait for those who had not finished."""
        if self._stopping or _policy_of(self.brief.daemons_of(daemon))[0] == "ignore":
            left = self.brief.left_of(daemon)
            self.brief.given_up.update(left)
            for name in left:
                self.roll.ended(name)
            self._readers.start_soon(self.tell_of, daemon, "ignored", left)
            self.news.ring()

    def restart_cone(self, daemon: str) -> None:
        """This daemon is made anew: those downstream of it that want to be made anew with it, are."""
        for process in {self.brief.process_of(name) for name in wiring.restart_cone(self.spec, daemon)}:
            node = self.present.get(process)
            if node is not None and not self._stopping:
                node.kill(again=True)

    def mourn_items(self, channel: str, items: int | None) -> None:
        """So many died with the writer of this channel. What came of its own inputs comes again, and is not lost."""
        writer = next(
            spec.writer.daemon for spec in self.brief.carried.channels if spec.name == channel and spec.writer
        )
        if any(daemon.name == writer and daemon.is_system for daemon in self.spec.daemons):
            return  # The next life tells it again.
        if writer in self.brief.given_up or not wiring.is_repeated(self.brief.carried, writer):
            self.roll.lost(writer, items or 0)
            self.chronicle.note("lost", daemon=writer, said=f"{_in_items(items)} of channel {channel!r}")
            self.warn(f"{_in_items(items)} that {writer!r} had sent into channel {channel!r} died with it")

    def warn(self, words: str) -> None:
        """Something that the operator should know, and that ends nobody."""
        _log.warning("%s", words)

    def in_background(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do something for as long as the run takes, whatever becomes of who wants it."""
        self._readers.start_soon(work)

    def read(self, logs: Sequence[LogCapture]) -> Reading:
        """Read what a process prints, from its first moment on."""
        reading = Reading(logs)
        self.in_background(reading.live)
        return reading

    def lives(self, process: str) -> None:
        """A daemon of it is ready. The others know what a former life has done, and may forget it when they die."""
        if self.brief.lives(process) > 1:
            self._readers.start_soon(self.ask_counts)
        for channel, echoes in self._echoes.items():
            if echoes and self.brief.process_of(self._writer_of(channel)) == process:
                self._readers.start_soon(self._say_to_writer, OpenTap(channel))

    @asynccontextmanager
    async def echo(self, channel: str) -> AsyncIterator[Echo]:
        """See what goes into a channel, as much of it as its owner can take."""
        names = [spec.name for spec in self.brief.carried.channels]
        if channel not in names:
            raise BadValue(f"there is no channel {channel!r}; {did_you_mean(channel, names)}")
        echoes = self._echoes.setdefault(channel, [])
        echo = Echo()
        echoes.append(echo)
        try:
            await self._say_to_writer(OpenTap(channel))
            yield echo
        finally:
            echoes.remove(echo)
            if not echoes:
                # A word is not cut in two, whoever goes away.
                with anyio.CancelScope(shield=True):
                    await self._say_to_writer(CloseTap(channel))

    def show(self, channel: str, shown: tuple[Shown, ...]) -> None:
        for echo in self._echoes.get(channel, ()):
            echo.put(shown)

    async def _say_to_writer(self, word: OpenTap | CloseTap) -> None:
        child = self.present.get(self.brief.process_of(self._writer_of(word.channel)))
        if child is not None:
            await child.say(word)

    def _writer_of(self, channel: str) -> str:
        (writer,) = (spec.writer for spec in self.brief.carried.channels if spec.name == channel)
        assert writer is not None
        return writer.daemon

    async def ask_counts(self) -> None:
        for node in tuple(self.present.values()):
            await node.ask_counts()

    async def channel_counts(self) -> tuple[tuple[ChannelCounts, ...], tuple[str, ...]]:
        """Every channel, and the processes that do not answer in time: their numbers are those of last time."""
        with anyio.move_on_after(COUNTS_WITHIN_S):
            await self.ask_counts()
            while self._owing():
                await self.news.wait()
        planes = self.planes()
        rows = (row if row.channel not in planes else judged(row, planes[row.channel]) for row in self.ledger.rows())
        return tuple(rows), self._owing()

    def planes(self) -> dict[str, PlaneSnapshot]:
        """How the channels are that may go stale, as their readers have told."""
        named = [channel.name for channel in self.spec.channels if channel.stale_after is not None]
        looks = {name: plane_in(self.brief.plane_path(name), name) for name in named}
        return {name: plane for name, plane in looks.items() if plane is not None}

    def standings(self) -> tuple[Standing, ...]:
        """How every daemon is, and which of its inputs are stale."""
        stale = {name for name, plane in self.planes().items() if plane.stale}
        to = {channel.name: channel.reader.daemon for channel in self.spec.channels if channel.reader is not None}
        return tuple(
            replace(standing, stale=tuple(name for name in to if name in stale and to[name] == standing.daemon))
            for standing in self.roll.standings()
        )

    def _owing(self) -> tuple[str, ...]:
        return tuple(name for name, node in self.present.items() if node.owes_an_answer)

    def note(self, report: Report) -> None:
        self.reports.append(report)

    def hear_line(self, process: str, stream: Stream, line: str) -> None:
        self.roll.watcher.process_said(process, stream, line)

    # -- the run ------------------------------------------------------------------------------------------------------

    async def live(self) -> None:
        """Until every daemon has returned. Raises `PipelineFailed` when one failed and its policy did not absorb it."""
        failures: list[BaseException] = []
        self.chronicle.begin()
        try:
            async with anyio.create_task_group() as self._readers:
                self._readers.start_soon(self.spares.begin)
                try:
                    await self._live_under_supervision()
                finally:
                    with anyio.CancelScope(shield=True):
                        await self.spares.close()
                    self._readers.cancel_scope.cancel()
        except* DaemonError as group:
            failures.extend(leaves(group))
        finally:
            self.brief.close()
            self.chronicle.close()
            self.run.close()
        if failures:
            raise self._in_our_words(failures[0])

    async def _live_under_supervision(self) -> None:
        async with self._supervisor as supervisor:
            for process in dict.fromkeys(daemon.process for daemon in self.spec.daemons):
                policy, restart = _policy_of(self.brief.daemons_of(process))
                kind = CommandProcess if self.brief.is_command(process) else NodeProcess
                supervisor.add(kind, self, process, name=process, on_error=policy, restart=restart)
            await supervisor.wait_all_started()
            self.gate.set()
            self._readers.start_soon(self._end_the_system)

    async def _end_the_system(self) -> None:
        """Whoever only serves the others is told to stop when all of them have ended."""
        while not self.roll.only_system_left():
            await self.news.wait()
        self._stopping = True
        for daemon in self.spec.daemons:
            await self._say_stop(daemon.name, SYSTEM_GRACE_S)

    def _in_our_words(self, error: BaseException) -> PipelineFailed:
        if self.failure is not None:
            return PipelineFailed(str(self.failure), self.failure.trace)
        return PipelineFailed(str(error.__cause__ or error))

    async def stop(self, grace_s: float = 5.0) -> tuple[str, ...]:
        """Sources first; their closing lets the others end by themselves. Returns when all have ended.

        The answer is who had not ended within the grace, and was ended by force.
        """
        self._stopping = True
        self.chronicle.note("stopping")
        self._supervisor.signal_stop()
        # Before the start nobody has anything in hand.
        late = await self._ask_all(grace_s) if self.gate.is_set() else ()
        await self.end_now()
        return late

    async def _ask_all(self, grace_s: float) -> tuple[str, ...]:
        """The answer is who has not ended in time. Who is to be cancelled for that is said afterwards, from here."""
        with anyio.move_on_after(grace_s + wiring.SOURCE_GRACE_S):
            for name in wiring.stop_order(self.spec):
                await self._say_stop(
                    name, min(wiring.SOURCE_GRACE_S, grace_s) if self._is_source(name) else grace_s + _LATER_S
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
            while any(node.has_begun for node in self.present.values()):
                await self.news.wait()
        await self._supervisor.stop(grace=0)

    async def _say_stop(self, daemon: str, grace_s: float) -> None:
        node = self.present.get(self.brief.process_of(daemon))
        if node is not None and daemon not in node.ended:
            await node.say(Stop(daemon, grace_s))

    # -- what people ask for ------------------------------------------------------------------------------------------

    def restart(self, daemon: str) -> None:
        """End the process of this daemon at once and start it again; its channels go on where they were."""
        if self._stopping:
            raise BadValue("the run is stopping, and nothing is started any more")
        self._node_of(daemon).kill(again=True)
        for name in self.brief.left_of(self.brief.process_of(daemon)):
            self.restart_cone(name)

    def kill(self, daemon: str) -> None:
        """End the process of this daemon at once. What its policy says of a death comes then."""
        self._node_of(daemon).kill(again=False)

    async def clear(self, daemon: str) -> None:
        """Let the body of this daemon be entered again, that was held because one took longer than its budget.

        If its process is over its budget, that is cleared with it. `BadValue` says why nothing was done.
        """
        refused = await self._node_of(daemon).clear(daemon)
        if refused is not None:
            raise BadValue(refused)

    async def stacks(self, daemon: str) -> str:
        """Where each thread of the process of this daemon stands."""
        return await self._node_of(daemon).stacks()

    def _node_of(self, daemon: str) -> Child:
        names = [spec.name for spec in self.spec.daemons]
        if daemon not in names:
            raise BadValue(f"there is no daemon {daemon!r}; {did_you_mean(daemon, names)}")
        node = self.present.get(self.brief.process_of(daemon))
        if node is None:
            raise BadValue(f"the process of {daemon!r} is not alive")
        return node

    def _is_source(self, daemon: str) -> bool:
        return not any(channel.reader is not None and channel.reader.daemon == daemon for channel in self.spec.channels)


def _in_items(count: int | None) -> str:
    return "an unknown number of items" if count is None else f"{count} item{'' if count == 1 else 's'}"


def _policy_of(daemons: Mapping[str, DaemonSpec]) -> tuple[OnError, RestartPolicy | None]:
    """What the death of a process means: the strictest of what its daemons say."""
    said = {daemon.on_error for daemon in daemons.values()}
    if "shutdown" in said:
        return "shutdown", None
    if "restart" in said:
        policies = [daemon.restart_in_use for daemon in daemons.values() if daemon.on_error == "restart"]
        return "restart", policies[0]
    return "ignore", None
