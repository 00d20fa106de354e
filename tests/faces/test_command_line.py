"""What the command line promises, with real processes and real signals. `counting.toml` runs on both loops at once."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.faces import surface
from tests.faces.conftest import ROOT, Live, Running, Told

COUNTING = "tests/faces/counting.toml"
FAULTY = "tests/faces/faulty.toml"
FIVE = ("--set", "daemons.source.config.count=5")
READY = ("source | is ready", "sink   | is ready", "got 2")


# -- the surface ----------------------------------------------------------------------------------------------------


def test_the_surface_is_the_one_that_was_agreed() -> None:
    """What is meant to change is written anew by `python -m tests.faces.surface`."""
    assert surface.surface() == surface.SURFACE.read_text()


def test_the_page_shows_the_help_of_every_command() -> None:
    assert surface.page() == surface.PAGE.read_text()


@pytest.mark.parametrize("module", ["geartrain.engine.node", "geartrain.faces.running"])
def test_no_process_of_a_pipeline_and_no_supervisor_imports_what_it_does_not_need(module: str) -> None:
    unneeded = {"click", "rich", "starlette", "anycorn", "importlib.metadata", "secrets"}
    code = f"import {module}, sys; print(sorted({unneeded} & {{*sys.modules}}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert loaded == "[]\n"


@pytest.mark.parametrize("words", [("-h",), ("--help",), ("run", "-h"), ("ps", "--help"), ("--version",)])
def test_help_and_version_are_data(words: tuple[str, ...], told_here: Told) -> None:
    found = told_here(*words)
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.startswith(("Usage: geartrain", "geartrain "))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("rnu", "x.toml"), "there is no command 'rnu'; did you mean 'run'?"),
        (("chan", "sl"), "there is no command 'sl'"),
        (("run",), "Missing argument"),
        (("run", "x.toml", "--for", "10"), "must have units"),
        (("graph", "x.toml"), "x.toml: cannot be read: No such file or directory"),
        (("graph", COUNTING, "--set", "nothing"), "expected key=value"),
        (("check", COUNTING, "--fromat", "json"), "--format"),
        (("check", "no_such_module:pipeline"), "there is no module 'no_such_module'"),
        (("check", "tests.faces.parts:Source"), "expected a Pipeline"),
        (("check", "tests.faces.made:broken"), "tests.faces.made:broken failed: RuntimeError: no pipeline today"),
    ],
)
def test_what_is_not_understood_is_refused_with_2_and_advice(
    words: tuple[str, ...], said: str, told_here: Told
) -> None:
    found = told_here(*words)
    assert (found.returncode, found.stdout) == (2, "")
    assert said in found.stderr
    assert "Traceback" not in found.stderr


# -- pipelines that do not run --------------------------------------------------------------------------------------

FAULTY_KEYS = ["pipeline.backend", "channels.numbers.maxsze", "daemons.source.run", "channels.numbers.to"]


def test_all_faults_of_a_file_are_said_at_once_and_nothing_runs(told_here: Told, told: Told) -> None:
    checked, run = told_here("check", FAULTY), told("run", FAULTY)
    assert (checked.returncode, checked.stderr) == (2, "")
    assert [line.split(": ")[1] for line in checked.stdout.splitlines()] == FAULTY_KEYS
    assert (run.returncode, run.stdout, run.stderr) == (2, "", checked.stdout)


def test_the_faults_of_a_file_are_objects_for_a_program(told_here: Told) -> None:
    found = told_here("check", FAULTY, "--format", "json")
    assert found.returncode == 2
    assert [json.loads(line)["key"] for line in found.stdout.splitlines()] == FAULTY_KEYS


def test_a_good_file_is_called_good(told_here: Told) -> None:
    found = told_here("check", COUNTING)
    assert (found.returncode, found.stdout) == (0, f"{COUNTING}: nothing is wrong\n")
    assert told_here("check", COUNTING, "--format", "json").stdout == ""


@pytest.mark.parametrize(
    ("form", "said"),
    [("ascii", "--numbers (64)-->"), ("mermaid", "flowchart LR"), ("dot", "digraph"), ("svg", "<svg ")],
)
def test_a_pipeline_is_drawn(form: str, said: str, told_here: Told) -> None:
    assert said in told_here("graph", COUNTING, "--format", form).stdout


def test_the_resolved_pipeline_is_a_pipeline_file_again(told_here: Told) -> None:
    words = ("config", COUNTING, "--set", "channels.numbers.maxsize=8")
    toml, as_json = told_here(*words).stdout, told_here(*words, "--format", "json").stdout
    assert tomllib.loads(toml) == json.loads(as_json)
    assert json.loads(as_json)["channels"]["numbers"]["maxsize"] == 8


def test_doctor_says_how_it_is_in_a_table_and_for_a_program(told_here: Told) -> None:
    rows = [json.loads(line) for line in told_here("doctor", "--format", "json").stdout.splitlines()]
    assert {row["what"]: row["verdict"] for row in rows}["dead runs"] == "ok"
    assert told_here("doctor").stdout.startswith("WHAT ")


# -- a run ----------------------------------------------------------------------------------------------------------


def test_a_run_that_ends_well_says_a_line_for_each_change_ends_with_0_and_leaves_its_logs(
    told: Told, told_here: Told
) -> None:
    found = told("run", COUNTING, *FIVE)
    assert found.returncode == 0
    assert found.stdout.splitlines() == [
        "sink   | runs on trio", "sink   | got 0", "sink   | got 1", "sink   | got 2", "sink   | on_stop",
    ]  # fmt: skip
    for name in ("source", "sink  "):
        news = [line.partition(" (")[0] for line in found.stderr.splitlines() if line.startswith(f"{name} | ")]
        assert [line for line in news if "| pid" not in line] == [f"{name} | is ready", f"{name} | has ended"]
    logs = told_here("logs", "sink")
    assert logs.stdout == found.stdout.replace("sink  ", "sink")
    assert logs.stderr.startswith("sink | pid ")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_loop_is_chosen_on_the_command_line(backend: str, told: Told) -> None:
    run = told("run", "tests.faces.made:pipeline", "--backend", backend, *FIVE)
    assert run.returncode == 0
    assert f"runs on {backend}" in run.stdout


def test_what_is_logged_is_shown_from_a_level_on(told: Told) -> None:
    """That info is not shown by itself is shown by the next line, and by every other test."""
    shown = told("run", COUNTING, *FIVE, "--log-level", "info").stderr
    assert "sink   | INFO geartrain.sink: looks for numbers" in shown
    assert "looks for numbers" not in told("run", COUNTING, *FIVE, "--log-level", "warning").stderr


def test_colours_can_be_forced_on_a_pipe(told: Told) -> None:
    """That a pipe gets none by itself is shown by every other test."""
    assert "\x1b[33msource |\x1b[0m is ready" in told("run", COUNTING, *FIVE, FORCE_COLOR="1").stderr


def test_a_terminal_shows_one_live_line_below_what_a_pipe_gets(place: Path, nothing_left: object) -> None:
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "geartrain", "run", COUNTING, "--for", "200ms"]
    with subprocess.Popen(
        words, cwd=ROOT, stdout=theirs, stderr=theirs, env=os.environ | {"TERM": "xterm", "NO_COLOR": "1"}
    ) as run:
        os.close(theirs)
        text = read_all(ours)
    assert run.returncode == 0
    assert re.search(r"counting  2 running  \d+ s  Ctrl-C stops", text)
    assert set(re.findall("\x1b..", text)) == {"\x1b[K"}
    # What is left of it when the live line is taken away.
    left = [line.rpartition("\r\x1b[K")[2] for line in text.replace("\r\n", "\n").split("\n")]
    assert {"sink   | got 2", "sink   | on_stop", "sink   | has ended", "geartrain: the time is over"} <= set(left)
    assert left[-1] == ""
    assert not any("Ctrl-C" in line for line in left)


def test_a_run_goes_on_when_nobody_reads_what_it_says(place: Path, nothing_left: object) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    words = [sys.executable, "-m", "geartrain", "run", COUNTING, *FIVE]
    found = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert found.returncode == 0
    assert "sink   | has ended" in found.stderr


def test_a_daemon_that_raises_ends_the_run_with_1_and_its_traceback_is_printed(told: Told) -> None:
    found = told("run", COUNTING, "--set", "daemons.sink.config.fail_at=4")
    assert found.returncode == 1
    assert 'parts.py", line ' in found.stderr
    assert 'raise ValueError(f"{number} is too much")' in found.stderr
    assert "ValueError: 4 is too much\n\nthe last lines of process sink:\n    runs on trio\n" in found.stderr


def test_a_process_that_is_killed_ends_the_run_with_1_and_says_how(running: Running) -> None:
    with running(COUNTING) as live:
        pid = pid_of_sink(live.until(*READY, "| pid "))
        os.kill(pid, signal.SIGKILL)
        code, said = live.ends()
    assert code == 1
    assert f"process 'sink' (pid {pid}): killed by SIGKILL" in said


def test_a_run_stops_in_order_when_its_time_is_over(told: Told) -> None:
    found = told("run", COUNTING, "--for", "100ms")
    assert found.returncode == 0
    assert "sink   | on_stop" in found.stdout
    assert "geartrain: the time is over\ngeartrain: stopping; waiting for source, sink\n" in found.stderr


def test_a_source_that_hears_of_no_stop_lets_the_others_of_its_process_end(told: Told) -> None:
    words = ("--set", "daemons.source.config.looks=false", "--set", "daemons.sink.process=source")
    found = told("run", COUNTING, *words, "--set", "processes={}", "--for", "100ms", "--grace", "20s")
    assert found.returncode == 0
    assert "source | on_stop" in found.stdout
    assert "by force" not in found.stderr


# -- a run in one process -----------------------------------------------------------------------------------------


def test_a_debugger_stops_in_a_daemon_of_a_run_in_one_process(place: Path, nothing_left: object) -> None:
    ours, theirs = pty.openpty()
    words = (COUNTING, "--in-process", *FIVE, "--set", "daemons.sink.config.break_at=2")
    command = [sys.executable, "-m", "geartrain", "run", *words]
    with subprocess.Popen(command, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        said = ""
        while "(Pdb)" not in said:
            said += os.read(ours, 4096).decode()
        os.write(ours, b"p number * 1000\n")
        while "2000" not in said:
            said += os.read(ours, 4096).decode()
        os.write(ours, b"c\n")
        with suppress(OSError):
            while chunk := os.read(ours, 4096):
                said += chunk.decode()
        assert process.wait(timeout=30) == 0
    os.close(ours)
    assert "got 2" in said
    assert len(set(re.findall(r"pid (\d+)", said))) == 1


def test_a_run_in_one_process_stops_when_its_time_is_over_and_fails_with_1(told: Told) -> None:
    stopped = told("run", COUNTING, "--in-process", "--for", "100ms", "--backend", "trio")
    assert stopped.returncode == 0
    said = stopped.stdout.splitlines()
    assert (said[0], said[-1]) == ("runs on trio", "on_stop")
    failed = told("run", COUNTING, "--in-process", "--set", "daemons.sink.config.fail_at=2")
    assert failed.returncode == 1
    assert "in run: ValueError: 2 is too much\n\nTraceback" in failed.stderr


# -- a run in virtual time ----------------------------------------------------------------------------------------


def test_a_simulated_run_says_its_digest_last_and_it_is_the_same_on_either_loop(told: Told, tmp_path: Path) -> None:
    digests = set()
    for loop, placement in (("asyncio", "one"), ("trio", "one"), ("trio", "each")):
        trace = str(tmp_path / loop)
        words = ("--sim", "--seed", "7", "--trace", trace, "--backend", loop, "--placement", placement)
        found = told("run", COUNTING, *FIVE, *words)
        assert found.returncode == 0, found.stderr
        digests.add(found.stdout.splitlines()[-1])
        assert re.fullmatch(r"digest [0-9a-f]{64}", max(digests))
    assert len(digests) == 1
    alike = told("diff", str(tmp_path / "asyncio"), str(tmp_path / "trio"))
    assert (alike.returncode, alike.stdout.endswith(" are alike\n")) == (0, True)


def test_traces_that_differ_are_told_and_the_code_is_1(told: Told, tmp_path: Path) -> None:
    for name, count in (("short", "3"), ("long", "5")):
        words = ("--set", f"daemons.source.config.count={count}", "--sim", "--trace", str(tmp_path / name))
        assert told("run", COUNTING, *words).returncode == 0
    found = told("diff", str(tmp_path / "short"), str(tmp_path / "long"))
    assert found.returncode == 1
    assert "only the second goes on" in found.stdout


def test_a_simulated_run_stops_after_so_much_virtual_time(told: Told) -> None:
    found = told("run", COUNTING, "--sim", "--for", "5s")
    assert found.returncode == 0
    assert "5.001 s of virtual time have passed" in found.stderr
    assert found.stdout.splitlines()[-1].startswith("digest ")


def test_a_simulated_run_that_fails_says_its_digest_too(told: Told) -> None:
    found = told("run", COUNTING, "--sim", "--set", "daemons.sink.config.fail_at=2")
    assert found.returncode == 1
    assert "2 is too much" in found.stderr
    assert found.stdout.splitlines()[-1].startswith("digest ")


@pytest.mark.parametrize("words", [("--seed", "1"), ("--trace", "file"), ("--placement", "each")])
def test_what_is_of_simulated_runs_only_is_refused_of_others(told: Told, words: tuple[str, str]) -> None:
    found = told("run", COUNTING, *words)
    assert found.returncode == 2
    assert f"{words[0]} is for simulated runs: add --sim" in found.stderr


def test_a_sweep_names_the_seed_that_breaks_something_and_the_line_that_repeats_it(told: Told) -> None:
    words = ("sweep", "tests.faces.test_sweeping:game", "--check", "tests.faces.test_sweeping:below_sixteen")
    found = told(*words, "--seeds", "0..99")
    assert found.returncode == 1
    seed, again = found.stdout.splitlines()[0].split(":")[0].split()[1], found.stdout.splitlines()[-1]
    assert again == f"again: geartrain {' '.join(words[:2])} --seeds {seed} {' '.join(words[2:])}"
    fine = told("sweep", "tests.faces.test_sweeping:game", "--seeds", "0..3")
    assert (fine.returncode, fine.stdout) == (0, "seeds 0 to 3: 4 runs that differ, nothing broken\n")
    refused = told(*words, "--seeds", "9..1")
    assert refused.returncode == 2
    assert "seeds '9..1' are none" in refused.stderr


def test_a_trace_that_cannot_be_written_is_told_in_one_sentence(told: Told, tmp_path: Path) -> None:
    found = told("run", COUNTING, "--sim", "--trace", str(tmp_path / "nowhere" / "trace"))
    assert found.returncode == 2
    assert "the trace cannot be written to" in found.stderr
    assert "Traceback" not in found.stderr


def test_a_simulated_run_cannot_be_observed_and_says_so(told: Told) -> None:
    found = told("run", COUNTING, "--sim", "--observe")
    assert found.returncode == 2
    assert "leave out --observe or --sim" in found.stderr


# -- signals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "number",
    [signal.SIGINT, *(pytest.param(number, marks=pytest.mark.soak) for number in (signal.SIGTERM, signal.SIGHUP))],
)
def test_the_first_signal_stops_in_order(number: int, running: Running, place: Path) -> None:
    with running(COUNTING) as live:
        live.until(*READY)
        live.signal(number)
        code, said = live.ends()
    assert code == 0
    assert "geartrain: stopping; waiting for source, sink" in said
    assert "sink   | on_stop" in said
    assert list((place / "RUNTIME_DIR" / "geartrain").iterdir()) == []


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_signal_stops_a_simulated_run_that_would_never_end(loop: str, running: Running) -> None:
    with running(COUNTING, "--sim", "--backend", loop) as live:
        live.until(*READY)
        live.signal(signal.SIGINT)
        code, said = live.ends()
    assert code == 0
    assert "geartrain: stopping; waiting for source, sink" in said
    assert said.splitlines()[-1].startswith("digest ")


def test_a_signal_during_the_start_stops_too(running: Running) -> None:
    with running(COUNTING, "--set", "daemons.sink.run='waits:Sink'") as live:
        live.until("imports")
        live.signal(signal.SIGINT)
        assert live.ends()[0] == 0


STAYS = (COUNTING, "--set", "daemons.sink.config.stays=true")
DEAF = (COUNTING, "--set", "daemons.sink.config.deaf=true")


def test_a_grace_that_is_over_cuts_work_short_and_ends_with_130(running: Running) -> None:
    with running(*STAYS, "--grace", "0s") as live:
        live.until(*READY)
        live.signal(signal.SIGINT)
        code, said = live.ends()
    assert code == 130
    # With no grace at all the source may be late too.
    assert re.search("ended by force: (source, )?sink", said)
    assert "sink   | on_stop" in said


def test_the_second_signal_does_not_wait_and_its_number_is_the_code(running: Running) -> None:
    with running(*STAYS, "--grace", "1h") as live:
        live.until(*READY)
        live.signal(signal.SIGTERM)
        live.until("stopping")
        live.signal(signal.SIGTERM)
        code, said = live.ends()
    assert code == 128 + signal.SIGTERM
    assert "SIGTERM again: nobody is waited for" in said
    assert "sink   | on_stop" in said


def test_the_third_signal_kills(running: Running) -> None:
    with running(*DEAF, "--grace", "1h") as live:
        live.until(*READY)
        live.signal(signal.SIGINT)
        live.until("stopping")
        live.signal(signal.SIGINT)
        live.until("again")
        live.signal(signal.SIGINT)
        assert live.ends()[0] == 130


def kill_and_see_all_end(live: Live, victim: Callable[[], int]) -> None:
    live.until(*READY)
    with ExitStack() as stack:
        fds = [stack.enter_context(pidfd(pid)) for pid in live.family]
        os.kill(victim(), signal.SIGKILL)
        # 200 ms is what is promised on a machine that is not busy with other tests.
        assert all_end_within(fds, 2.0)


def test_nobody_outlives_the_supervisor_and_doctor_clears_what_it_left(
    running: Running, told_here: Told, place: Path
) -> None:
    with running(COUNTING) as live:
        kill_and_see_all_end(live, lambda: live.family[1])
        assert live.ends()[0] == 128 + signal.SIGKILL
    *_, dead = (json.loads(line) for line in told_here("doctor", "--format", "json").stdout.splitlines())
    assert dead["verdict"] == "warning"
    assert "cleared counting-" in told_here("doctor", "--clear").stdout
    assert list((place / "RUNTIME_DIR" / "geartrain").iterdir()) == []


def test_nobody_outlives_the_guard_and_the_next_run_clears_what_it_left(
    running: Running, told: Told, place: Path
) -> None:
    with running(COUNTING) as live:
        kill_and_see_all_end(live, lambda: live.process.pid)
    assert told("run", COUNTING, *FIVE).returncode == 0
    assert list((place / "RUNTIME_DIR" / "geartrain").iterdir()) == []


# -- talking to a run -----------------------------------------------------------------------------------------------


def standings(told_here: Told, *words: str) -> dict[str, dict[str, object]]:
    rows = [json.loads(line) for line in told_here("ps", *words, "--format", "json").stdout.splitlines()]
    return {row["daemon"]: row for row in rows}


def test_a_live_run_tells_who_runs_its_services_and_why_the_others_do_not(
    running: Running, told_here: Told, tmp_path: Path
) -> None:
    (tmp_path / "job.py").write_text("import anyio\nasync def report(run): await anyio.sleep_forever()\n")
    file = tmp_path / "served.toml"
    file.write_text('[pipeline]\nname = "served"\n[services.report]\nrun = "job.py:report"\nevery = "1h"\n')
    with running(str(file)):
        service: dict[str, Any] = {}
        while len(service.get("replicas", ())) < 2 or not all(one["why"] for one in service["replicas"]):
            rows = [json.loads(line) for line in told_here("ps", "--format", "json").stdout.splitlines()]
            service = next((row for row in rows if "service" in row), {})
        assert {row["daemon"] for row in rows if "daemon" in row} == {"report-1", "report-2", "services"}
        assert {one["why"] for one in service["replicas"]} == {"running", "given"}
        assert (service["service"], service["every_s"], service["token"]) == ("report", 3600, 1)
        assert [record["type"] for record in service["records"]] == ["given"]
        said = told_here("ps").stdout
        assert f"service report: every 1h, cycle {service['cycle']}, token 1; nothing has run" in said
        assert told_here("stop").returncode == 0


def test_a_live_run_tells_how_it_is_and_is_restarted_killed_and_stopped(running: Running, told_here: Told) -> None:
    with running(COUNTING, "--set", "daemons.sink.on_error='restart'") as live:
        first = pid_of_sink(live.until(*READY, "| pid "))
        before = standings(told_here)
        assert list(before) == ["source", "sink"]
        assert before["sink"]["uptime_s"] is not None
        assert {key: before["sink"][key] for key in ("process", "pid", "state", "restarts", "last_error")} == {
            "process": "sink", "pid": first, "state": "running", "restarts": 0, "last_error": None,
        }  # fmt: skip

        assert told_here("restart", "source").returncode == 0
        live.until("source | is ready")
        assert told_here("kill", "sink").returncode == 0
        second = pid_of_sink(live.until("sink   | failed", "sink   | is restarted", "sink   | is ready", "| pid "))
        after = standings(told_here, "counting")
        assert (after["source"]["restarts"], after["source"]["last_error"]) == (1, None)
        assert (after["sink"]["pid"], after["sink"]["state"], after["sink"]["restarts"]) == (second, "running", 1)
        assert after["sink"]["last_error"] == f"process {first}: killed by SIGKILL"
        assert told_here("ps").stdout.startswith("DAEMON ")

        assert "there is no daemon 'snk'; did you mean 'sink'?" in told_here("kill", "snk").stderr
        refused = told_here("clear", "sink")
        assert "daemon 'sink' is not held: its body is entered at each tick" in refused.stderr
        assert refused.returncode == 2
        assert told_here("stop").returncode == 0
        assert live.ends()[0] == 0


def test_a_daemon_that_hangs_shows_where(running: Running, told_here: Told) -> None:
    with running(COUNTING, "--set", "daemons.sink.config.hang_at=3") as live:
        live.until(*READY)
        # The third number has been printed; the fourth comes at once, and is looked for until it hangs.
        while "while number == self._hang_at:" not in (found := told_here("stack", "sink")).stdout:
            assert found.returncode == 0
        assert found.stdout.startswith("process sink (pid ")
        assert 'parts.py", line ' in found.stdout

        first, *_ = (json.loads(line) for line in told_here("stack", "source", "--format", "json").stdout.splitlines())
        assert first["current"]
        assert first["calls"][-1]["function"] == "_run_module_as_main"
        assert "did you mean 'sink'?" in told_here("stack", "snk").stderr
        assert told_here("kill", "sink").returncode == 0
        assert live.ends()[0] == 1


def channels(told_here: Told) -> dict[str, Any]:
    (row,) = (json.loads(line) for line in told_here("chan", "ls", "--format", "json").stdout.splitlines())
    assert isinstance(row, dict)
    return row


def test_channels_are_counted_from_the_start_whoever_was_killed(running: Running, told_here: Told) -> None:
    words = ("source.on_error='restart'", "sink.on_error='restart'", "source.config={count=300,stays=true}")
    with running(COUNTING, *(part for word in words for part in ("--set", f"daemons.{word}")), "--grace", "0s") as live:
        live.until(*READY)
        before = channels(told_here)
        assert {key: before[key] for key in ("channel", "writer", "reader", "policy", "maxsize")} == {
            "channel": "numbers", "writer": "source", "reader": "sink", "policy": "block", "maxsize": 64,
        }  # fmt: skip
        assert before["accepted"] >= 3
        for victim in ("sink", "source"):
            told_here("kill", victim)
            live.until("is ready")
        look = ("chan", "hz", "numbers", "--format", "json", "--for", "50ms", "--every", "25ms")
        found = before
        # The second life of the source sends all of its 300, the first one has sent what it could.
        while found["accepted"] < before["accepted"] + 300 or '"accepted_hz":0.0' not in told_here(*look).stdout:
            later = channels(told_here)
            assert later["accepted"] >= found["accepted"]
            found = later
        found = channels(told_here)
        assert found["taken"] == found["stable"] == found["accepted"] - found["lost"]
        assert (found["fill"], found["dropped"], found["set_aside"]) == (0, 0, 0)
        assert told_here("chan", "ls").stdout.startswith("CHANNEL ")
        assert told_here("chan", "hz", "--for", "10ms").stdout.startswith("CHANNEL ")
        assert "did you mean 'numbers'?" in told_here("chan", "hz", "nubers").stderr


def test_items_are_shown_as_they_pass_whoever_is_killed_and_however_slow_somebody_looks(
    running: Running, told_here: Told
) -> None:
    with running(COUNTING, "--set", "daemons.source.on_error='restart'", "--grace", "0s") as live:
        live.until(*READY)
        shown = [
            json.loads(line)
            for line in told_here("chan", "echo", "numbers", "--count", "3", "--format", "json").stdout.splitlines()
        ]
        assert [row["item"] for row in shown] == [row["number"] - 1 for row in shown]
        assert [row["number"] - shown[0]["number"] for row in shown] == [0, 1, 2]
        assert re.match(r"\d+: \d+\n", told_here("chan", "echo", "numbers", "--for", "200ms").stdout)
        assert "did you mean 'numbers'?" in told_here("chan", "echo", "nubers").stderr

        words = [sys.executable, "-m", "geartrain", "chan", "echo", "numbers", "--format", "json"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as looking:
            assert looking.stdout is not None
            epoch = json.loads(looking.stdout.readline())["epoch"]
            told_here("kill", "source")
            while json.loads(looking.stdout.readline())["epoch"] == epoch:
                pass
            # Who stands still holds nobody up.
            looking.send_signal(signal.SIGSTOP)
            before = channels(told_here)["taken"]
            while channels(told_here)["taken"] < before + 100:
                pass
            looking.kill()


def test_nobody_but_the_user_can_ask_a_run(running: Running, place: Path) -> None:
    with running(COUNTING) as live:
        live.until(*READY)
        (control,) = (place / "RUNTIME_DIR" / "geartrain").glob("*/control")
        assert (control.stat().st_mode & 0o777, control.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_of_several_runs_one_must_be_named(running: Running, told_here: Told) -> None:
    with running(COUNTING) as one, running(COUNTING, "--set", "pipeline.name='other'") as other:
        one.until(*READY)
        other.until(*READY)
        refused = told_here("stop")
        assert refused.returncode == 2
        assert "several runs are alive, name one of them: counting-" in refused.stderr
        assert told_here("stop", "other").returncode == 0
        assert other.ends()[0] == 0
        assert told_here("stop").returncode == 0
        assert one.ends()[0] == 0


@pytest.mark.parametrize(
    "words", [("ps",), ("stop",), ("kill", "sink"), ("restart", "sink"), ("stack", "sink"), ("chan", "ls")]
)
def test_when_nothing_runs_that_is_said_with_69(words: tuple[str, ...], told_here: Told) -> None:
    found = told_here(*words)
    assert (found.returncode, found.stdout) == (69, "")
    assert "no pipeline is running" in found.stderr


def test_logs_are_followed_until_the_run_is_over(running: Running, told_here: Told) -> None:
    with running(COUNTING) as live:
        live.until(*READY)
        words = [sys.executable, "-m", "geartrain", "logs", "-f", "sink"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as following:
            Live(following).until("got 2")
            live.signal(signal.SIGINT)
            assert following.communicate(timeout=30)[0] == "sink | on_stop\n"
        assert live.ends()[0] == 0


# -- helpers --------------------------------------------------------------------------------------------------------


def read_all(terminal: int) -> str:
    """What comes over a terminal until nobody has it open any more."""
    text = b""
    with suppress(OSError):
        while chunk := os.read(terminal, 4096):
            text += chunk
    os.close(terminal)
    return text.decode()


def pid_of_sink(lines: list[str]) -> int:
    return next(int(line.rpartition(" ")[2]) for line in reversed(lines) if "| pid " in line)


@contextmanager
def pidfd(pid: int) -> Iterator[int]:
    fd = os.pidfd_open(pid)
    try:
        yield fd
    finally:
        os.close(fd)


def all_end_within(fds: list[int], seconds: float) -> bool:
    """Whether all of these processes end in time; each pidfd is readable once its process has ended."""
    until, left = time.monotonic() + seconds, set(fds)
    while left and time.monotonic() < until:
        poll = select.poll()
        for fd in left:
            poll.register(fd, select.POLLIN)
        left -= {fd for fd, _ in poll.poll(max(0, int((until - time.monotonic()) * 1000)))}
    return not left
