"""What a process is told when it starts, and where its things lie: its order, its addresses, its files.

    the pipeline, the run's folder, who has gone so far  --->  NodeOrder   for a process that starts, or starts again
                                                               SpareOrder  for one that waits to be told more

A process that is started again is told which daemons have finished meanwhile, and who at the other ends is gone.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from geartrain.ports.lifeline import Lifeline
from geartrain.ports.log_capture import LogFile
from geartrain.ports.run_directory import RunDirectory, counter_path, plane_path, state_dir
from geartrain.ports.tcp_places import TcpPlaces
from geartrain.ports.transport import locate
from geartrain.rules import wiring
from geartrain.rules.keys import Curve
from geartrain.rules.orders import DaemonOrder, EndOrder, Giver, Gone, NodeOrder, PlaneOrder, SpareOrder
from geartrain.rules.pipeline import ChannelSpec, DaemonSpec, PipelineSpec, ProcessSpec
from geartrain.rules.signature import Signature


class Briefing:
    """All that a run knows of its processes before they live."""

    def __init__(
        self,
        spec: PipelineSpec,
        signatures: Mapping[str, Signature],
        run: RunDirectory,
        folder: Path | None,
    ) -> None:
        self.spec = spec
        self.carried = wiring.carried(spec, signatures)
        self.lifeline = Lifeline()
        # What the processes log from here on; None leaves it to them.
        self.log_level: str | None = None
        # A daemon that has returned has nothing new to say, but may have to be started again to say it once more.
        self.returned: set[str] = set()
        # A daemon that has finished is finished: it is not started again when its process dies later.
        self.finished: set[str] = set()
        # A daemon that has failed or whose process has died for good, which is ignored.
        self.given_up: set[str] = set()
        self._run = run
        self._folder = folder
        self.state = state_dir(run.run_id)
        self._windows = wiring.longest_windows(self.carried)
        self._places = {daemon.name: daemon.process for daemon in spec.daemons}
        self._in_custody = wiring.in_custody(self.carried)
        self._judges = {name for name, signature in signatures.items() if signature.boards}
        self._givers = wiring.type_givers(spec, signatures)
        self._tcp = TcpPlaces()
        self._transports: dict[str, str] = {}
        self._lives: dict[str, int] = {}

    def close(self) -> None:
        """Whoever still holds the lifeline ends by this."""
        self.lifeline.cut()
        self._tcp.close()

    # -- its daemons -------------------------------------------------------------------------------------------------

    def process_of(self, daemon: str) -> str:
        return self._places[daemon]

    def daemons_of(self, process: str) -> dict[str, DaemonSpec]:
        return {daemon.name: daemon for daemon in self.spec.daemons if daemon.process == process}

    def left_of(self, process: str) -> dict[str, DaemonSpec]:
        """Those of a process that have still something to do."""
        daemons = self.daemons_of(process)
        return {name: daemon for name, daemon in daemons.items() if name not in self.finished | self.given_up}

    def settings_of(self, process: str) -> ProcessSpec:
        found = (settings for settings in self.spec.processes if settings.name == process)
        return next(found, ProcessSpec(name=process))

    def command_of(self, process: str) -> tuple[str, ...]:
        return next(daemon.command for daemon in self.spec.daemons if daemon.process == process)

    def is_command(self, process: str) -> bool:
        return any(daemon.command for daemon in self.daemons_of(process).values())

    def is_plain(self, process: str) -> bool:
        """Whether it starts as any other: with this environment and folder, on the pipeline's loop."""
        settings = self.settings_of(process)
        own_loop = settings.backend not in (None, self.spec.backend)
        return not (own_loop or settings.env or settings.cwd or settings.nice)

    def lives(self, process: str) -> int:
        """How often it has been started."""
        return self._lives.get(process, 0)

    # -- its files ---------------------------------------------------------------------------------------------------

    def log_file(self, name: str) -> LogFile:
        return LogFile(self.state / f"{name}.log")

    def stacks_path(self, process: str) -> Path:
        return self._run.folder / f"{process}.stacks"

    def counter_path(self, channel: str) -> Path:
        """Where the writer of a channel counts what it has accepted."""
        return counter_path(self._run.folder, channel)

    def plane_path(self, channel: str) -> Path:
        """Where the reader of a channel that may go stale tells that something has come."""
        return plane_path(self._run.folder, channel)

    # -- its order ---------------------------------------------------------------------------------------------------

    def spare_order(self, control: int) -> SpareOrder:
        return SpareOrder(
            launcher=os.getpid(),
            control=control,
            lifeline=self.lifeline.fd,
            backend=self.spec.backend,
            path=tuple(sys.path),
            folder=None if self._folder is None else str(self._folder),
            transports=tuple(self._transports.values()),
            runs=tuple(
                daemon.run
                for daemon in self.spec.daemons
                if daemon.run and daemon.on_error == "restart" and self.is_plain(daemon.process)
            ),
        )

    def begins_again(self, process: str) -> int:
        """It is started now; the answer is for which time."""
        self._lives[process] = self.lives(process) + 1
        return self._lives[process]

    def orders_of(self, process: str) -> tuple[DaemonOrder, ...]:
        return tuple(self._order_of(daemon) for daemon in self.left_of(process).values() if daemon.run is not None)

    def order_for(self, process: str, control: int, daemons: tuple[DaemonOrder, ...], slots: int) -> NodeOrder:
        return NodeOrder(
            process=process,
            backend=self.settings_of(process).backend or self.spec.backend,
            launcher=os.getpid(),
            control=control,
            lifeline=self.lifeline.fd,
            path=tuple(sys.path),
            folder=None if self._folder is None else str(self._folder),
            aside=str(self.state),
            stacks=str(self.stacks_path(process)),
            log_level=self.log_level,
            slots=slots,
            budget_ns=self.settings_of(process).budget_ns,
            daemons=daemons,
        )

    def _order_of(self, daemon: DaemonSpec) -> DaemonOrder:
        assert daemon.run is not None
        ends = [
            self._end_of(channel, port, sends=sends, retain=2 * self._windows[channel.name].items + 2)
            for channel in self.carried.channels
            for port, sends in ((channel.writer, True), (channel.reader, False))
            if port is not None and port.daemon == daemon.name
        ]
        return DaemonOrder(
            name=daemon.name,
            run=daemon.run,
            on_error=daemon.on_error,
            restart=daemon.restart_in_use,
            budget_ns=daemon.budget_ns,
            config=dict(daemon.config),
            ends=tuple(ends),
            planes=tuple(filter(None, map(self._plane_of, self.spec.channels))) if daemon.name in self._judges else (),
        )

    def _plane_of(self, channel: ChannelSpec) -> PlaneOrder | None:
        budget_ns = channel.budget_ns
        path = str(self.plane_path(channel.name))
        return None if budget_ns is None else PlaneOrder(channel.name, path, budget_ns)

    def _end_of(self, channel: ChannelSpec, port: object, *, sends: bool, retain: int) -> EndOrder:
        assert channel.writer is not None
        assert channel.reader is not None
        stays = self.process_of(channel.writer.daemon) == self.process_of(channel.reader.daemon)
        address, curve = self.place_of(channel, stays=stays, sends=sends)
        return EndOrder(
            port=(channel.writer if sends else channel.reader).port,
            sends=sends,
            channel=channel.name,
            address=address,
            transport="" if stays else self._transport_of(address),
            curve=curve,
            binds=not sends,
            maxsize=channel.maxsize,
            max_bytes=channel.max_bytes,
            policy=channel.policy,
            ack=channel.ack,
            keep=channel.keep,
            retain=channel.retain or max(retain, channel.maxsize, 1),
            max_deliveries=channel.max_deliveries,
            takes_part=not stays or channel.name in self._in_custody,
            giver=self._giver_of(channel.name, (channel.writer if sends else channel.reader).daemon),
            counter=str(self.counter_path(channel.name)) if sends else None,
            over=self._how_gone(channel.writer.daemon, channel.reader.daemon, sends=sends),
            plane=None if sends else self._plane_of(channel),
            fenced=channel.fenced,
        )

    def _giver_of(self, channel: str, daemon: str) -> Giver | None:
        giver = self._givers.get(channel)
        runs = {other.name: other.run for other in self.spec.daemons}
        run = None if giver is None or giver.daemon == daemon else runs[giver.daemon]
        return None if giver is None or run is None else Giver(run, giver.port)

    def _transport_of(self, address: str) -> str:
        """Where the transport is that its processes need. It is looked for once, and here."""
        scheme = address.partition("://")[0]
        if scheme not in self._transports:
            self._transports[scheme] = locate(address)
        return self._transports[scheme]

    def place_of(self, channel: ChannelSpec, *, stays: bool, sends: bool) -> tuple[str, Curve | None]:
        """Where its two ends meet, and the keys of this one where they are needed."""
        if stays:
            return f"inner://{channel.name}", None
        if channel.transport == "tcp":
            place = self._tcp.place(channel.name)
            return place.address, place.writer if sends else place.reader
        return f"ipc://{self._run.socket_path(channel.name)}", None

    def _how_gone(self, writer: str, reader: str, *, sends: bool) -> Gone | None:
        """Whether the daemon at the other end of a new end is gone for good, and how."""
        here, there = (writer, reader) if sends else (reader, writer)
        if there in self.given_up:
            return "ignored"
        if there not in self.finished:
            return None
        # A writer that has returned before only says again what its reader has had, or never wanted.
        return "ignored" if sends and here in self.returned else "finished"
