"""What the keeper writes down and shows: read again, it is the same."""

import msgspec

from geartrain.rules.service_words import (
    LAST_MOST,
    Begun,
    Joined,
    Kept,
    Line,
    ReplicaShown,
    ServiceShown,
    Who,
    encode_shown,
    in_words,
    kept_after,
    line,
    read_line,
    read_snapshot,
    shown_in,
    snapshot,
)
from geartrain.rules.services import Ended, Outcome, Passed, Run

RUN = Run(7, 1, "report-1", 5, 10)
ALL = (Begun(7), Joined("report-1", 5, Who(12, 34, "boot")), RUN, Ended(RUN, Outcome.FAILED, 12, "no paper"),
       Passed(8, 9, "still_running", 15))  # fmt: skip


def test_each_record_is_read_as_it_was_written() -> None:
    assert [read_line(line("report", what)) for what in ALL] == [Line("report", what) for what in ALL]


def test_what_is_known_is_what_the_records_come_to() -> None:
    kept: Kept | None = None
    for what in ALL:
        kept = kept_after(kept, what)
    assert kept is not None
    assert (kept.state.open_from, kept.state.token, kept.state.runs) == (10, 1, ())
    assert dict(kept.counts) == {"failed": 1, "still_running": 2}
    assert kept.who == {"report-1": ALL[1]}
    assert kept.last == ALL[2:]
    assert read_snapshot(snapshot({"report": kept})) == {"report": kept}


def test_only_the_last_records_are_remembered() -> None:
    kept = kept_after(None, Begun(0))
    for cycle in range(LAST_MOST + 5):
        kept = kept_after(kept, Passed(cycle, cycle, "missed", 0))
    assert len(kept.last) == LAST_MOST
    assert kept.last[-1] == Passed(LAST_MOST + 4, LAST_MOST + 4, "missed", 0)
    assert kept.counts["missed"] == LAST_MOST + 5


def test_what_is_shown_is_read_as_it_was_written() -> None:
    shown = ServiceShown(
        service="report", every_s=5, cycle=9, token=1, counts={"failed": 1}, records=(ALL[2], ALL[3], ALL[4]),
        replicas=(ReplicaShown(replica="report-1", pid=12, why="silent", said="so"),),
    )  # fmt: skip
    assert shown_in(encode_shown((shown,))) == (shown,)
    assert msgspec.json.decode(encode_shown((shown,)))[0]["records"][0]["type"] == "given"


def test_a_record_in_words() -> None:
    assert [
        in_words(record) for record in (RUN, Ended(RUN, Outcome.FAILED, 12, "no paper"), Passed(8, 9, "missed", 1))
    ] == [
        "cycle 7 given to report-1 (token 1)",
        "cycle 7 failed by report-1 (token 1): no paper",
        "cycles 8 to 9 not run: missed",
    ]
    assert in_words(Passed(8, 8, "missed", 1)) == "cycle 8 not run: missed"
