"""Whose turn it is, asked in dates: the answers of the scheduler that programs come from, and what is refused.

`service_claims.json` holds answers that were observed of pynenc 0.3.1, many of them at the very edges of cycles and
slots. A case has what was asked, the runners with their microsecond of birth, and the answer.
"""

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from geartrain import ActiveRunner, ServiceClaim, decide_service_claim
from geartrain.errors import BadType, BadValue

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "service_claims.json").read_text())
BORN = datetime(2026, 1, 1, tzinfo=UTC)


def date(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)


def runner(name: str, born: datetime = BORN) -> ActiveRunner:
    return ActiveRunner(name, born, born)


def asked(
    who: str = "a", runners: str = "ab", now: float | datetime = 1.8e9, interval: float = 5, **more: float
) -> ServiceClaim:
    said = {"spread": 1.0, "stabilization": 0.0, "fraction": 0.5} | more
    return decide_service_claim(
        runner_id=who,
        active_runners=[runner(name) for name in runners],
        current_time=now,
        service_interval_minutes=interval,
        spread_margin_minutes=said["spread"],
        membership_stabilization_seconds=said["stabilization"],
        max_start_slot_fraction=said["fraction"],
    )


@pytest.mark.parametrize("case", CASES, ids=[f"{at}-{case['answer'][0]}" for at, case in enumerate(CASES)])
def test_the_answer_is_the_one_that_was_observed(case: dict[str, Any]) -> None:
    who, now_s, interval, spread, stabilization, fraction = case["ask"]
    answer = decide_service_claim(
        runner_id=who,
        active_runners=[ActiveRunner(name, at, at) for name, born_us in case["runners"] if (at := date(born_us))],
        current_time=now_s,
        service_interval_minutes=interval,
        spread_margin_minutes=spread,
        membership_stabilization_seconds=stabilization,
        max_start_slot_fraction=fraction,
    )
    reason, cycle_us, assigned, position, count, start_us, end_us, is_owner, late, has_message = case["answer"]
    assert answer.reason == reason
    assert (answer.assigned_runner_id, answer.runner_position, answer.stable_runner_count) == (
        assigned,
        position,
        count,
    )
    assert (answer.cycle_start, answer.slot_start, answer.slot_end) == (date(cycle_us), date(start_us), date(end_us))
    assert answer.is_slot_owner_now is is_owner
    assert answer.late_start_fraction == late
    assert bool(answer.skip_message) is has_message
    assert (answer.atomic_service_run is not None) is (reason == "assigned")


def test_the_table_has_every_reason_alone_and_among_others() -> None:
    met = {(case["answer"][0], min(len(case["runners"]), 2)) for case in CASES}
    alone = {(reason, 1) for reason in ("assigned", "not_assigned_slot", "scheduled_runner_in_grace", "late_start")}
    others = {(reason, 2) for reason, _ in alone} | {("slot_window_invalid", 2), ("no_stable_runners", 0)}
    assert met == alone | others


def test_a_run_that_may_start_has_a_name_of_its_own_each_time() -> None:
    first, second = asked().atomic_service_run, asked().atomic_service_run
    assert first is not None
    assert second is not None
    assert first.atomic_service_run_id != second.atomic_service_run_id
    assert first.runner_id == "a"
    assert (first.cycle_start, first.slot_start, first.started_at) == (date(18 * 10**14),) * 3
    assert first.slot_end == date(18 * 10**14 + 90 * 10**6)


def test_the_time_may_be_given_as_a_date_of_any_zone() -> None:
    there = timezone(timedelta(hours=9))
    in_seconds = asked(who="b")
    assert asked(who="b", now=datetime.fromtimestamp(1.8e9, there)) == in_seconds


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"interval": 0}, "service_interval_minutes must be more than 0, got 0"),
        ({"interval": -5}, "service_interval_minutes must be more than 0, got -5"),
        ({"interval": math.inf}, "service_interval_minutes must be finite, got inf"),
        ({"interval": math.nan}, "service_interval_minutes must be a number that is not NaN, got nan"),
        ({"interval": 0, "runners": ""}, "service_interval_minutes must be more than 0, got 0"),
        ({"spread": -0.1}, "spread_margin_minutes must be >= 0, got -0.1: a negative one would let two"),
        ({"spread": math.nan}, "spread_margin_minutes must be a number that is not NaN"),
        ({"stabilization": math.nan}, "membership_stabilization_seconds must be a number that is not NaN"),
        ({"fraction": math.nan}, "max_start_slot_fraction must be a number that is not NaN"),
        ({"now": math.inf}, "current_time must be finite, got inf"),
        ({"now": 1e18}, "current_time is beyond the years a datetime can say"),
        ({"now": datetime(2026, 1, 1)}, "current_time must be an aware datetime"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_by_name(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(BadValue) as refusal:
        asked(**wrong)
    assert str(refusal.value).startswith(said)


def test_a_runner_needs_text_for_its_name_and_aware_dates() -> None:
    with pytest.raises(BadValue, match=r"'a' creation_time must be an aware datetime.*give it a zone"):
        ActiveRunner("a", datetime(2026, 1, 1), BORN)
    with pytest.raises(BadType, match="'a' last_heartbeat must be an aware datetime, got 5"):
        ActiveRunner("a", BORN, 5)  # type: ignore[arg-type]
    with pytest.raises(BadType, match="runner_id must be text, got 7"):
        ActiveRunner(7, BORN, BORN)  # type: ignore[arg-type]
    with pytest.raises(BadType, match="service_interval_minutes must be a number, got '5m'"):
        asked(interval="5m")  # type: ignore[arg-type]
