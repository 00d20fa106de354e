"""The services of a run, as its keeper has written them down last, and as a person reads them.

report   every 5s, cycle 1287, token 41: 40 completed, 1 abandoned
  report-1   running      cycle 1287 (token 41)
  report-2   given        cycle 1287 was given to 'report-1'
  ...
"""

from contextlib import suppress

from geartrain.faces.looks import in_columns
from geartrain.ports.run_directory import state_dir
from geartrain.rules.durations import duration_text
from geartrain.rules.service_words import SHOWN_FILE, ReplicaShown, ServiceShown, in_words, shown_in

# So many of the last records are told to a person; a program gets more.
_TOLD_MOST = 5


def services_of(run_id: str) -> tuple[ServiceShown, ...]:
    """None where a run has no services, or where its keeper has not planned yet."""
    with suppress(OSError, ValueError):
        return shown_in((state_dir(run_id) / SHOWN_FILE).read_bytes())
    return ()


def told_of_service(service: ServiceShown) -> str:
    """A few lines."""
    counted = ", ".join(f"{many} {name}" for name, many in sorted(service.counts.items())) or "nothing has run"
    every = duration_text(service.every_s)
    lines = [f"service {service.service}: every {every}, cycle {service.cycle}, token {service.token}; {counted}\n"]
    head = ("REPLICA", "PID", "WHY", "SAID")
    lines.append(in_columns(head, [_row(replica) for replica in service.replicas]))
    lines += [f"  {in_words(record)}\n" for record in service.records[-_TOLD_MOST:]]
    return "".join(lines)


def _row(replica: ReplicaShown) -> tuple[str, ...]:
    pid = "-" if replica.pid is None else str(replica.pid)
    runs = f"runs cycle {replica.cycle} (token {replica.token})" if replica.cycle is not None else replica.said
    return replica.replica, pid, replica.why or "-", runs or "-"
