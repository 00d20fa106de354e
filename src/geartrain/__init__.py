"""geartrain runs daemons that talk through typed channels, under supervision, in real or in exact virtual time.

Every public name is here, and is imported when it is first used: `import geartrain` itself loads nothing.
"""

TYPE_CHECKING = False  # as typing's, which would cost a cold start more than all the rest of this file

if TYPE_CHECKING:
    from geartrain.actors.arbiter import LeaseArbiter as LeaseArbiter
    from geartrain.actors.clock import ReactorClock as ReactorClock
    from geartrain.actors.observer import ExecutorObserver as ExecutorObserver
    from geartrain.engine.calls import Call as Call
    from geartrain.engine.calls import CallChannel as CallChannel
    from geartrain.engine.calls import Caller as Caller
    from geartrain.engine.calls import Calls as Calls
    from geartrain.engine.calls import open_calls as open_calls
    from geartrain.engine.channel import open_channel as open_channel
    from geartrain.engine.context import Context as Context
    from geartrain.engine.daemon import Daemon as Daemon
    from geartrain.engine.daemon import daemon as daemon
    from geartrain.engine.deadlines import ClockChannel as ClockChannel
    from geartrain.engine.deadlines import ClockClient as ClockClient
    from geartrain.engine.deadlines import Deadlines as Deadlines
    from geartrain.engine.deadlines import Planes as Planes
    from geartrain.engine.deadlines import open_deadlines as open_deadlines
    from geartrain.engine.deadlines import open_planes as open_planes
    from geartrain.engine.ends import Channel as Channel
    from geartrain.engine.ends import ChannelStats as ChannelStats
    from geartrain.engine.ends import ReceiveStream as ReceiveStream
    from geartrain.engine.ends import SendStream as SendStream
    from geartrain.engine.hosted import DaemonHealth as DaemonHealth
    from geartrain.engine.leases import Lease as Lease
    from geartrain.engine.leases import LeaseChannel as LeaseChannel
    from geartrain.engine.leases import LeaseClient as LeaseClient
    from geartrain.engine.leases import Leases as Leases
    from geartrain.engine.leases import Taken as Taken
    from geartrain.engine.leases import Watching as Watching
    from geartrain.engine.leases import open_leases as open_leases
    from geartrain.engine.pipeline import Pipeline as Pipeline
    from geartrain.engine.pipeline import run as run
    from geartrain.engine.planes import PlaneBoard as PlaneBoard
    from geartrain.engine.remote import open_pair as open_pair
    from geartrain.engine.remote import open_receive as open_receive
    from geartrain.engine.remote import open_send as open_send
    from geartrain.engine.scheduler import DeadlineScheduler as DeadlineScheduler
    from geartrain.engine.services import ServiceRun as ServiceRun
    from geartrain.engine.sim_time import SimTime as SimTime
    from geartrain.engine.sim_time import Simulated as Simulated
    from geartrain.engine.simulate import simulate as simulate
    from geartrain.engine.supervisor import Supervisor as Supervisor
    from geartrain.errors import CallFailed as CallFailed
    from geartrain.errors import CallTimeout as CallTimeout
    from geartrain.errors import ChannelClosed as ChannelClosed
    from geartrain.errors import ChannelInUse as ChannelInUse
    from geartrain.errors import DaemonError as DaemonError
    from geartrain.errors import Deadlock as Deadlock
    from geartrain.errors import EndOfStream as EndOfStream
    from geartrain.errors import EtcdAway as EtcdAway
    from geartrain.errors import Fault as Fault
    from geartrain.errors import Fenced as Fenced
    from geartrain.errors import GateInvalid as GateInvalid
    from geartrain.errors import GeartrainError as GeartrainError
    from geartrain.errors import JournalDamaged as JournalDamaged
    from geartrain.errors import JournalInUse as JournalInUse
    from geartrain.errors import JournalStopped as JournalStopped
    from geartrain.errors import LeaseLost as LeaseLost
    from geartrain.errors import LeaseRefused as LeaseRefused
    from geartrain.errors import Livelock as Livelock
    from geartrain.errors import NotHeld as NotHeld
    from geartrain.errors import PeerLost as PeerLost
    from geartrain.errors import PeerRefused as PeerRefused
    from geartrain.errors import PipelineFailed as PipelineFailed
    from geartrain.errors import PipelineFaulty as PipelineFaulty
    from geartrain.errors import ServerGone as ServerGone
    from geartrain.errors import UnknownDaemon as UnknownDaemon
    from geartrain.errors import WireError as WireError
    from geartrain.errors import WouldBlock as WouldBlock
    from geartrain.faces.testing import PipelineRunner as PipelineRunner
    from geartrain.faces.testing import RunResult as RunResult
    from geartrain.ports.clock import Clock as Clock
    from geartrain.ports.clock import SimClock as SimClock
    from geartrain.ports.clock import WallClock as WallClock
    from geartrain.ports.clock import mono_ns as mono_ns
    from geartrain.ports.observer import Observer as Observer
    from geartrain.ports.places import private_dir as private_dir
    from geartrain.ports.planes import PlaneClock as PlaneClock
    from geartrain.recipes.service_claims import ActiveRunner as ActiveRunner
    from geartrain.recipes.service_claims import AtomicServiceRun as AtomicServiceRun
    from geartrain.recipes.service_claims import ServiceClaim as ServiceClaim
    from geartrain.recipes.service_claims import decide_service_claim as decide_service_claim
    from geartrain.rules.appointments import Appointment as Appointment
    from geartrain.rules.appointments import DeadlineStats as DeadlineStats
    from geartrain.rules.appointments import Fired as Fired
    from geartrain.rules.appointments import PlaneChange as PlaneChange
    from geartrain.rules.calls import CallStats as CallStats
    from geartrain.rules.deadlines import Deadline as Deadline
    from geartrain.rules.deadlines import PeriodicDeadline as PeriodicDeadline
    from geartrain.rules.fence import FenceGate as FenceGate
    from geartrain.rules.grid import Cycle as Cycle
    from geartrain.rules.histogram import LatencyHistogram as LatencyHistogram
    from geartrain.rules.keys import Curve as Curve
    from geartrain.rules.keys import Keys as Keys
    from geartrain.rules.lifecycle import DaemonFailurePhase as DaemonFailurePhase
    from geartrain.rules.lifecycle import DaemonState as DaemonState
    from geartrain.rules.lifecycle import OnError as OnError
    from geartrain.rules.pipeline import Mark as Mark
    from geartrain.rules.pipeline import Policy as Policy
    from geartrain.rules.restart import RestartPolicy as RestartPolicy

__version__ = "0.1.0"

_ROOMS = {
    "geartrain.actors.arbiter": ("LeaseArbiter",),
    "geartrain.actors.clock": ("ReactorClock",),
    "geartrain.actors.observer": ("ExecutorObserver",),
    "geartrain.engine.calls": ("Call", "CallChannel", "Caller", "Calls", "open_calls"),
    "geartrain.engine.channel": ("open_channel",),
    "geartrain.engine.deadlines": (
        "ClockChannel",
        "ClockClient",
        "Deadlines",
        "Planes",
        "open_deadlines",
        "open_planes",
    ),
    "geartrain.engine.ends": ("Channel", "ChannelStats", "ReceiveStream", "SendStream"),
    "geartrain.engine.context": ("Context",),
    "geartrain.engine.daemon": ("Daemon", "daemon"),
    "geartrain.engine.leases": ("Lease", "LeaseChannel", "LeaseClient", "Leases", "Taken", "Watching", "open_leases"),
    "geartrain.engine.pipeline": ("Pipeline", "run"),
    "geartrain.engine.planes": ("PlaneBoard",),
    "geartrain.engine.remote": ("open_pair", "open_receive", "open_send"),
    "geartrain.engine.scheduler": ("DeadlineScheduler",),
    "geartrain.engine.services": ("ServiceRun",),
    "geartrain.engine.sim_time": ("SimTime", "Simulated"),
    "geartrain.engine.simulate": ("simulate",),
    "geartrain.engine.hosted": ("DaemonHealth",),
    "geartrain.engine.supervisor": ("Supervisor",),
    "geartrain.errors": (
        "CallFailed",
        "CallTimeout",
        "ChannelClosed",
        "ChannelInUse",
        "DaemonError",
        "Deadlock",
        "Livelock",
        "EndOfStream",
        "EtcdAway",
        "Fault",
        "Fenced",
        "GateInvalid",
        "GeartrainError",
        "JournalDamaged",
        "JournalInUse",
        "JournalStopped",
        "NotHeld",
        "LeaseLost",
        "LeaseRefused",
        "PeerLost",
        "PeerRefused",
        "PipelineFailed",
        "PipelineFaulty",
        "ServerGone",
        "UnknownDaemon",
        "WireError",
        "WouldBlock",
    ),
    "geartrain.faces.testing": ("PipelineRunner", "RunResult"),
    "geartrain.ports.clock": ("Clock", "SimClock", "WallClock", "mono_ns"),
    "geartrain.ports.observer": ("Observer",),
    "geartrain.ports.places": ("private_dir",),
    "geartrain.ports.planes": ("PlaneClock",),
    "geartrain.recipes.service_claims": (
        "ActiveRunner",
        "AtomicServiceRun",
        "ServiceClaim",
        "decide_service_claim",
    ),
    "geartrain.rules.appointments": ("Appointment", "DeadlineStats", "Fired", "PlaneChange"),
    "geartrain.rules.calls": ("CallStats",),
    "geartrain.rules.deadlines": ("Deadline", "PeriodicDeadline"),
    "geartrain.rules.fence": ("FenceGate",),
    "geartrain.rules.grid": ("Cycle",),
    "geartrain.rules.histogram": ("LatencyHistogram",),
    "geartrain.rules.keys": ("Curve", "Keys"),
    "geartrain.rules.lifecycle": ("DaemonFailurePhase", "DaemonState", "OnError"),
    "geartrain.rules.pipeline": ("Mark", "Policy"),
    "geartrain.rules.restart": ("RestartPolicy",),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = sorted(_ROOM_OF)


def __getattr__(name: str) -> object:
    if name not in _ROOM_OF:
        raise AttributeError(f"module 'geartrain' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_ROOM_OF[name]), name)
    return value


def __dir__() -> list[str]:
    return __all__
