"""`geartrain top` on a run that hangs, and on one that is dead: nobody of it is needed."""

import os
import signal
from collections.abc import Callable

import anyio
import msgspec
import pytest

from geartrain.faces.command_line import main
from geartrain.faces.top import Shown, Watch
from tests.walks.standing import Loop, kill_all, running, until_it_stands

PATIENCE_S = 30


def conditions(shown: Shown) -> set[str]:
    return {str(row.condition) for row in shown.rows.daemons}


async def test_a_run_in_which_everybody_waits_or_is_stopped_is_shown_and_so_is_what_is_left_of_it(
    anyio_backend: Loop, capsys: pytest.CaptureFixture[str], nothing_left: Callable[[], list[int]]
) -> None:
    with running(anyio_backend) as process:
        with anyio.fail_after(PATIENCE_S):
            memory = await until_it_stands()
            (pid,) = (poll.process.pid for poll in memory.look().processes if poll.process.process == "holds")
            watch = Watch(memory.state)
            channels = {row.channel: row for row in watch.look().rows.channels}
            assert (channels["frames"].waits, channels["objects"].waits) == ("source", "middle")
            assert {(row.fill, row.is_blocked) for row in channels.values()} == {(8, True)}
            os.kill(pid, signal.SIGSTOP)
            while {row.daemon: str(row.condition) for row in watch.look().rows.daemons}["holds"] != "stale":
                await anyio.sleep(0.01)
            # Its waits go with what its writers say, not with what it could say itself.
            assert {row.waits for row in watch.look().rows.channels} == {"source", "middle"}
            kill_all(process.pid)
            # A process with threads is gone a moment after it cannot be asked any more.
            while nothing_left() or (shown := watch.look()).is_alive or conditions(shown) != {"dead"}:
                await anyio.sleep(0.01)
        memory.close()
        watch.close()
    assert {row.waits for row in shown.rows.channels} == {None}

    assert main(["top", "--once", "--format", "json"]) == 0
    rows = [msgspec.json.decode(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["daemon"] for row in rows] == ["source", "middle", "holds"]
