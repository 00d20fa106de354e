"""What a person reads of a service."""

from geartrain.faces.services import told_of_service
from geartrain.rules.service_words import ReplicaShown, ServiceShown
from geartrain.rules.services import Passed, Run


def test_a_service_says_who_runs_and_why_the_others_do_not() -> None:
    shown = ServiceShown(
        service="report",
        every_s=5,
        cycle=8,
        token=41,
        counts={"completed": 40},
        records=(Passed(7, 7, "missed", 0), Run(8, 41, "report-1", 5, 0)),
        replicas=(
            ReplicaShown(replica="report-1", pid=12, cycle=8, token=41, why="running"),
            ReplicaShown(replica="report-2", pid=13, why="given", said="cycle 8 was given to 'report-1'"),
        ),
    )
    assert told_of_service(shown).splitlines() == [
        "service report: every 5s, cycle 8, token 41; 40 completed",
        "REPLICA   PID  WHY      SAID",
        "report-1  12   running  runs cycle 8 (token 41)",
        "report-2  13   given    cycle 8 was given to 'report-1'",
        "  cycle 7 not run: missed",
        "  cycle 8 given to report-1 (token 41)",
    ]
