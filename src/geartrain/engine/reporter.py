"""What a supervisor says about its daemons: to the log, and to the observer if there is one."""

import logging
import os
import traceback
from collections.abc import Sequence

from geartrain.engine.context import ClockLogger
from geartrain.errors import ProcessFailed, in_words
from geartrain.ports.clock import Clock
from geartrain.ports.observer import Guard, Observer, Watch, tell
from geartrain.rules.budgets import (
    DaemonHeld,
    DaemonReleased,
    ExecutorHeld,
    ExecutorReleased,
    Fact,
    Hold,
    Joined,
    Overran,
)
from geartrain.rules.lifecycle import DaemonFailurePhase, End, Pause
from geartrain.rules.orders import ERROR_MOST, REPORT_TRACE_MOST, Report


class Reporter:
    """Knows which daemons are unwell: a daemon is at fault from its first error until it has started again."""

    def __init__(self, logger: logging.Logger, clock: Clock, observer: Observer | None) -> None:
        self._logger = logger
        self._clock = clock
        self._observer = observer
        self._unwell: set[str] = set()

    def logger_of(self, daemon: str) -> ClockLogger:
        """The logger of a daemon, which the supervisor too uses to speak of it. Its records carry `sim_time`."""
        return ClockLogger(self._logger.getChild(daemon), self._clock)

    def watch(self, daemon: str, guard: Guard | None) -> Watch | None:
        """Nobody measures cycles that nobody looks at, and that may take as long as they like."""
        if self._observer is None and guard is None:
            return None
        return (self._observer or Observer()).watch(daemon, guard)

    def up(self) -> None:
        if self._observer is not None:
            tell(self._observer.on_executor_up)

    def down(self, error: BaseException | None) -> None:
        if self._observer is None:
            return
        if error is None:
            tell(self._observer.on_executor_down)
        else:
            tell(self._observer.on_executor_error, error)

    def starting(self, daemon: str, attempt: int) -> None:
        if self._observer is not None:
            tell(self._observer.on_daemon_start, daemon, attempt)

    def started(self, daemon: str) -> None:
        if self._observer is None or daemon not in self._unwell:
            return
        self._unwell.remove(daemon)
        tell(self._observer.on_daemon_clear, daemon)
        if not self._unwell:
            tell(self._observer.on_executor_clear)

    def failed(self, daemon: str, phase: DaemonFailurePhase, error: BaseException) -> None:
        """A hook raised. What follows is not known yet."""
        self.logger_of(daemon).debug("daemon %r raised in %s: %r", daemon, phase, error)
        if self._observer is None:
            return
        tell(self._observer.on_daemon_error, daemon, phase, error)
        if daemon not in self._unwell:
            self._unwell.add(daemon)
            tell(self._observer.on_daemon_fault, daemon)
            if len(self._unwell) == 1:
                tell(self._observer.on_executor_fault, daemon)

    def budgets(self, facts: Sequence[Fact]) -> None:
        """Somebody took too long, or that was cleared."""
        for fact in facts:
            self._log_hold(fact)
            if self._observer is not None:
                _tell_of_budgets(self._observer, fact)

    def _log_hold(self, fact: Fact) -> None:
        match fact:
            case DaemonHeld(daemon, hold):
                logger = self.logger_of(daemon)
                logger.warning("daemon %r is held until its fault is cleared: a body %s", daemon, _too_long(hold))
            case ExecutorHeld(hold):
                said = "all daemons are held until the fault of the executor is cleared: a body of %r %s"
                self._logger.warning(said, hold.daemon, _too_long(hold))
            case DaemonReleased(daemon):
                self.logger_of(daemon).info("daemon %r is held no more", daemon)
            case _:
                pass

    def outcome(self, daemon: str, error: BaseException, order: Pause | End) -> None:
        """What followed. An error that is raised to the caller needs no second report here."""
        logger = self.logger_of(daemon)
        match order:
            # How a process ended says it all; a traceback would be that of whoever waited for it.
            case Pause(delay_s) if isinstance(error, ProcessFailed):
                said, *last_lines = str(error).splitlines()
                logger.warning("%s", "\n".join((f"{said}; again in {delay_s:g} s", *last_lines)))
            case Pause(delay_s):
                logger.warning("daemon %r failed; again in %g s", daemon, delay_s, exc_info=error)
            case End(None):
                logger.error("daemon %r failed, and is not started again", daemon, exc_info=error)
            case End():
                logger.debug("daemon %r failed, and ends the supervisor", daemon)

    def ended(self, daemon: str) -> None:
        if self._observer is not None:
            tell(self._observer.on_daemon_stop, daemon)

    def late(self, daemons: tuple[str, ...], grace: float) -> None:
        self._logger.warning("not stopped within %g s, and cancelled: %s", grace, ", ".join(daemons))

    def undriven(self, daemons: list[str]) -> None:
        self._logger.warning(
            "the supervisor's block waits for %s, but nobody drives its SimClock; "
            "before the block is left, `await clock.advance(...)`, `clock.run()` or `sup.stop()`",
            ", ".join(daemons),
        )

    def defiant(self, daemon: str) -> None:
        self.logger_of(daemon).error("daemon %r was cancelled, and goes on all the same", daemon)

    def cleanup_cut(self, daemon: str) -> None:
        self.logger_of(daemon).warning("on_stop of daemon %r did not finish in time, and was cancelled", daemon)


def _too_long(hold: Hold) -> str:
    return f"took {hold.took_ns / 1e6:g} ms, and may take {hold.budget_ns / 1e6:g} ms"


def _tell_of_budgets(observer: Observer, fact: Fact) -> None:
    match fact:
        case Overran(daemon, took_ns, budget_ns):
            tell(observer.on_overrun, daemon, took_ns, budget_ns)
        case DaemonHeld(daemon, hold):
            tell(observer.on_daemon_held, daemon, hold.took_ns, hold.budget_ns)
        case ExecutorHeld(hold):
            tell(observer.on_executor_held, hold.daemon, hold.took_ns, hold.budget_ns)
        case Joined(daemon):
            tell(observer.on_daemon_held_with_executor, daemon)
        case DaemonReleased(daemon):
            tell(observer.on_daemon_released, daemon)
        case ExecutorReleased():
            tell(observer.on_executor_released)


def report_of(error: BaseException, *, daemon: str, process: str, phase: str, attempt: int) -> Report:
    """How a daemon of a pipeline failed, in words that another process can be told."""
    return Report(
        daemon=daemon,
        process=process,
        pid=os.getpid(),
        phase=phase,
        attempt=attempt,
        error=in_words(error)[:ERROR_MOST],
        trace="".join(traceback.format_exception(error))[-REPORT_TRACE_MOST:],
    )
