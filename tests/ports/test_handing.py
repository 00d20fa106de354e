"""A process that has waited is handed what it is to be, however large, its output, and an open file."""

import json
import os
import socket
import subprocess
import sys

import pytest

from geartrain.ports.handing import hand, take

WAITS = """
import os, socket, sys
from geartrain.ports.handing import take
bootstrap, slots = take(socket.socket(fileno=int(sys.argv[1])))
print(len(bootstrap), flush=True)
print("and words", file=sys.stderr, flush=True)
os.write(slots, b"a file")
"""


@pytest.mark.parametrize("size", [0, 10, 5_000_000])
def test_what_is_handed_over_arrives_whole_and_the_output_goes_where_it_is_said(size: int) -> None:
    here, there = socket.socketpair()
    out, out_end = os.pipe()
    err, err_end = os.pipe()
    with here, there, open(os.memfd_create("slots"), "r+b") as slots:
        waiting = subprocess.Popen([sys.executable, "-c", WAITS, str(there.fileno())], pass_fds=[there.fileno()])
        hand(here, b"x" * size, out_end, err_end, slots.fileno())
        os.close(out_end)
        os.close(err_end)
        assert waiting.wait(30) == 0
        slots.seek(0)
        assert slots.read() == b"a file"
    with open(out) as said, open(err) as words:
        assert json.loads(said.read()) == size
        assert words.read() == "and words\n"


def test_who_is_not_wanted_any_more_is_told_so() -> None:
    here, there = socket.socketpair()
    with there:
        here.close()
        assert take(there) is None
