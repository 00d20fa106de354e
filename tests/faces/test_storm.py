"""What the consumer of a storm has seen, told event by event."""

from pathlib import Path

import msgspec

from geartrain import Channel, Supervisor, mono_ns, open_channel
from geartrain.faces.storm import StormFold
from geartrain.rules.storm import StormEvent, StormFacts, StormPlan

S = 1_000_000_000


async def test_a_storm_takes_its_time_from_the_moment_its_first_event_was_due(
    anyio_backend: str, tmp_path: Path
) -> None:
    channel: Channel[StormEvent] = open_channel(4)
    now_ns = mono_ns()
    for number, due_ns in enumerate((now_ns - 20 * S, now_ns - 10 * S)):
        await channel.send.send(StormEvent(number, 1, 1, due_ns, now_ns))
    await channel.send.aclose()
    report = tmp_path / "facts.json"
    async with Supervisor() as sup:
        sup.add(StormFold(channel.recv, StormPlan(events=2, deadlines=0), str(report)))
    facts = msgspec.json.decode(report.read_bytes(), type=StormFacts)
    assert facts.events == 2
    assert 20 <= facts.took_s < 30
