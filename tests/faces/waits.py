"""A module whose import takes, in a supervisor, until a signal has come."""

import signal
import sys

from tests.faces.parts import Sink as Sink

if "geartrain.faces.running" in sys.modules:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    sys.stderr.write("imports\n")
    sys.stderr.flush()
    while signal.SIGINT not in signal.sigpending():
        pass
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
