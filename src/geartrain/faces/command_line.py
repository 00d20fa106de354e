"""The command `geartrain`: checks and draws pipelines, runs them, and talks to those that run.

Data goes to stdout and words about it to stderr. 0 ended well, 1 a daemon failed, a lease was refused, or something is
wrong with this machine, 2 usage or a faulty pipeline, 4 a journal of leases is in use, 65 it is damaged, 69 no pipeline
runs, 73 a project cannot be written, 130 cut short by Ctrl-C, 128+n ended by a signal.
"""

import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal, NoReturn, TypeVar

import click
import msgspec
from msgspec import structs

from geartrain.engine.control import (
    Answer,
    AskChannels,
    AskClear,
    AskKill,
    AskRestart,
    AskStack,
    AskStandings,
    AskStop,
    Question,
    ask,
    listen,
)
from geartrain.engine.pipeline import Pipeline
from geartrain.engine.roll import Standing
from geartrain.engine.sim_time import PLACEMENTS, Placement, SimTime
from geartrain.errors import (
    BadValue,
    EtcdAway,
    GeartrainError,
    JournalDamaged,
    JournalInUse,
    JournalStopped,
    LeaseLost,
    LeaseRefused,
    PipelineFaulty,
)
from geartrain.faces import lease_calls
from geartrain.faces.completing import (
    SHELLS,
    channel_names,
    daemon_names,
    files,
    kept_names,
    log_names,
    run_names,
    script,
)
from geartrain.faces.health import Finding, findings
from geartrain.faces.lease import LEASE_FOLDER, Line, compacted, held, regions_text, standing, story, watched
from geartrain.faces.lease_run import run_held
from geartrain.faces.looks import Printer, has_colours, in_calls, in_columns
from geartrain.faces.making import NotMade, make_project
from geartrain.faces.post_mortem import found as post_mortem_of
from geartrain.faces.post_mortem import in_words
from geartrain.faces.running import FAILED, FAULTY, RunOrder, in_lines, refusal
from geartrain.faces.runs import NothingRuns, followed, live_run, logs_in, state_of
from geartrain.faces.services import services_of, told_of_service
from geartrain.faces.supervise import STOPS
from geartrain.faces.target import pipeline_of
from geartrain.faces.toml import toml_text
from geartrain.faces.traces import difference_of, told_of_difference
from geartrain.rules.counts import ChannelCounts, Rate, rates
from geartrain.rules.deadlines import ns_rounded_up
from geartrain.rules.durations import duration_text, seconds_of
from geartrain.rules.graph import FORMATS, PictureFormat, picture
from geartrain.rules.lease_words import MODES, Claim, Conflict, Grant, Mode, Note
from geartrain.rules.nearest import did_you_mean
from geartrain.rules.pipeline import BACKENDS, Backend
from geartrain.rules.pipeline_file import tables_of
from geartrain.rules.stacks import threads_in
from geartrain.rules.storm import StormGate, StormPlan

BUSY = 4
DAMAGED = 65
UNAVAILABLE = 69
CANNOT_CREATE = 73
INTERRUPTED = 130

TableFormat = Literal["table", "json"]
# Where a run is shown if nobody says where.
OBSERVE = "127.0.0.1:8080"
LEVELS = ("debug", "info", "warning", "error")

F = TypeVar("F", bound=Callable[..., Any])


class Refused(click.ClickException):
    """What geartrain refuses, in its words."""

    exit_code = FAULTY

    def __init__(self, error: GeartrainError, *, verbose: bool) -> None:
        super().__init__(refusal(error, verbose=verbose))

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(self.message, nl=False, err=True)


class Unavailable(Refused):
    """There is nothing that could be asked."""

    exit_code = UNAVAILABLE


class Busy(Refused):
    """Somebody else has it just now."""

    exit_code = BUSY


class Damaged(Refused):
    """Data that is not what it should be."""

    exit_code = DAMAGED


class Broken(Refused):
    """The machine did not do what was asked of it."""

    exit_code = FAILED


class CannotCreate(Refused):
    """What was to be written cannot be."""

    exit_code = CANNOT_CREATE


def _refusal_of(error: GeartrainError) -> type[Refused]:
    match error:
        case NothingRuns():
            return Unavailable
        case NotMade():
            return CannotCreate
        case JournalInUse():
            return Busy
        case JournalDamaged():
            return Damaged
        case EtcdAway() | JournalStopped() | LeaseRefused() | LeaseLost():
            return Broken
        case _:
            return Refused


class Group(click.Group):
    """Commands; one that is not there is refused with the nearest name."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            ctx.fail(f"there is no command {args[0]!r}; {did_you_mean(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)


class All(Group):
    """All commands. What geartrain refuses is said here."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except GeartrainError as error:
            raise _refusal_of(error)(error, verbose=ctx.params["verbose"]) from error


class Duration(click.ParamType[float]):
    """Text like 10s."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return seconds_of(value, "it")
        except GeartrainError as error:
            self.fail(str(error).removeprefix("it "), param, ctx)


def target_argument(command: F) -> F:
    return click.argument("target", metavar="FILE|module:attr", shell_complete=files)(command)


def daemon_argument(command: F) -> F:
    return click.argument("daemon", shell_complete=daemon_names)(command)


def channel_argument(command: F) -> F:
    return click.argument("channel", required=False, shell_complete=channel_names)(command)


def run_argument(command: F) -> F:
    return click.argument("run_name", metavar="[RUN]", required=False, shell_complete=run_names)(command)


def kept_argument(command: F) -> F:
    return click.argument("run_name", metavar="[RUN]", required=False, shell_complete=kept_names)(command)


def set_option(command: F) -> F:
    said = "Say a key of the pipeline anew, as channels.frames.maxsize=8; may be given several times."
    return click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help=said)(command)


def format_option(command: F) -> F:
    said = "For people, or one JSON object in a line for each row."
    choice = click.Choice(["table", "json"])
    return click.option("--format", "form", type=choice, default="table", show_default=True, help=said)(command)


def run_option(command: F) -> F:
    said = "Which run, by its id or its pipeline's name."
    return click.option("--run", "run_name", metavar="RUN", shell_complete=run_names, help=said)(command)


@click.group(cls=All, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(None, "--version", package_name="geartrain", message="geartrain %(version)s")
@click.option("-v", "--verbose", is_flag=True, help="Show the tracebacks of imports that failed.")
@click.pass_context
def geartrain(ctx: click.Context, verbose: bool) -> None:
    """Daemons that talk through typed channels, in many processes.

    Example: geartrain run vision.toml
    """
    ctx.obj = verbose


# -- a pipeline that does not run -----------------------------------------------------------------------------------


@geartrain.command()
@target_argument
@set_option
@format_option
@click.pass_context
def check(ctx: click.Context, target: str, overrides: tuple[str, ...], form: TableFormat) -> None:
    """Say everything that is wrong with a pipeline, at once.

    Ends with 2 when something is.

    Example: geartrain check vision.toml
    """
    try:
        faults = pipeline_of(target, overrides).check()
    except PipelineFaulty as error:
        faults = error.faults
    if form == "json":
        _print_json(faults)
    else:
        _print("".join(f"{line}\n" for line in in_lines(faults, verbose=ctx.obj)) or f"{target}: nothing is wrong\n")
    ctx.exit(FAULTY if faults else 0)


@geartrain.command()
@target_argument
@set_option
@click.option("--format", "form", type=click.Choice(FORMATS), default="ascii", show_default=True,
              help="For a terminal, a page, graphviz, or a browser.")  # fmt: skip
def graph(target: str, overrides: tuple[str, ...], form: PictureFormat) -> None:
    """Draw a pipeline.

    Example: geartrain graph vision.toml --format svg > vision.svg
    """
    width = shutil.get_terminal_size(fallback=(100, 24)).columns
    _print(picture(pipeline_of(target, overrides).whole, form, width))


@geartrain.command()
@target_argument
@set_option
@click.option("--format", "form", type=click.Choice(["toml", "json"]), default="toml", show_default=True,
              help="Either is a pipeline file again.")  # fmt: skip
def config(target: str, overrides: tuple[str, ...], form: Literal["toml", "json"]) -> None:
    """Show a pipeline with everything said that has a default.

    Example: geartrain config vision.toml --set channels.frames.maxsize=8
    """
    tables = tables_of(_checked(target, overrides).whole)
    _print(toml_text(tables) if form == "toml" else f"{msgspec.json.encode(tables).decode()}\n")


@geartrain.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
def new(folder: Path) -> None:
    """Write a small project that works: a pipeline of two processes, and its test.

    Example: geartrain new demo
    """
    _print("".join(f"{path}\n" for path in make_project(folder)))
    click.echo(f"Go on there: cd {shlex.quote(str(folder))} && geartrain run pipeline.toml", err=True)


# -- running --------------------------------------------------------------------------------------------------------


@geartrain.command()
@target_argument
@set_option
@click.option("--for", "run_for_s", type=Duration(), help="Stop in order after this time, as 10s.")
@click.option("--grace", "grace_s", type=Duration(), default="5s", show_default=True,
              help="How long daemons have to finish when they are stopped.")  # fmt: skip
@click.option("--backend", type=click.Choice(BACKENDS), help="The loop of all processes that say no other.")
@click.option("--log-level", type=click.Choice(LEVELS),
              help="Show what is logged from this level on, here and in all processes.")  # fmt: skip
@click.option("--observe", metavar="[HOST:PORT]", is_flag=False, flag_value=OBSERVE,
              help=f"Show the run while it runs, with a page at this address; {OBSERVE} if none is said.")  # fmt: skip
@click.option("--in-process", is_flag=True, help="All daemons in one process, on one loop: for breakpoint().")
@click.option("--sim", "is_simulated", is_flag=True,
              help="In virtual time, exact and the same on every run; --for is of virtual time then.")  # fmt: skip
@click.option(
    "--seed", type=click.IntRange(min=0), help="Where the chance of a simulated run begins; 0 if none is said."
)
@click.option("--trace", metavar="FILE", type=click.Path(dir_okay=False),
              help="Write what was taken from channels in a simulated run.")  # fmt: skip
@click.option("--placement", type=click.Choice(PLACEMENTS),
              help="Simulate in one process, those declared, or one for each daemon: the same run.")  # fmt: skip
@click.pass_context
def run(
    ctx: click.Context,
    target: str,
    overrides: tuple[str, ...],
    run_for_s: float | None,
    grace_s: float,
    backend: Backend | None,
    log_level: str | None,
    observe: str | None,
    in_process: bool,
    is_simulated: bool,
    seed: int | None,
    trace: str | None,
    placement: Placement | None,
) -> NoReturn:
    """Run a pipeline until all its daemons have returned, or Ctrl-C.

    Ctrl-C stops in order, a second one does not wait, a third one kills.

    Example: geartrain run vision.toml --for 10s
    """
    for option, given in (("--seed", seed), ("--trace", trace), ("--placement", placement)):
        if given is not None and not is_simulated:
            raise click.UsageError(f"{option} is for simulated runs: add --sim")
    if is_simulated and observe is not None:
        raise click.UsageError("--observe shows runs in real time: leave out --observe or --sim")
    sim = SimTime(seed=seed or 0, run_for=run_for_s, trace=trace, placement=placement or "one")
    if backend is not None:
        overrides = (*overrides, f"pipeline.backend={backend}")
    if observe is not None:
        overrides = (*overrides, f'pipeline.observe="{observe}"')
    order = RunOrder(target=target, overrides=overrides, run_for_s=run_for_s, grace_s=grace_s, verbose=ctx.obj,
                     log_level=None if log_level is None else log_level.upper(), in_process=in_process,
                     sim=sim if is_simulated else None)  # fmt: skip
    supervisor = (sys.executable, "-m", "geartrain.faces.supervise", msgspec.json.encode(order).decode())
    # A signal that comes while the guard starts is kept for it.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    # Nobody stands above the guard, and nothing of click stays in memory.
    os.execv(sys.executable, (sys.executable, "-P", "-m", "geartrain.engine.guard", "--", *supervisor))


@geartrain.command()
@target_argument
@set_option
@click.option("--seeds", default="0..99", show_default=True, help="Both are included.")
@click.option("--for", "run_for_s", type=Duration(), help="Stop each run in order after this virtual time.")
@click.option("--check", metavar="module:function",
              help="Given what a run came to; it raises, or answers False, when something is broken.")  # fmt: skip
def sweep(target: str, overrides: tuple[str, ...], seeds: str, run_for_s: float | None, check: str | None) -> None:
    """Simulate a pipeline for many seeds, on all cores, until one breaks something. 0 none did, 1 one did.

    Example: geartrain sweep vision.toml --seeds 0..999 --for 60s --check checks:nothing_lost
    """
    from geartrain.faces.sweeping import Sweep, seeds_of, swept  # nobody else needs a pool of processes

    order, which = Sweep(target, overrides, run_for_s, check), seeds_of(seeds)
    digests = set()
    with click.progressbar(swept(order, which), length=len(which), label="seeds", file=sys.stderr) as verdicts:
        for verdict in verdicts:
            digests.add(verdict.digest)
            if verdict.broken is not None:
                break
        else:
            _print(f"seeds {which[0]} to {which[-1]}: {len(digests)} runs that differ, nothing broken\n")
            return
    words = ["geartrain", "sweep", target, *(word for text in overrides for word in ("--set", text))]
    words += [] if run_for_s is None else ["--for", duration_text(run_for_s)]
    words += ["--seeds", str(verdict.seed), *(() if check is None else ("--check", check))]
    _print(f"seed {verdict.seed}: {verdict.broken}\nagain: {shlex.join(words)}\n")
    raise SystemExit(FAILED)


@geartrain.command()
@click.argument("first", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("second", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def diff(first: Path, second: Path) -> None:
    """Name the first event in which the traces of two simulated runs differ. 0 alike, 1 different.

    Example: geartrain diff yesterday.trace today.trace
    """
    difference = difference_of(first, second)
    _print(told_of_difference(difference, first, second))
    if difference is not None:
        raise SystemExit(FAILED)


# -- a pipeline that runs -------------------------------------------------------------------------------------------


@geartrain.command()
@run_argument
@format_option
def ps(run_name: str | None, form: TableFormat) -> None:
    """Show the daemons of a run, and its services: who has run what, and why each other one does not.

    Example: geartrain ps --format json
    """
    found = live_run(run_name)
    standings = ask(found.folder, AskStandings()).daemons
    services = services_of(found.run_id)
    if form == "json":
        _print_json((*standings, *services))
    else:
        head = ("DAEMON", "PROCESS", "PID", "STATE", "RESTARTS", "LOST", "UPTIME", "STALE", "LAST ERROR")
        _print(in_columns(head, [_row(standing) for standing in standings]))
        _print("".join(f"\n{told_of_service(service)}" for service in services))


def _row(standing: Standing) -> tuple[str, ...]:
    uptime = "-" if standing.uptime_s is None else duration_text(round(standing.uptime_s, 1))
    pid = "-" if standing.pid is None else str(standing.pid)
    daemon = f"{standing.daemon} (system)" if standing.system else standing.daemon
    return (daemon, standing.process, pid, standing.state, str(standing.restarts),
            str(standing.lost), uptime, ", ".join(standing.stale), standing.last_error or "-")  # fmt: skip


@geartrain.command()
@click.argument("daemon", required=False, shell_complete=log_names)
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until the run is over.")
@run_option
def logs(daemon: str | None, follow: bool, run_name: str | None) -> None:
    """Show what the processes of a run have printed, of the last run if none is alive.

    A daemon with a process of its own has the name of that process.

    Example: geartrain logs -f camera
    """
    state = state_of(run_name)
    found = logs_in(state, daemon)
    names = [log.process for log in found]
    printers = {"out": Printer(sys.stdout, names), "err": Printer(sys.stderr, names)}
    for log in found:
        for lines in (log.former(), log.new()):
            for line in lines:
                printers[log.stream].line(log.process, line)
    if follow:
        for log, line in followed(state, found):
            printers[log.stream].line(log.process, line)


@geartrain.command("post-mortem")
@kept_argument
@format_option
def post_mortem(run_name: str | None, form: TableFormat) -> None:
    """Say how each process of a run ended, what it had in hand and who waited; of the last run if none is named.

    Nobody is asked: it is read from files, also when everything was killed, or still lives.

    Example: geartrain post-mortem vision
    """
    told = post_mortem_of(state_of(run_name))
    if form == "json":
        _print_json([told])
    else:
        _print(in_words(told, coloured=has_colours(sys.stdout)))


@geartrain.command()
@kept_argument
@click.option("--once", is_flag=True, help="One look, with what happened in the time before it.")
@click.option("--every", "every_s", type=Duration(), default="1s", show_default=True, help="How often to look.")
@format_option
@click.pass_context
def top(ctx: click.Context, run_name: str | None, once: bool, every_s: float, form: TableFormat) -> None:
    """Show how every daemon and channel of a run is, again and again, until q or Ctrl-C.

    Nobody is asked: it is read from files, also when the run hangs, or is over. As JSON it is a line for each daemon.

    Example: geartrain top vision
    """
    from geartrain.faces import top as faces_top

    if every_s < faces_top.EVERY_LEAST_S:
        raise BadValue(f"--every must be at least {duration_text(faces_top.EVERY_LEAST_S)}")
    with closing(faces_top.Watch(state_of(run_name))) as watch:
        if not once and form == "table" and faces_top.is_screen(sys.stdout):
            ctx.exit(faces_top.on_screen(watch, every_s))
        for shown in islice(faces_top.looks(watch, every_s), 1 if once else None):
            if form == "json":
                _print_json(shown.rows.daemons)
            else:
                _print(faces_top.in_words(shown) + ("" if once else "\n"))


@geartrain.command()
@run_argument
def stop(run_name: str | None) -> None:
    """End a run in order, and return when it is over.

    Example: geartrain stop vision
    """
    _ask(run_name, AskStop(), until_over=True)


@geartrain.command()
@daemon_argument
@run_option
def restart(daemon: str, run_name: str | None) -> None:
    """End the process of a daemon and start it again, whatever its policy.

    Its channels go on where they were.

    Example: geartrain restart camera
    """
    _ask(run_name, AskRestart(daemon))


@geartrain.command()
@daemon_argument
@run_option
def kill(daemon: str, run_name: str | None) -> None:
    """End the process of a daemon with SIGKILL; its policy decides what comes.

    Example: geartrain kill camera
    """
    _ask(run_name, AskKill(daemon))


@geartrain.command()
@daemon_argument
@run_option
def clear(daemon: str, run_name: str | None) -> None:
    """Let a daemon go on that is held, because a cycle of it took longer than its budget.

    If it is its process that is over its budget, that is cleared for all who are in it.

    Example: geartrain clear control
    """
    _ask(run_name, AskClear(daemon))


@geartrain.command()
@daemon_argument
@run_option
@format_option
def stack(daemon: str, run_name: str | None, form: TableFormat) -> None:
    """Show where each thread of the process of a daemon stands, also when it hangs.

    The thread that daemons run in comes first, its last call on top.

    Example: geartrain stack detector
    """
    answer = _ask(run_name, AskStack(daemon))
    threads = threads_in(answer.stack)
    if form == "json":
        _print_json(threads)
    else:
        standing = next(standing for standing in answer.daemons if standing.daemon == daemon)
        _print(f"process {standing.process} (pid {standing.pid})\n{in_calls(threads)}")


@geartrain.group(cls=Group)
def chan() -> None:
    """Look into the channels of a run.

    Example: geartrain chan ls
    """


@chan.command()
@run_option
@format_option
def ls(run_name: str | None, form: TableFormat) -> None:
    """Show every channel: how full it is, and how many items went through it since the start.

    Example: geartrain chan ls
    """
    counts = _channels(run_name).channels
    if form == "json":
        _print_json(counts)
    else:
        head = ("CHANNEL", "WRITER", "READER", "POLICY", "FILL", "ACCEPTED", "TAKEN", "STABLE", "DROPPED",
                "REDELIVERED", "SET ASIDE", "LOST", "AGE")  # fmt: skip
        _print(in_columns(head, [_count_row(count) for count in counts]))


def _count_row(count: ChannelCounts) -> tuple[str, ...]:
    numbers = (count.accepted, count.taken, count.stable, count.dropped, count.redelivered, count.set_aside, count.lost)
    return (count.channel, count.writer, count.reader, count.policy, f"{count.fill}/{count.maxsize}",
            *map(str, numbers), _age(count))  # fmt: skip


def _age(channel: ChannelCounts | Rate) -> str:
    """How long ago something came, of a channel that may go stale."""
    age = "" if channel.age_s is None else duration_text(channel.age_s)
    return f"{age} (stale)" if channel.stale else age


@chan.command()
@channel_argument
@click.option("--for", "for_s", type=Duration(), default="1s", show_default=True, help="How long to look.")
@click.option(
    "--every", "every_s", type=Duration(), help="Tell what was in each such time; without it once, at the end."
)
@run_option
@format_option
def hz(channel: str | None, for_s: float, every_s: float | None, run_name: str | None, form: TableFormat) -> None:
    """Show how many items go through the channels in a second.

    Example: geartrain chan hz frames --for 10s --every 1s
    """
    for found in _looks(run_name, channel, for_s, for_s if every_s is None else min(every_s, for_s)):
        if form == "json":
            _print_json(found)
        else:
            head = ("CHANNEL", "ACCEPTED/s", "TAKEN/s", "DROPPED/s", "FILL", "AGE")
            _print(in_columns(head, [_rate_row(rate) for rate in found]))


def _rate_row(rate: Rate) -> tuple[str, ...]:
    numbers = (f"{hz:.1f}" for hz in (rate.accepted_hz, rate.taken_hz, rate.dropped_hz))
    return (rate.channel, *numbers, str(rate.fill), _age(rate))


@chan.command()
@click.argument("channel", shell_complete=channel_names)
@click.option("--count", type=click.IntRange(min=1), help="End after so many items.")
@click.option("--for", "for_s", type=Duration(), help="End after this time.")
@run_option
@format_option
def echo(channel: str, count: int | None, for_s: float | None, run_name: str | None, form: TableFormat) -> None:
    """Show items as they go into a channel, as many as can be shown without slowing it.

    Where many pass, some are left out, and how many is told. An item that comes again is marked.

    Example: geartrain chan echo frames --count 10
    """
    for shown in islice(listen(live_run(run_name).folder, channel, for_s), count):
        if form == "json":
            _print_json([shown])
            continue
        if shown.missed:
            click.echo(f"geartrain: {shown.missed} not shown", err=True)
        item = bytes(shown.item).decode() if bytes(shown.item) != b"null" else f"({shown.size_bytes} bytes)"
        _print(f"{shown.number}{' again' if shown.redelivered else ''}: {item}\n")


def _looks(run_name: str | None, channel: str | None, for_s: float, every_s: float) -> Iterator[list[Rate]]:
    """What happened between each two looks, until the time is over."""
    if every_s <= 0:
        raise BadValue("--for and --every must be longer than nothing")
    before = _channels(run_name)
    if channel is not None:
        _check_channel(channel, before)
    began_s = before.at_s
    for count in range(1, round(for_s / every_s) + 1):
        time.sleep(max(0.0, began_s + count * every_s - time.monotonic()))
        after = _channels(run_name)
        found = rates(before.channels, after.channels, after.at_s - before.at_s)
        yield [rate for rate in found if channel in (None, rate.channel)]
        before = after


def _channels(run_name: str | None) -> Answer:
    answer = _ask(run_name, AskChannels())
    if answer.silent:
        who = ", ".join(answer.silent)
        click.echo(f"geartrain: numbers of {who} are older: it does not answer; see `geartrain stack`", err=True)
    return answer


def _check_channel(channel: str, answer: Answer) -> None:
    names = [count.channel for count in answer.channels]
    if channel not in names:
        raise BadValue(f"there is no channel {channel!r}; {did_you_mean(channel, names)}")


# -- leases -----------------------------------------------------------------------------------------------------------


def lease_folder_option(command: F) -> F:
    said = "Where the leases are kept: a folder, or etcd://HOST:PORT/PREFIX."
    where = click.Path(path_type=Path, file_okay=False)
    return click.option("--dir", "folder", type=where, default=LEASE_FOLDER, show_default=True, help=said)(command)


@geartrain.group(cls=Group)
def lease() -> None:
    """Look after leases and their journal.

    Example: geartrain lease journal
    """


def lease_argument(command: F) -> F:
    return click.argument("number", metavar="LEASE", type=click.IntRange(1))(command)


def token_option(command: F) -> F:
    said = "The token that came with it."
    return click.option("--token", type=click.IntRange(1), required=True, help=said)(command)


def claim_options(command: F) -> F:
    """What acquire and run have in common."""
    for option in (
        click.option("--label", default="", help="Who wants it, for people. It proves nothing."),
        click.option("--wait", "wait_s", type=Duration(), default="0s", show_default=True,
                     help="How long to wait for what is taken."),
        click.option("--ttl", "ttl_s", type=Duration(), default="30s", show_default=True,
                     help="How long it lives without being renewed."),
        click.option("--mode", type=click.Choice(MODES), default="x", show_default=True,
                     help="Exclusive, or shared with others that are shared."),
        lease_folder_option,
    ):  # fmt: skip
        command = option(command)
    return command


def request_option(command: F) -> F:
    said = "A name for this request: said again by it, it has what it had got, and nothing is done twice."
    return click.option("--request-id", "request", metavar="TEXT", default="", help=said)(command)


class _Answered:
    """Says in the chosen form what was answered; of a refusal too, which ends with 1."""

    def __init__(self, ctx: click.Context, form: TableFormat) -> None:
        self._ctx = ctx
        self._form = form

    def __enter__(self) -> "_Answered":
        return self

    def __exit__(self, kind: object, error: BaseException | None, at: object) -> None:
        if isinstance(error, LeaseRefused) and self._form == "json":
            conflicts = [structs.asdict(one) for one in error.conflicts if isinstance(one, Conflict)]
            _print_json([{"refused": error.code, "conflicts": conflicts, "said": str(error)}])
            self._ctx.exit(FAILED)

    def say(self, row: dict[str, object], words: str) -> None:
        if self._form == "json":
            _print_json([row])
        else:
            _print(f"{words}\n")


def _claims(regions: Sequence[str], mode: Mode) -> tuple[Claim, ...]:
    return tuple(Claim(region, mode) for region in regions)


def _lease_row(grant: Grant) -> dict[str, object]:
    regions = [claim.region for claim in grant.claims]
    return {"lease": grant.lease, "token": grant.token, "regions": regions, "ttl_s": grant.ttl_ns / 1e9}


@lease.command()
@click.argument("regions", metavar="REGION...", nargs=-1, required=True)
@claim_options
@request_option
@format_option
@click.pass_context
def acquire(
    ctx: click.Context,
    regions: tuple[str, ...],
    folder: Path,
    mode: Mode,
    ttl_s: float,
    wait_s: float,
    label: str,
    request: str,
    form: TableFormat,
) -> None:
    """Take a lease on all of these regions, or on none. It ends with its time, or when it is released.

    Its token is for the resource, which refuses lower ones. Ends with 1 when it is refused.

    Example: geartrain lease acquire workcell/left --ttl 30s --wait 5s
    """
    with _Answered(ctx, form) as answered:
        grant = lease_calls.acquire(
            folder, _claims(regions, mode), ttl_ns=ns_rounded_up(ttl_s), wait_ns=ns_rounded_up(wait_s), label=label,
            request=request,
        )  # fmt: skip
        names = ", ".join(claim.region for claim in grant.claims)
        answered.say(
            _lease_row(grant), f"lease {grant.lease} token {grant.token} on {names} for {duration_text(ttl_s)}"
        )


@lease.command()
@lease_argument
@token_option
@request_option
@lease_folder_option
@format_option
@click.pass_context
def release(ctx: click.Context, number: int, token: int, request: str, folder: Path, form: TableFormat) -> None:
    """End a lease: others may have what it covered.

    Example: geartrain lease release 7 --token 7
    """
    with _Answered(ctx, form) as answered:
        lease_calls.release(folder, number, token, request)
        answered.say({"released": number}, f"lease {number} is released")


@lease.command()
@lease_argument
@token_option
@lease_folder_option
@format_option
@click.pass_context
def renew(ctx: click.Context, number: int, token: int, folder: Path, form: TableFormat) -> None:
    """Let a lease live its whole time once more, from now on. What has run out stays so.

    Example: geartrain lease renew 7 --token 7
    """
    with _Answered(ctx, form) as answered:
        lease_calls.renew(folder, number, token)
        answered.say({"renewed": number, "token": token}, f"lease {number} is renewed")


@lease.command()
@lease_argument
@token_option
@click.option("--label", default="", help="Who wants it, for people. It proves nothing.")
@request_option
@lease_folder_option
@format_option
@click.pass_context
def adopt(
    ctx: click.Context, number: int, token: int, label: str, request: str, folder: Path, form: TableFormat
) -> None:
    """Take over a lease that outlives its holder, by its token. That is void from then on: a new one is printed.

    What a living holder has is refused.

    Example: geartrain lease adopt 7 --token 7
    """
    with _Answered(ctx, form) as answered:
        done = lease_calls.adopt(folder, number, token, label, request)
        answered.say({"lease": number, "token": done.token}, f"lease {number} token {done.token}")


class BeforeACommand(click.Command):
    """What comes after `--` is a command of somebody else's, and none of it is read here."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        at = args.index("--") if "--" in args else len(args)
        ctx.meta["command"] = args[at + 1 :]
        return super().parse_args(ctx, args[:at])

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "--", "COMMAND..."]


@lease.command("run", cls=BeforeACommand)
@click.argument("regions", metavar="REGION...", nargs=-1, required=True)
@claim_options
@click.pass_context
def lease_run(
    ctx: click.Context, regions: tuple[str, ...], folder: Path, mode: Mode, ttl_s: float, wait_s: float, label: str
) -> None:
    """Hold a lease as long as a command runs, and end with its exit code.

    It is renewed meanwhile. If it is lost, the command and what it has started are killed, and this ends with 1. The
    command finds GEARTRAIN_LEASE_TOKEN in its environment, to be shown to what is fenced.

    Example: geartrain lease run workcell/left --wait 1m -- python weld.py
    """
    command = ctx.meta["command"]
    if not command:
        raise click.UsageError("there is no command: write -- and the command after the regions", ctx)
    grant = lease_calls.acquire(
        folder, _claims(regions, mode), ttl_ns=ns_rounded_up(ttl_s), wait_ns=ns_rounded_up(wait_s), label=label
    )
    ctx.exit(run_held(folder, grant, command))


def text_argument(command: F) -> F:
    return click.argument("text")(command)


@lease.command()
@lease_argument
@text_argument
@lease_folder_option
def halt(number: int, text: str, folder: Path) -> None:
    """Write down that the work under a lease is to be halted, and why. Nobody is stopped, and the lease stays.

    Example: geartrain lease halt 7 "the arm is too hot"
    """
    lease_calls.note(folder, lambda session: Note(session, "halt", text, number))


@lease.command()
@text_argument
@lease_folder_option
def spawn(text: str, folder: Path) -> None:
    """Write down that work is about to begin, before it has taken its first lease. Nothing is held by that.

    Example: geartrain lease spawn "welder 3 for workcell/left"
    """
    lease_calls.note(folder, lambda session: Note(session, "intent", text))


@lease.command("watch")
@click.option("--region", help="Only what touches this region.")
@click.option("--for", "for_s", type=Duration(), help="How long to watch; until it is ended if nothing is said.")
@lease_folder_option
@format_option
def lease_watch(region: str | None, for_s: float | None, folder: Path, form: TableFormat) -> None:
    """Show what happens to leases, as it is written down. A lease that runs out is written down by who comes next.

    Example: geartrain lease watch --region workcell
    """
    for line in watched(folder, region, for_s):
        if form == "json":
            _print_json([line])
        else:
            _print("  ".join(word for word in _story_row(line) if word) + "\n")
        sys.stdout.flush()


@lease.command("ls")
@lease_folder_option
@format_option
def lease_ls(folder: Path, form: TableFormat) -> None:
    """Show the leases there are now.

    Example: geartrain lease ls
    """
    found = held(folder)
    if form == "json":
        _print_json(found)
        return
    head = ("LEASE", "TOKEN", "REGIONS", "LABEL", "SESSION", "BIND", "LEFT")
    _print(in_columns(head, [(
        str(one.lease), str(one.token),
        ", ".join(f"{region} ({mode})" for region, mode in zip(one.regions, one.modes, strict=True)),
        one.label, str(one.session), one.bind, f"{one.left_s:.1f}s",
    ) for one in found]))  # fmt: skip


@lease.command()
@lease_folder_option
@format_option
def fsck(folder: Path, form: TableFormat) -> None:
    """Say whether a journal is whole, and what it comes to. Nothing is changed.

    Ends with 65 when it is damaged: the file and the place in it are named.

    Example: geartrain lease fsck
    """
    found = standing(folder)
    for line in found.said:
        click.echo(line, err=True)
    if form == "json":
        _print_json([found])
    else:
        _print(f"whole up to revision {found.revision}: {found.leases} leases, {found.sessions} sessions\n")


@lease.command()
@click.option("--region", help="Only what touches this region.")
@lease_folder_option
@format_option
def journal(region: str | None, folder: Path, form: TableFormat) -> None:
    """Show who held what when, and who was refused and why, as far back as it is kept.

    Example: geartrain lease journal --region workcell/left
    """
    lines = story(folder, region)
    if form == "json":
        _print_json(lines)
    else:
        head = ("REV", "AT", "WHAT", "LEASE", "TOKEN", "SESSION", "LABEL", "REGIONS", "SAID")
        _print(in_columns(head, [_story_row(line) for line in lines]))


def _story_row(line: Line) -> tuple[str, ...]:
    numbers = (str(number) if number else "" for number in (line.lease, line.token, line.session))
    return (str(line.revision or ""), line.at, line.what, *numbers, line.label, regions_text(line.regions), line.said)


@lease.command()
@lease_folder_option
@format_option
def compact(folder: Path, form: TableFormat) -> None:
    """Put a snapshot of what is held in the place of all records.

    A running arbiter does so itself: this ends with 4 meanwhile.

    Example: geartrain lease compact
    """
    made = compacted(folder)
    if form == "json":
        _print_json([made])
    else:
        kept = f"{made.leases} leases and {made.sessions} sessions"
        _print(f"{made.records} records up to revision {made.revision} have become a snapshot of {kept}\n")


# -- this machine -----------------------------------------------------------------------------------------------------


@geartrain.command()
@click.option("--clear", "clearing", is_flag=True, help="Remove what dead runs have left.")
@format_option
@click.pass_context
def doctor(ctx: click.Context, clearing: bool, form: TableFormat) -> None:
    """Say whether this machine can run pipelines, and what dead runs have left.

    Ends with 1 when something is wrong.

    Example: geartrain doctor --clear
    """
    found: list[Finding] = list(findings(clearing=clearing))
    if form == "json":
        _print_json(found)
    else:
        _print(in_columns(("WHAT", "VERDICT", "SAID"), [(one.what, one.verdict, one.said) for one in found]))
    ctx.exit(FAILED if any(finding.verdict == "fault" for finding in found) else 0)


@geartrain.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print what makes a shell complete commands, options, runs and daemons.

    Put `eval "$(geartrain completion bash)"` into ~/.bashrc, the same with zsh into ~/.zshrc, or the output for fish
    into ~/.config/fish/completions/geartrain.fish.

    Example: geartrain completion bash
    """
    _print(f"{script(shell, geartrain)}\n")


# -- figures --------------------------------------------------------------------------------------------------------


@geartrain.group(cls=Group)
def bench() -> None:
    """Measure this machine."""


@bench.command("clock")
@click.option("--events", type=click.IntRange(1, 1_000_000), default=50_000, show_default=True, help="How many.")
@click.option("--deadlines", type=click.IntRange(0, 1_000_000), default=5_000, show_default=True,
              help="How many are pending all the time.")  # fmt: skip
@click.option("--burst", type=click.IntRange(1, 10_000), default=8, show_default=True, help="How many events at once.")
@click.option("--every", "every_s", type=Duration(), default="12ms", show_default=True, help="How often a burst.")
@click.option("--seed", type=click.IntRange(0), default=7, show_default=True, help="The same events for the same seed.")
@click.option("--fold", "fold_s", type=Duration(), default="0s", show_default=True, help="Work for each event.")
@click.option("--backend", type=click.Choice(BACKENDS), default="asyncio", show_default=True, help="The loop.")
@click.option("--reaction-p99", "reaction_s", type=Duration(), default="2ms", show_default=True, help="The gate.")
@click.option("--lateness-p99", "lateness_s", type=Duration(), default="1ms", show_default=True, help="The gate.")
@click.option("--knee", is_flag=True, help="Then double the rate again and again, until reactions take 10 ms.")
@click.option("--out", "folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False), default=".bench",
              show_default=True, help="Where clock.json and the pictures go.")  # fmt: skip
@format_option
@click.pass_context
def bench_clock(
    ctx: click.Context,
    events: int,
    deadlines: int,
    burst: int,
    every_s: float,
    seed: int,
    fold_s: float,
    backend: Backend,
    reaction_s: float,
    lateness_s: float,
    knee: bool,
    folder: Path,
    form: TableFormat,
) -> None:
    """Send a storm of events through two processes beside thousands of deadlines, and say how late everything was.

    Ends with 1 when the gate has not held.

    Example: geartrain bench clock --events 5000
    """
    from geartrain.faces import bench_clock as bench

    plan = StormPlan(events=events, deadlines=deadlines, burst=burst, every_ns=max(1, ns_rounded_up(every_s)),
                     seed=seed, fold_ns=ns_rounded_up(fold_s))  # fmt: skip
    gate = StormGate(reaction_p99_ns=ns_rounded_up(reaction_s), lateness_p99_ns=ns_rounded_up(lateness_s))
    # Before minutes are spent on what could not be kept.
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.BadParameter(f"{folder} cannot be made: {error.strerror}", ctx, param_hint="'--out'") from None
    click.echo(f"This takes {duration_text(round(plan.seconds, 1))}.", err=True)
    one = bench.measured(plan, backend, gate)
    if form == "table":
        _print(bench.in_words(one))
    rates = []
    if knee:
        for rate in bench.knee(plan, backend):
            rates.append(rate)
            click.echo(f"{rate.offered:,.0f} events/s: p99 {rate.reaction_p99_ns / 1e6:.3f} ms", err=True)
    if form == "json":
        _print_json([bench.as_data(one, rates)])
    elif rates:
        _print(f"\n{bench.rates_in_words(rates)}")
    for path in bench.write(folder, one, rates):
        click.echo(f"written to {path}", err=True)
    ctx.exit(0 if one.held else FAILED)


# -- all of them ----------------------------------------------------------------------------------------------------


def _ask(run_name: str | None, question: Question, *, until_over: bool = False) -> Answer:
    return ask(live_run(run_name).folder, question, until_over=until_over)


def _checked(target: str, overrides: Sequence[str]) -> Pipeline:
    pipeline = pipeline_of(target, overrides)
    pipeline.checked()
    return pipeline


def _print_json(rows: Iterable[object]) -> None:
    _print("".join(f"{msgspec.json.encode(row).decode()}\n" for row in rows))


def _print(text: str) -> None:
    click.echo(text, nl=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code; every refusal in words."""
    # As `python -m geartrain` has it: `module:attr` finds a module of the present folder.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return int(geartrain.main(arguments, prog_name="geartrain", standalone_mode=False) or 0)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read this has had enough. What is still to be flushed goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
