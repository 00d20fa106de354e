"""One daemon from start to stopped: a machine that is told what happened and answers what to do.

    Begin --> Call(on_start) --> Call(run) --> Call(on_stop) --> End
                  |                  |             |
                  |failed            |failed       |failed: cleanup is not tried twice
                  v                  v             v
                policy <------- on_stop first    shutdown, restart: End(raise)   ignore: End
                  |
                  |-- shutdown: End(raise)
                  |-- ignore:   End
                  `-- restart:  Pause(delay) --> Call(on_start) with a fresh daemon
                                or End(raise) with the first cause, when there were too many

What ends the whole program (SystemExit, KeyboardInterrupt) is never absorbed by a policy. A daemon that
is cancelled, or asked to stop, has not failed.
"""

from typing import Literal, assert_never, get_args

from msgspec import Struct

from geartrain.rules.restart import Again, GiveUp, History, RestartPolicy, decide

OnError = Literal["shutdown", "restart", "ignore"]
DaemonState = Literal["starting", "running", "restarting", "stopped", "failed"]
DaemonFailurePhase = Literal["on_start", "run", "on_stop"]

POLICIES: tuple[OnError, ...] = get_args(OnError)


class Began(Struct, frozen=True):
    """The daemon may start, or its pause is over."""


class Returned(Struct, frozen=True):
    """The hook that was called came back."""


class Failed(Struct, frozen=True):
    """The hook raised an error. `roll`, from 0 to 1, is the chance in the delay before a restart."""

    error: BaseException
    roll: float = 0.5


class Exited(Struct, frozen=True):
    """The hook raised SystemExit or KeyboardInterrupt: somebody wants the program to end."""

    error: BaseException


class Cancelled(Struct, frozen=True):
    """The hook was cancelled."""


Event = Began | Returned | Failed | Exited | Cancelled


class Call(Struct, frozen=True):
    """Call this hook; `fresh` asks for a new daemon first, where one can be made."""

    phase: DaemonFailurePhase
    fresh: bool = False


class Pause(Struct, frozen=True):
    delay_s: float


class End(Struct, frozen=True):
    """It is over. `error` is to be raised, as the daemon's failure in `phase`, or as it is when `exits`.

    After a crash loop `error` is its first cause, and `deaths` says how many there were.
    """

    error: BaseException | None = None
    phase: DaemonFailurePhase | None = None
    exits: bool = False
    deaths: int = 0


Order = Call | Pause | End


class Life:
    """The state of one daemon, and the decision at each turn of its life."""

    def __init__(self, policy: OnError, restart: RestartPolicy) -> None:
        self.state: DaemonState = "starting"
        self.restart_count = 0
        self.last_error: BaseException | None = None
        self.last_error_phase: DaemonFailurePhase | None = None
        self._policy = policy
        self._restart = restart
        self._history: History[tuple[BaseException, DaemonFailurePhase]] = History(restart.within)
        self._phase: DaemonFailurePhase | None = None
        self._run_ended_by: Event = Returned()
        self._stopping = False
        self._end: End | None = None

    def ask_stop(self) -> None:
        """From here on nothing is started again."""
        self._stopping = True

    def step(self, event: Event, now_ns: int) -> Order:
        if self._end is not None:
            return self._end
        match self._phase, event:
            case None, Cancelled():
                return self._stopped()
            case None, _:
                return self._begin()
            case "on_start", Returned():
                self.state = "running"
                return self._call("run")
            case "on_start", _:
                return self._conclude(event, now_ns)
            case "run", _:
                self._run_ended_by = event
                self._note(event)
                return self._call("on_stop")
            case "on_stop", Returned() | Cancelled():
                return self._conclude(self._run_ended_by, now_ns)
            case "on_stop", _:
                return self._after_bad_cleanup(event)
            case unreachable:
                assert_never(unreachable)

    def _begin(self) -> Order:
        if self._stopping and self.state == "restarting":
            return self._stopped()
        fresh = self.state == "restarting"
        self.restart_count += fresh
        self.state = "starting"
        self._run_ended_by = Returned()
        return self._call("on_start", fresh=fresh)

    def _call(self, phase: DaemonFailurePhase, *, fresh: bool = False) -> Call:
        self._phase = phase
        return Call(phase, fresh)

    def _note(self, event: Event) -> None:
        if isinstance(event, Failed | Exited):
            self.last_error = event.error
            self.last_error_phase = self._phase

    def _conclude(self, event: Event, now_ns: int) -> Order:
        """Cleanup is behind us, or was not due: what ended the daemon decides."""
        if self._phase == "on_start":
            self._note(event)
        match event:
            case Exited(error):
                return self._failed(error, exits=True)
            case Failed() if self._policy == "restart" and not self._stopping:
                return self._after_death(event, now_ns)
            case Failed(error) if self._policy == "shutdown":
                return self._failed(error)
            case _:
                return self._stopped()

    def _after_death(self, death: Failed, now_ns: int) -> Order:
        assert self.last_error_phase is not None
        deaths = self._history.add(now_ns, (death.error, self.last_error_phase))
        match decide(self._restart, deaths, death.roll):
            case Again(delay_s):
                self.state = "restarting"
                self._phase = None
                return Pause(delay_s)
            case GiveUp():
                first, phase = self._history.first_cause
                self.state = "failed"
                self._end = End(first, phase, deaths=deaths)
                return self._end

    def _after_bad_cleanup(self, event: Event) -> Order:
        """To clean up again could double its effects, so a failure here is final; what came before it is the cause."""
        cause = self._run_ended_by if isinstance(self._run_ended_by, Failed | Exited) else event
        assert isinstance(event, Failed | Exited)
        assert isinstance(cause, Failed | Exited)
        if isinstance(event, Exited):
            self._note(event)
            if cause is not event:
                event.error.add_note(f"and before that run failed: {type(cause.error).__name__}: {cause.error}")
        elif cause is not event:
            cause.error.add_note(f"and then on_stop failed: {type(event.error).__name__}: {event.error}")
        else:
            self._note(event)
        exits = isinstance(event, Exited) or isinstance(cause, Exited)
        if self._policy == "ignore" and not exits:
            return self._stopped()
        return self._failed(event.error if isinstance(event, Exited) else cause.error, exits=exits)

    def _stopped(self) -> End:
        self.state = "stopped"
        self._end = End()
        return self._end

    def _failed(self, error: BaseException, *, exits: bool = False) -> End:
        self.state = "failed"
        self._end = End(error, self.last_error_phase, exits)
        return self._end
