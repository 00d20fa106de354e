"""A daemon that starts a program and never looks after it."""

import os
import signal
import subprocess
from pathlib import Path

import anyio

from geartrain import Context, Daemon


class Leaves(Daemon):
    """Its first life ends by SIGKILL, its second one by returning. Each leaves somebody in its process group."""

    def __init__(self, note: str) -> None:
        self.note = Path(note)

    async def run(self, ctx: Context) -> None:
        subprocess.Popen(["sleep", "1000"])  # noqa: ASYNC220
        if not await anyio.Path(self.note).exists():
            await anyio.Path(self.note).touch()
            os.kill(os.getpid(), signal.SIGKILL)
