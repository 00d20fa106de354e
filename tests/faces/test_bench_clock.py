"""`geartrain bench clock` measures a small storm in real processes, and says what held."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import pytest

from geartrain.faces.bench_clock import KNEE_P99_NS, Rate, knee_curve, pipeline_of, rates_in_words
from geartrain.rules.plots import svg
from geartrain.rules.storm import StormPlan

PATIENCE_S = 60

# So wide that no machine misses it: what is fast enough is for `make bench`.
WIDE = ("--reaction-p99", "30s", "--lateness-p99", "30s")


def bench(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    small = ("--events", "200", "--deadlines", "50", "--every", "1ms", "--out", str(folder / "out"))
    return subprocess.run(
        (sys.executable, "-m", "geartrain", "bench", "clock", *small, *arguments),
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip


def test_a_storm_is_told_as_a_table_as_json_and_as_a_picture(
    anyio_backend: Literal["asyncio", "trio"], tmp_path: Path
) -> None:
    done = bench(tmp_path, "--backend", anyio_backend, *WIDE)
    assert done.returncode == 0, done.stderr
    assert "deadline lateness" in done.stdout
    assert "NO" not in done.stdout
    said = json.loads((tmp_path / "out" / "clock.json").read_text())
    assert said["held"] is True
    assert said["facts"]["events"] == said["facts"]["reaction"]["count"] == 200
    assert said["facts"]["digest"] == said["digest"]
    assert said["facts"]["early"] == 0
    assert ElementTree.parse(tmp_path / "out" / "clock.svg").getroot().tag.endswith("svg")


def test_a_storm_goes_on_until_all_has_been_sent_however_long() -> None:
    """A pipeline of system daemons only is stopped within two seconds: nobody is left whom they could serve."""
    daemons = pipeline_of(StormPlan(), "asyncio", Path("facts.json")).spec.daemons
    assert [(daemon.name, daemon.is_system) for daemon in daemons] == [("source", False), ("fold", False)]


def test_a_gate_that_has_not_held_ends_with_1_and_says_what(tmp_path: Path) -> None:
    done = bench(tmp_path, "--reaction-p99", "1us", "--format", "json")
    assert done.returncode == 1
    (said,) = map(json.loads, done.stdout.splitlines())
    assert [verdict["wanted"] for verdict in said["verdicts"] if not verdict["held"]] == ["reaction p99 <= 0.001 ms"]


@pytest.mark.parametrize(("option", "value"), [("--events", "0"), ("--every", "twelve"), ("--burst", "-1")])
def test_what_makes_no_storm_is_refused_before_anything_runs(tmp_path: Path, option: str, value: str) -> None:
    done = bench(tmp_path, option, value)
    assert done.returncode == 2
    assert option in done.stderr
    assert not (tmp_path / "out").exists()


def test_where_nothing_can_be_written_nothing_is_measured(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "within"):
        done = bench(tmp_path, "--out", str(folder))
        assert done.returncode == 2
        assert "--out" in done.stderr
        assert "This takes" not in done.stderr


def test_a_knee_is_a_table_and_a_curve_from_the_first_rate_to_the_one_beyond() -> None:
    rates = [
        Rate(offered=1000, done=1000, reaction_p50_ns=100_000, reaction_p99_ns=500_000),
        Rate(offered=2000, done=1500, reaction_p50_ns=2_000_000, reaction_p99_ns=KNEE_P99_NS + 1),
    ]
    assert rates_in_words(rates).splitlines()[-1].split() == ["2,000", "1,500", "2.000", "10.000"]
    picture = svg(knee_curve(rates))
    assert picture.count("<polyline") == 2
    assert "the knee: p99 of 10 ms" in picture
