"""Real channel ends over a pretend link that is as bad as its seed: nothing lost, repeated or out of order."""

import random
import sys

import anyio
import anyio.lowlevel
import pytest

from geartrain import open_receive, open_send
from geartrain.engine.options import Said
from geartrain.engine.remote import RemoteReceive, RemoteSend
from geartrain.ports import transport as ports
from geartrain.rules.pipeline import Ack
from tests.transports.pretend import Faults, PretendTransport

PATIENCE_S = 30

# A link of ours delivers in order, or is cut and loses a suffix, or takes nothing for a while.
AS_REAL = Faults(cut=0.02, refuse=0.005, late=0.3)

# The session promises more than links need: it survives the loss, or the repetition, of any single frame.
WORSE = Faults(cut=0.01, refuse=0.005, drop=0.03, repeat=0.05, late=0.3)


def install(monkeypatch: pytest.MonkeyPatch, world: PretendTransport) -> None:
    """Make `pretend://` addresses lead into this world."""
    monkeypatch.setattr(ports, "installed", lambda: [("pretend", f"{__name__}:world")])
    monkeypatch.setattr(sys.modules[__name__], "world", world, raising=False)


async def assert_all_arrives(name: str, order: random.Random, *, total: int) -> None:
    """One life of both ends: who binds, how large the window is and how often the owners pause, the seed decides."""
    maxsize = order.choice([0, 1, 2, 5, 64])
    writer_binds = order.random() < 0.5
    ack: Ack = order.choice(["batch", "each"])
    got: list[int] = []
    repeated = 0

    async def pause() -> None:
        for _ in range(order.choice([0, 0, 0, 1, 5])):
            await anyio.lowlevel.checkpoint()

    async def read(end: RemoteReceive[int]) -> None:
        nonlocal repeated
        async for number in end:
            got.append(number)
            repeated += end.mark.redelivered
            await pause()

    async def write(end: RemoteSend[int]) -> None:
        for number in range(total):
            await end.send(number)
            await pause()

    address = f"pretend://{name}"
    agreed: Said = {"maxsize": maxsize, "ack": ack, "heartbeat_s": 0.01, "lost_after_s": None}
    # The goodbye of a reader is said once; when a link that loses single frames loses it, there is nothing to wait for.
    async with open_receive(address, int, bind=not writer_binds, **agreed | {"close_within": 0.1}) as reader:
        async with open_send(address, int, bind=writer_binds, **agreed | {"close_within": PATIENCE_S}) as writer:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read, reader)
                await write(writer)
                await writer.aclose()
    assert got == list(range(total))
    assert repeated == 0


async def assert_many_arrive(
    monkeypatch: pytest.MonkeyPatch, faults: Faults, *, seed: int, channels: int, total: int
) -> None:
    """Many channels at a time, so that while one waits for a heartbeat others go on."""
    install(monkeypatch, PretendTransport(seed, faults))
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            for number in range(channels):

                async def carry(number: int = number) -> None:
                    await assert_all_arrives(f"seed_{seed}_{number}", random.Random(f"{seed} {number}"), total=total)

                tasks.start_soon(carry)


@pytest.mark.parametrize("seed", range(3))
async def test_cuts_delays_and_refusals_lose_repeat_and_reorder_nothing(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    await assert_many_arrive(monkeypatch, AS_REAL, seed=seed, channels=10, total=100)


@pytest.mark.parametrize("seed", range(3))
async def test_single_frames_that_vanish_or_come_twice_do_no_harm_either(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    await assert_many_arrive(monkeypatch, WORSE, seed=seed, channels=10, total=100)


@pytest.mark.soak
@pytest.mark.parametrize("faults", [AS_REAL, WORSE], ids=["as real", "worse"])
@pytest.mark.parametrize("seed", range(100, 150))
async def test_thousands_of_channels_over_bad_links_lose_nothing(
    monkeypatch: pytest.MonkeyPatch, seed: int, faults: Faults
) -> None:
    await assert_many_arrive(monkeypatch, faults, seed=seed, channels=20, total=300)
