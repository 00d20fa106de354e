"""The supervisor of `geartrain run`: runs one pipeline, says what happens to it, and obeys signals.

    python -m geartrain.faces.supervise ORDER          the order is JSON; whoever starts this is the guard

It never imports click: what is to be done has been understood before.
"""

import signal
import sys

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(order: str) -> int:
    # A signal that comes during the imports is kept until there is somebody to hear it.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    from geartrain.faces.running import main as run

    return run(order)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
