"""What a run tells when everybody of it was killed at once: nobody is left, and nothing but its files is needed."""

import os
import signal
from collections.abc import Callable

import anyio
import msgspec
import pytest

from geartrain.faces.command_line import main
from geartrain.faces.post_mortem import found
from geartrain.rules.post_mortem import Ending, Holding, Owing, RunState
from geartrain.rules.run_memory import RunReading
from tests.walks.standing import Loop, kill_all, running, until_it_stands

PATIENCE_S = 30


def anybody_lives(now: RunReading) -> bool:
    return now.alive or any(poll.process.alive for poll in now.processes)


async def test_after_a_kill_of_everybody_the_item_in_hand_and_what_is_unacknowledged_are_told(
    anyio_backend: Loop, capsys: pytest.CaptureFixture[str], nothing_left: Callable[[], list[int]]
) -> None:
    with running(anyio_backend) as process:
        with anyio.fail_after(PATIENCE_S):
            memory = await until_it_stands()
        owed = {end.channel: end.unacknowledged for _, end in memory.look().ends() if end.sends}
        hand = {end.channel: end.in_hand for _, end in memory.look().ends() if not end.sends}
        kill_all(process.pid)
    with anyio.fail_after(PATIENCE_S):
        # A process with threads is gone a moment after it cannot be asked any more.
        while nothing_left() or anybody_lives(memory.look()):
            await anyio.sleep(0.01)
    memory.close()

    told = found(memory.state)
    assert (told.state, told.first, told.unreadable) == (RunState.KILLED, None, ())
    assert {process.last.ending for process in told.processes} == {Ending.UNSEEN}
    daemons = {daemon.daemon: daemon for process in told.processes for daemon in process.last.daemons}
    assert {daemon.where for daemon in daemons.values()} == {"in run"}
    assert daemons["holds"].holds == (Holding("objects", 21, 21),)
    assert daemons["middle"].holds == (Holding("frames", hand["frames"], hand["frames"]),)
    assert daemons["middle"].owes == (Owing("objects", owed["objects"]),)
    assert daemons["source"].owes == (Owing("frames", owed["frames"]),)
    assert [(wait.channel, wait.other) for wait in daemons["source"].waits] == [("frames", "middle")]
    assert [(wait.channel, wait.other) for wait in daemons["middle"].waits] == [("objects", "holds")]
    assert daemons["holds"].waits == ()

    # Nobody names a run: it is the last one.
    assert main(["post-mortem"]) == 0
    said = capsys.readouterr().out
    assert f"{memory.state.name} was killed" in said
    assert "item 21 of objects" in said
    assert f"{owed['frames']} of frames" in said
    assert "nobody saw it end: last sign of life at" in said


async def test_a_run_that_lives_is_told_of_and_not_disturbed(
    anyio_backend: Loop, capsys: pytest.CaptureFixture[str], nothing_left: Callable[[], list[int]]
) -> None:
    with running(anyio_backend):
        with anyio.fail_after(PATIENCE_S):
            memory = await until_it_stands()
        # Somebody in the middle of it is stopped, and is read all the same.
        (pid,) = (poll.process.pid for poll in memory.look().processes if poll.process.process == "middle")
        memory.close()
        os.kill(pid, signal.SIGSTOP)
        assert main(["post-mortem", "holding", "--format", "json"]) == 0
        told = msgspec.json.decode(capsys.readouterr().out)
        assert told["state"] == "alive"
        assert {process["process"] for process in told["processes"]} == {"source", "middle", "holds"}
        (holds,) = (process["last"] for process in told["processes"] if process["process"] == "holds")
        assert (holds["ending"], holds["daemons"][0]["holds"]) == (
            "alive",
            [{"channel": "objects", "item": 21, "may_have": 21}],
        )
    with anyio.fail_after(PATIENCE_S):
        # Who was just being started when the others were killed ends by itself, a moment later.
        while nothing_left():
            await anyio.sleep(0.01)
