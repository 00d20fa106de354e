"""What an import costs a process that has imported nothing yet: prints the milliseconds of the last statement given.

    python cold_import.py "import anyio" "from geartrain import Supervisor"

For that reason this file imports only what every interpreter has already loaded.
"""

import sys
import time

# What geartrain needs only in some programs, and must not load in the others.
NOT_YET = ("trio", "zmq", "click")


def took_ms(statement: str) -> float:
    started = time.perf_counter()
    exec(statement, {})
    return (time.perf_counter() - started) * 1e3


def main(statements: list[str]) -> None:
    readings_ms = [took_ms(statement) for statement in statements]
    if "geartrain" in sys.modules and (too_much := [name for name in NOT_YET if name in sys.modules]):
        sys.exit(f"{statements[-1]!r} has loaded {', '.join(too_much)}, which it must leave to those who use it")
    print(readings_ms[-1])


if __name__ == "__main__":
    main(sys.argv[1:])
