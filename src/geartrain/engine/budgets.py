"""A daemon that is held to its budget, and to that of its executor.

a body ends      judge(took)    ->  rules.budgets  ->  the hooks, the log
a tick is due    holds_back()   ->  rules.budgets  ->  enter the body, or let the tick pass
"""

from geartrain.engine.reporter import Reporter
from geartrain.engine.signal import Signal
from geartrain.ports.clock import Clock
from geartrain.rules.budgets import Budgets


class BodyGuard:
    """Keeps a daemon to its budget, and to that of its executor."""

    def __init__(self, daemon: str, budgets: Budgets, reporter: Reporter, clock: Clock, stop: Signal) -> None:
        self._daemon = daemon
        self._budgets = budgets
        self._reporter = reporter
        self._clock = clock
        self._stop = stop

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def holds_back(self) -> bool:
        self._reporter.budgets(self._budgets.tick(self._daemon))
        return self._budgets.hold_of(self._daemon) is not None

    def judge(self, took_ns: int) -> None:
        self._reporter.budgets(self._budgets.took(self._daemon, took_ns, self._clock.now_ns()))
