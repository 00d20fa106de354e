"""System daemons: written with what every daemon has, supervised like any other, and added to a pipeline that asks."""

from geartrain.actors.arbiter import LeaseArbiter as LeaseArbiter
from geartrain.actors.clock import ReactorClock as ReactorClock
