"""A process that hosts daemons, as its launcher has it. At its other end is engine/node.py.

    on_start    start it, or take the spare; hear until its daemons are ready
    run         hear what it says until it has ended; how that was goes through the policy of its daemons
    on_stop     tell it to quit, wait a moment, kill what is left

Whether its loop still turns is read from outside, and told with the stacks of its threads when it does not.
"""

import signal
import socket
import sys
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import anyio
import anyio.abc
import msgspec

from geartrain.engine.child import Child
from geartrain.engine.context import Context
from geartrain.engine.hosted import FINALIZE_TIMEOUT_S
from geartrain.engine.spare import Spare
from geartrain.errors import PipelineFailed, ProcessFailed
from geartrain.ports.handing import hand
from geartrain.ports.process import Exit
from geartrain.ports.stacks import Stacks
from geartrain.rules.orders import (
    AskCounts,
    Clear,
    Cleared,
    Counts,
    DaemonOrder,
    Ended,
    Failed,
    Finished,
    Go,
    Listener,
    Lost,
    Noted,
    Quit,
    Ready,
    Report,
    Returned,
    Said,
    Stop,
    Tapped,
    to_line,
)
from geartrain.rules.pipeline import DaemonSpec
from geartrain.rules.system import is_observer

if TYPE_CHECKING:
    from geartrain.engine.launcher import Launcher

# Who is cancelled because the run is over may clean up for so long, and then there is a moment to leave in.
FINALIZE_S = 1.5
QUIT_S = FINALIZE_TIMEOUT_S

_CHUNK = 64 * 1024

# Who is started while the run is being stopped may finish what it gets within this time.
LATE_STOP_S = 2.0

# A loop that turns answers at once.
CLEAR_WITHIN_S = 5.0

# How often, within the time after which a loop is said to hang, it is looked at.
_LOOKS = 4


class NodeProcess(Child):
    """One process with its daemons, from its start to its exit."""

    def __init__(self, launcher: "Launcher", process: str) -> None:
        super().__init__(launcher, process)
        self.report: Report | None = None
        self._is_final = False
        self._daemons = launcher.brief.left_of(process)
        self._ready: set[str] = set()
        self._control: anyio.abc.SocketStream | None = None
        self._unsaid: list[bytes] = []
        self._listener = Listener()
        self._stacks = Stacks(launcher.brief.stacks_path(process))
        self._asked = 0
        self._answered = 0
        # What has come of each time that somebody wanted to have a daemon cleared.
        self._clears = 0
        self._cleared: dict[int, str | None] = {}
        self._gone = False
        # What ends the pipeline, whatever the policy is: it has been asked over there.
        self._final: PipelineFailed | None = None
        # Why it was ended from here, for the words about its end.
        self._verdict = ""

    # -- its start ------------------------------------------------------------------------------------------------

    async def on_start(self, ctx: Context) -> None:
        try:
            await self._begin()
        except BaseException:
            # Nobody calls `on_stop` after a start that has failed or was cancelled.
            with anyio.CancelScope(shield=True):
                await self.on_stop(ctx)
            raise

    async def _begin(self) -> None:
        await self._forget_the_former_life()
        orders = self._launcher.brief.orders_of(self.name)
        self._slots = self._new_slots(orders)
        spare = self._launcher.spare_for(self.name)
        control = (None if spare is None else await self._from(spare, orders)) or self._new(orders)
        self._control = await anyio.abc.UNIXSocketStream.from_socket(control)
        await self._until_ready(time.monotonic())
        # While it starts, nobody else is started beside it.
        self._launcher.spares.fill()
        if self._launcher.is_stopping:
            # What was said to everybody was said to the one before.
            for name in self._daemons:
                await self.say(Stop(name, LATE_STOP_S))

    def _new(self, daemons: tuple[DaemonOrder, ...]) -> socket.socket:
        """A process of its own. The answer is our end of its control socket."""
        here, there = socket.socketpair()
        with ExitStack() as failing, there:
            failing.callback(here.close)
            slots = self._slots_fd()
            order = self._launcher.brief.order_for(self.name, there.fileno(), daemons, slots)
            self._spawn(
                (sys.executable, "-m", "geartrain.engine.node"),
                bootstrap=msgspec.json.encode(order),
                keep_open=(there.fileno(), self._launcher.brief.lifeline.fd, slots),
            )
            failing.pop_all()
        return here

    async def _from(self, spare: Spare, daemons: tuple[DaemonOrder, ...]) -> socket.socket | None:
        """The spare is this process from now on; None when it has died at this very moment."""
        logs = self._new_logs()
        # Which number the slot file has over there, the spare finds out when it has it.
        order = self._launcher.brief.order_for(self.name, spare.number, daemons, slots=-1)
        try:
            hand(spare.control, msgspec.json.encode(order), logs[0].fd, logs[1].fd, self._slots_fd())
        except OSError:
            for log in logs:
                log.close()
            await spare.end()
            return None
        try:
            self._adopt(spare.process, logs)
        except ProcessFailed:
            await self._end_logs()
            await spare.end()
            return None
        return spare.control

    async def _until_ready(self, began_s: float) -> None:
        while not self._gone and (unready := self._unready()):
            limit_s = min((spec.start_within for spec in unready if spec.start_within is not None), default=None)
            if limit_s is not None and time.monotonic() - began_s >= limit_s:
                await self._end_late_start([spec.name for spec in unready if spec.start_within == limit_s], limit_s)
            with anyio.move_on_after(None if limit_s is None else began_s + limit_s - time.monotonic()):
                await self._hear_some()

    def _unready(self) -> list[DaemonSpec]:
        # Who has failed in `on_start`, and is ignored, will never be ready. An observer is waited for by nobody.
        done = self._ready | self.ended
        return [spec for name, spec in self._daemons.items() if name not in done and not is_observer(spec)]

    async def _end_late_start(self, late: list[str], limit_s: float) -> None:
        """Say where it stands, and end it. Raises what its policy is asked about."""
        assert self._process is not None
        stacks = await self._stacks_in_words()
        verdict = f"{', '.join(late)} not ready within {limit_s:g} s: on_start has not returned, or a channel not met"
        self.kill(again=False)
        await self._process.wait_group()
        self._launcher.chronicle.died(self.name)
        self._launcher.roll.gone(self.name, verdict)
        raise ProcessFailed(f"process {self.name!r} (pid {self._process.pid}): {verdict}\n{stacks}")

    async def _say_go(self) -> None:
        await self._launcher.gate.wait()
        for name in self._launcher.start_order:
            if name in self._daemons:
                await self.say(Go(name))

    # -- its life -------------------------------------------------------------------------------------------------

    async def run(self, ctx: Context) -> None:
        exited = await self._live()
        if exited is not None:
            self._judge(exited)

    async def _one_life(self) -> Exit:
        assert self._process is not None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._say_go)
            tasks.start_soon(self._watch_its_loop)
            while not self._gone:
                await self._hear_some()
            await self._process.wait()
            # What it has started is not waited for: it would hold up whoever comes next, or the end of the run.
            self._process.kill_group(signal.SIGKILL)
            exited = await self._process.wait_group()
            tasks.cancel_scope.cancel()
        self._note_end(exited)
        await self._end_logs()
        await self._launcher.tell_of(self.name, "finished", self._launcher.brief.finished)
        await self._launcher.tell_of(self.name, "ignored", self._launcher.brief.given_up)
        return exited

    async def _forget_the_former_life(self) -> None:
        if self._control is None:
            return
        await self._control.aclose()
        self._unsaid = []
        self.ended.clear()
        self.report = None
        self._ready.clear()
        self._daemons = self._launcher.brief.left_of(self.name)
        self._listener = Listener()
        self._answered = self._asked
        self._gone = False

    def _judge(self, exited: Exit) -> None:
        assert self._process is not None
        if self.report is not None:
            self._launcher.failure = self.report
            failed = PipelineFailed(str(self.report), self.report.trace)
            if not self._is_final:
                raise failed
            self._final = failed
            return
        left = self._launcher.brief.left_of(self.name).keys()
        how = f"{exited}{self._verdict}"
        if exited.code == 0 and left - self.ended:
            how += ", before its daemons had returned"
        if left and (exited.code != 0 or left - self.ended):
            raise self._died(how)
        if exited.code != 0:
            self._launcher.warn(f"process {self.name!r} (pid {self._process.pid}): {how}, after it had finished")

    # -- whether its loop turns -----------------------------------------------------------------------------------

    async def _watch_its_loop(self) -> None:
        settings = self._launcher.brief.settings_of(self.name)
        if settings.hung_after is None:
            return
        hangs = False
        while True:
            await anyio.sleep(settings.hung_after / _LOOKS)
            last_ns = self._last_beat_ns
            still_s = (time.monotonic_ns() - last_ns) / 1e9 if last_ns else 0.0
            if hangs and still_s < settings.hung_after:
                hangs = False
                self._launcher.roll.turns_again(self.name)
            elif not hangs and still_s >= settings.hung_after:
                hangs = True
                await self._tell_that_it_hangs(still_s)
                if settings.on_hang == "kill":
                    self._verdict = f", because its loop stood still for {still_s:.3g} s"
                    self.kill(again=False)

    async def _tell_that_it_hangs(self, still_s: float) -> None:
        assert self._process is not None
        how = f"its loop stands still for {still_s:.3g} s"
        stacks = await self._stacks_in_words()
        self._launcher.roll.hangs(self.name, how)
        self._launcher.warn(f"process {self.name!r} (pid {self._process.pid}) hangs: {how}\n{stacks}")

    async def stacks(self) -> str:
        assert self._process is not None
        return await self._stacks.ask(self._process)

    async def _stacks_in_words(self) -> str:
        try:
            return await self.stacks()
        except ProcessFailed as error:
            return str(error)

    # -- its end --------------------------------------------------------------------------------------------------

    async def on_stop(self, ctx: Context) -> None:
        try:
            await self._quit()
        finally:
            with anyio.CancelScope(shield=True):
                await self._end()
        if self._final is not None:
            # A cleanup that fails is never tried again, so nobody is started again by this.
            raise self._final

    @property
    def has_begun(self) -> bool:
        """Before its loop turns it imports, hears nothing, and has nothing to clean up."""
        return self._last_beat_ns != 0

    async def _quit(self) -> None:
        """Somebody else's failure may have ended the run: the daemons here may clean up all the same."""
        if self._process is None or self._control is None or self._process.group_is_empty() or not self.has_begun:
            return
        with anyio.move_on_after(QUIT_S):
            await self.say(Quit(FINALIZE_S))
            while not self._gone:
                await self._hear_some()
            await self._process.wait_group()

    async def _end(self) -> None:
        await super()._end()
        if self._control is not None:
            await self._control.aclose()

    # -- talking with it ------------------------------------------------------------------------------------------

    async def say(self, word: Said) -> None:
        self._unsaid.append(to_line(word))
        if len(self._unsaid) == 1:
            self._launcher.in_background(self._say_all)

    async def _say_all(self) -> None:
        """Whoever says something may be cancelled: a word is not cut in two by that, for it is sent from here."""
        control, unsaid = self._control, self._unsaid
        assert control is not None
        # That it is gone is heard, after all that it has said.
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            while unsaid:
                await control.send(unsaid[0])
                del unsaid[0]

    async def ask_counts(self) -> None:
        # Nothing heaps up for a process that hangs.
        if self._ready and not self.owes_an_answer:
            self._asked += 1
            await self.say(AskCounts(self._asked))

    @property
    def owes_an_answer(self) -> bool:
        return self._answered < self._asked and not self._gone

    async def clear(self, daemon: str) -> str | None:
        self._clears += 1
        question = self._clears
        await self.say(Clear(question, daemon))
        with anyio.move_on_after(CLEAR_WITHIN_S):
            while question not in self._cleared and not self._gone:
                await self._launcher.news.wait()
        return self._cleared.pop(question, f"the process of {daemon!r} does not answer; its loop may hang")

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
                self._launcher.lives(self.name)
            case Failed(report, escalates, final):
                self._launcher.note(report)
                self._launcher.roll.failed(report, escalates=escalates)
                if escalates:
                    self.report, self._is_final = report, final
                else:
                    self._launcher.absorbed(report)
            case Returned(daemon):
                self._launcher.brief.returned.add(daemon)
            case Finished(daemon):
                self._launcher.brief.finished.add(daemon)
            case Counts(question, ends):
                for end in ends:
                    self._launcher.ledger.hear(end)
                self._answered = max(self._answered, question)
                self._launcher.news.ring()
            case Tapped(channel, shown):
                self._launcher.show(channel, shown)
            case Cleared(question, refused):
                self._cleared[question] = refused
                self._launcher.news.ring()
            case Lost(channel, items):
                self._launcher.mourn_items(channel, items)
            case Ended(daemon):
                self.ended.add(daemon)
                self._launcher.roll.ended(daemon)
                self._launcher.news.ring()
            case _:
                pass
