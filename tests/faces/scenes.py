"""Pipelines as the page is told of them: small and whole, in trouble, and large. What changes in them is arithmetic."""

import math
import time
from collections.abc import Sequence
from itertools import pairwise

from msgspec.structs import replace

from geartrain.faces.web_live import Edge, Graph, Live, LiveChannel, LiveDaemon, LiveFault, LiveProcess, Node

EVERY_S = 0.25


class Scene:
    """A pipeline and its looks, one after the other. `kill`, `press` and `raise_fault` change it from then on."""

    def __init__(self, graph: Graph, *, cycling: Sequence[str] = (), began: float | None = None) -> None:
        self.graph = graph
        self.cycling = set(cycling)
        self.began = time.time() if began is None else began
        self.look = 0
        self.dead: dict[str, float] = {}
        self.pressed: set[str] = set()
        self.faults: dict[tuple[str, str], LiveFault] = {}
        self.others: dict[str, str] = {}
        self.alive = True

    @property
    def now(self) -> float:
        return self.began + self.look * EVERY_S

    def kill(self, process: str) -> None:
        self.dead[process] = self.now
        self.raise_fault(process, "component", "PROCESS_DEAD", 3, "critical", "the process was killed by signal 9")

    def press(self, channel: str) -> None:
        self.pressed.add(channel)

    def be(self, daemon: str, condition: str) -> None:
        self.others[daemon] = condition

    def raise_fault(self, entity: str, kind: str, code: str, severity: int, label: str, words: str) -> None:
        self.faults[entity, code] = LiveFault(
            entity=entity, kind=kind, fault_code=code, status="CONFIRMED", severity=severity, severity_label=label,
            description=words, first_occurred=self.now, last_occurred=self.now, occurrence_count=1,
        )  # fmt: skip

    def heal(self, entity: str, code: str) -> None:
        self.faults[entity, code] = replace(self.faults[entity, code], status="HEALED")

    def next(self) -> Live:
        self.look += 1
        nodes, edges = self.graph.nodes, self.graph.edges
        processes = sorted({node.process for node in nodes})
        present = [fault for fault in self.faults.values() if fault.status != "HEALED"]
        health = ("ok", "warning", "error", "critical")[max((fault.severity for fault in present), default=0)]
        return Live(
            now=self.now, look=self.look, run=self.graph.run, pipeline=self.graph.pipeline, alive=self.alive,
            health=health, processes=tuple(self._process(name, place) for place, name in enumerate(processes)),
            daemons=tuple(self._daemon(node, place) for place, node in enumerate(nodes)),
            channels=tuple(self._channel(edge, place) for place, edge in enumerate(edges)),
            faults=tuple(self.faults.values()),
        )  # fmt: skip

    def many(self, count: int) -> list[Live]:
        return [self.next() for _ in range(count)]

    def _process(self, name: str, place: int) -> LiveProcess:
        dead = name in self.dead
        return LiveProcess(
            name=name, condition="dead" if dead else "idle", health="critical" if dead else "ok", online=not dead,
            pid=4100 + place, generation=1, born=self.began - 20, ended=self.dead.get(name),
            exit_code=-9 if dead else None,
            heartbeat_age_s=self.now - self.dead[name] if dead else 0.04, deaths=int(dead),
        )  # fmt: skip

    def _daemon(self, node: Node, place: int) -> LiveDaemon:
        dead = node.process in self.dead
        condition = self.others.get(node.id, "running" if (place + self.look) % 7 == 0 else "idle")
        made = LiveDaemon(
            name=node.id, process=node.process, condition="dead" if dead else condition, online=not dead,
            health="critical" if dead else "ok", state="running", phase="run", system=node.system, starts=1,
        )  # fmt: skip
        if node.id not in self.cycling:
            return made
        body_s = 0.0021 * (1 + place) * (1 + 0.3 * self._wave(place))
        period_s = 0.02 * (1 + place)
        return replace(
            made, executions=self.look * 12, rate_hz=0.0 if dead else 1 / period_s + self._wave(place),
            last_s=body_s, ewma_s=body_s * 0.98, min_s=body_s * 0.6, max_s=0.0061 * (1 + place),
            p50_s=0.0021 * (1 + place), p99_s=0.0048 * (1 + place), period_s=period_s, actual_period_s=period_s,
            jitter_s=0.00012, max_jitter_s=0.0011, lateness_s=0.00021 * (1.2 + self._wave(place + 3)),
            max_lateness_s=0.0019, budget_s=period_s,
        )  # fmt: skip

    def _channel(self, edge: Edge, place: int) -> LiveChannel:
        stopped = any(self._process_of(end) in self.dead for end in (edge.source, edge.target))
        pressed = edge.id in self.pressed
        fill = edge.maxsize if pressed else round(edge.maxsize * (0.25 + 0.2 * self._wave(place)))
        rate_hz = 0.0 if stopped else (40.0 if pressed else 96.0) + 4 * self._wave(place)
        return LiveChannel(
            name=edge.id, writer=edge.source, reader=edge.target, policy=edge.policy, maxsize=edge.maxsize,
            fill=fill, accepted=self.look * 24 + fill, taken=self.look * 24, rate_hz=rate_hz, writer_waits=pressed,
            reader_waits=not pressed and not stopped and fill < 2, redelivered=3 if place == 1 else 0,
        )  # fmt: skip

    def _process_of(self, daemon: str) -> str:
        return next(node.process for node in self.graph.nodes if node.id == daemon)

    def _wave(self, place: int) -> float:
        return math.sin(self.look / (19 + 7 * (place % 5))) * 0.8 + math.sin(self.look * (1.3 + place)) * 0.2


def _graph(name: str, nodes: Sequence[Node], edges: Sequence[tuple[str, str, str, str, int]]) -> Graph:
    drawn = (
        Edge(id=channel, source=source, source_port=channel, target=target, target_port=channel, policy=policy,
             maxsize=maxsize)
        for channel, source, target, policy, maxsize in edges
    )  # fmt: skip
    return Graph(pipeline=name, run=f"{name}-7f3a91c2", nodes=tuple(nodes), edges=tuple(drawn))


def _node(name: str, column: int, process: str | None = None, *, system: bool = False) -> Node:
    return Node(id=name, process=process or name, run=f"{name}:run", system=system, column=column)


def vision(*, cycling: Sequence[str] = ()) -> Scene:
    """Four daemons in a row."""
    nodes = [_node("camera", 0), _node("detector", 1), _node("tracker", 2), _node("album", 3)]
    edges = [
        ("frames", "camera", "detector", "block", 8),
        ("objects", "detector", "tracker", "block", 8),
        ("tracks", "tracker", "album", "block", 8),
    ]
    return Scene(_graph("vision", nodes, edges), cycling=cycling)


def rover() -> Scene:
    """Channels that part, meet, skip a column, drop and flow back; daemons that share a process; system daemons."""
    nodes = [
        _node("lidar", 0, "sensors"), _node("camera", 0, "sensors"), _node("odometry", 0),
        _node("detector", 1), _node("mapper", 1), _node("fusion", 2), _node("planner", 3), _node("wheels", 4, "drive"),
        _node("recorder", 4), _node("clock", 0, system=True), _node("observer", 0, system=True),
    ]  # fmt: skip
    edges = [
        ("points", "lidar", "mapper", "latest", 1),
        ("frames", "camera", "detector", "drop_oldest", 8),
        ("objects", "detector", "fusion", "block", 16),
        ("map", "mapper", "fusion", "block", 4),
        ("poses", "odometry", "fusion", "latest", 1),
        ("world", "fusion", "planner", "block", 8),
        ("commands", "planner", "wheels", "block", 4),
        ("raw_frames", "camera", "recorder", "drop_newest", 256),
        ("feedback", "wheels", "fusion", "latest", 1),
    ]
    return Scene(_graph("rover", nodes, edges), cycling=("lidar", "camera", "odometry", "planner", "wheels"))


def forty() -> Scene:
    """Forty daemons: eight sources, four steps, eight lanes that cross now and then."""
    steps = ("source", "parse", "enrich", "score", "store")
    nodes = [_node(f"{step}-{lane}", column) for column, step in enumerate(steps) for lane in range(8)]
    edges = []
    for column, (first, second) in enumerate(pairwise(steps)):
        for lane in range(8):
            edges.append((f"{first}-{second}-{lane}", f"{first}-{lane}", f"{second}-{lane}", "block", 64))
            if lane % 3 == column % 3 and lane < 7:
                edges.append((f"{first}-aside-{lane}", f"{first}-{lane}", f"{second}-{lane + 1}", "drop_oldest", 16))
    return Scene(_graph("forty", nodes, edges), cycling=[f"score-{lane}" for lane in range(8)])
