"""Every key of a pipeline file, as a page. `python -m tests.rules.keys` writes docs/pipeline-file.md anew.

What a key must be and what it is without being said is asked of the code: what it answers to a value that is wrong, and
what it makes of a file that says nothing. What a key means, and an example of it, is said here and nowhere else. A key
without a meaning, a meaning without a key and an example that is refused are errors.
"""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import fields

from geartrain.rules.pipeline import HEALTHY_S, ChannelSpec, DaemonSpec, PipelineSpec, ProcessSpec, ServiceSpec
from geartrain.rules.pipeline_file import read, tables_of, usual_maxsize
from geartrain.rules.restart import RestartPolicy

PAGE = Path(__file__).parent.parent.parent / "docs" / "pipeline-file.md"
BEGIN = "<!-- from here on written by tests/rules/keys.py -->\n"


class Key(Struct, frozen=True):
    """What is said of a key by hand. `usual` is for a default that is no value but depends on others."""

    example: str
    means: str
    usual: str | None = None


class Table(Struct, frozen=True):
    """A table of the file; `spec` is what becomes of it, and `path` where it stands."""

    title: str
    path: tuple[str, ...]
    spec: type[Struct]
    intro: str
    keys: dict[str, Key]


TABLES = (
    Table(
        "[pipeline]",
        ("pipeline",),
        PipelineSpec,
        "One in each file.",
        {
            "name": Key('"vision"', "What the run is called. All names of a file are of letters, digits, - and _."),
            "backend": Key('"trio"', "The loop of every process that does not say its own."),
            "spares": Key(
                "2",
                "How many warm processes wait, imports done, to take the place of one that died.",
                "1 if a daemon says `restart`, else 0",
            ),
            "observe": Key(
                '"127.0.0.1:8080"',
                "Where an observer shows the run while it runs; `unix:/path` for a socket. Needs `geartrain[web]`.",
                "nowhere",
            ),
        },
    ),
    Table(
        "[daemons.NAME]",
        ("daemons", "x"),
        DaemonSpec,
        "One for each daemon, with either `run` or `command`.",
        {
            "run": Key('"vision:Camera"', "What runs: a Daemon class or an `@daemon` function, as `module:attr`. "
                       "Modules next to the file are found, wherever you are.", "required, or `command`"),
            "command": Key('["ffmpeg", "-i", "a.mp4"]', "A foreign program instead. It has no ports and no config, and "
                           "a process of its own.", "required, or `run`"),
            "process": Key('"eyes"', "The process it runs in. Daemons that say the same share one.", "the name of the "
                           "daemon"),
            "on_error": Key('"restart"', "What its failure or the death of its process means: the end of the pipeline, "
                            "a new life, or that the others go on without it."),
            "restart": Key('{ max_retries = 5, within = "30s" }', "How often and how soon it is started again: "
                           "[below](#restart).", f'`within = "{HEALTHY_S:g}s"`, and for ever'),
            "start_within": Key('"5s"', "How long it may take until `on_start` has returned and its channels have met "
                                "their other ends; then its process is ended, and `on_error` decides.", "for ever"),
            "budget": Key('"5ms"', "How long the body of a cycle of `every` may take. One that takes longer is the "
                          "last: the daemon is held until `geartrain clear` ([pipelines](pipelines.md)).", "any time"),
            "config": Key("{ fps = 30 }", "The arguments of its constructor that are no ports, checked against their "
                          "annotations.", "none"),
        },
    ),
    Table(
        "restart",
        ("daemons", "x", "restart"),
        RestartPolicy,
        'A table of a daemon with `on_error = "restart"`. The first time after a healthy stretch (`within`) it is '
        "started again at once; then after `base`, `base * factor` and so on, up to `cap`.",
        {
            "base": Key('"100ms"', "The delay before the second time."),
            "factor": Key("1.5", "By how much each delay is longer than the one before."),
            "cap": Key('"10s"', "The longest delay."),
            "max_retries": Key("5", "With more deaths than this within `within` it is given up: the pipeline ends, "
                               "with the first cause.", "for ever"),
            "within": Key('"30s"', "Only deaths this recent count.", "every death counts"),
            "jitter": Key("0.1", "By which part of itself a delay is made longer or shorter, by chance."),
        },
    ),
    Table(
        "[channels.NAME]",
        ("channels", "x"),
        ChannelSpec,
        "One for each channel, or pair of call ports. Between daemons of one process items are handed over, between "
        "processes they are encoded. More about what is promised: [channels](channels.md).",
        {
            "from": Key('"camera.frames"', "The port that sends (or calls), as `daemon.port`."),
            "to": Key('"detector.frames"', "The port that receives (or answers)."),
            "maxsize": Key("8", "How many items may be accepted and not yet taken; 0 is a rendezvous. Of call ports: "
                           f"how many calls are under way. With `latest` it is {usual_maxsize('latest')}."),
            "policy": Key('"latest"', "What happens when it is full: the writer waits, or an item is dropped and "
                          "counted. Only `block` loses nothing."),
            "ack": Key('"manual"', "When the reader is done with an item: when it asks for the next one, told in "
                       "batches or each at once, or when it says `done(mark)`."),
            "keep": Key('"taken"', "How long the writer keeps an item for a reader that may die: until all that came "
                        "of it is safe, or only until it is taken. `taken` may close a cycle."),
            "max_bytes": Key('"16MiB"', "The bound in bytes; a larger item is refused where it is sent."),
            "retain": Key("200", "How many items that are not stable yet the writer keeps; no less than `maxsize`.",
                          "what `maxsize` here and further down need"),
            "max_deliveries": Key("5", 'How many readers an item may kill before it is set aside; `"never"` to go on '
                                  "for ever."),
            "transport": Key('"tcp"', "How it crosses from process to process; `auto` is `ipc`. With `tcp` the run has "
                             "keys of its own."),
            "on_peer_restart": Key('"restart"', "Whether the reader, with its process, is made anew when its writer "
                                   "is."),
            "stale_after": Key('"200ms"', "When nothing has come for longer than this, the channel is stale: told to "
                               "whoever takes `Planes`, logged, and shown ([the clock](clock.md)).", "never"),
            "fenced": Key('"workcell/left"', "A region: only who holds a lease on it sends, and what comes under "
                          "an older lease than the newest is refused ([leases](leases.md)).", "none"),
        },
    ),
    Table(
        "[processes.NAME]",
        ("processes", "x"),
        ProcessSpec,
        "For a process that needs settings; a process is there when a daemon names it.",
        {
            "backend": Key('"trio"', "Its loop.", "the pipeline's"),
            "env": Key('{ OMP_NUM_THREADS = "1" }', "Added to its environment. All values are text.", "none"),
            "cwd": Key('"/srv/data"', "Its working directory.", "where you run it from"),
            "nice": Key("10", "Its niceness; less than 0 needs rights."),
            "hung_after": Key('"30s"', "When its loop has stood still for so long, it is reported as hung, with its "
                              'stacks; `"never"` to not look.'),
            "on_hang": Key('"kill"', "Whether a process that hangs is only reported, or ended too: `on_error` of its "
                           "daemons decides what comes."),
            "budget": Key('"10ms"', "How long the body of a cycle may take, whichever daemon of it is concerned. One "
                          "that takes longer holds all of them.", "any time"),
        },
    ),
    Table(
        "[services.NAME]",
        ("services", "x"),
        ServiceSpec,
        "For a job that one of several replicas runs once in each cycle: [services](services.md).",
        {
            "run": Key('"books:report"', "The function, as `module:function`. It is given a `ServiceRun`; one that is "
                       "not async runs in a thread."),
            "every": Key('"1m"', "How long a cycle is."),
            "replicas": Key('["left", "right"]', "How many processes of its own stand by, or which processes of the "
                            "pipeline do."),
            "overlap": Key('"wait"', "What becomes of a cycle that begins while an earlier one still runs."),
            "missed": Key('"run_once"', "What becomes of a cycle that has passed and that nobody ran."),
            "grace": Key('"30s"', "How long a run that is to make room may take to leave; then its process is ended."),
            "silent_after": Key('"30s"', "A replica that says nothing for so long while it has a run is ended with its "
                                "process, and another one gets the cycle."),
        },
    ),
)  # fmt: skip

# What a spec says that no file does, and what is called otherwise there.
_NOT_IN_FILES = {"name", "file", "daemons", "channels", "processes", "services", "first_at_once"}
_IN_FILES = {"writer": "from", "reader": "to"}


def keys_of(table: Table) -> set[str]:
    """The keys that the code knows."""
    names = {_IN_FILES.get(field.name, field.name) for field in fields(table.spec)} - _NOT_IN_FILES
    return names | {"name"} if table.spec is PipelineSpec else names


def refusals(table: Table, key: str, text: str) -> list[str]:
    """What the code says of this value of this key."""
    faults = read(_file(table, {key: tomllib.loads(f"value = {text}")["value"]})).faults
    path = ".".join((*table.path, key))
    return [fault.said for fault in faults if f"{fault.key}.".startswith(f"{path}.") and "is missing" not in fault.said]


def _file(table: Table, values: dict[str, Any]) -> dict[str, Any]:
    tables = values
    for name in reversed(table.path):
        tables = {name: tables}
    return tables


def required(table: Table, key: str) -> bool:
    path = ".".join((*table.path, key))
    return any(fault.key == path and "is missing" in fault.said for fault in read(_file(table, {})).faults)


def must_be(table: Table, key: str) -> str:
    """What the code says when it gets a value that is nothing of the kind, and a number out of bounds."""
    (said,) = (said for said in refusals(table, key, "[[]]") if said.startswith("must "))
    words = _expected(said).replace("must be ", "").replace("one of ", "").replace("must name", "names")
    if words in ("a whole number", "a number"):
        *_, bound = (_expected(said) for value in ("-1000000", "1000000") for said in refusals(table, key, value))
        words += f", {bound.removeprefix('must be ')}"
    return words


def _expected(said: str) -> str:
    return said.partition(", got ")[0]


def usual(table: Table, key: str) -> str:
    """The value of a key that is not said."""
    by_hand = table.keys[key].usual
    if by_hand is not None:
        return by_hand
    if required(table, key):
        return "required"
    values: Any = tables_of(read(_file(table, {})).spec)
    for name in table.path:
        values = values[name]
    return f"`{_toml(values[key])}`"


def _toml(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def reference() -> str:
    return "".join(line + "\n" for table in TABLES for line in _section(table))


def _section(table: Table) -> Iterator[str]:
    yield from ("", f"## {table.title}", "", table.intro, "")
    yield from ("| key | must be | default | example | |", "| --- | --- | --- | --- | --- |")
    for name, key in table.keys.items():
        yield f"| `{name}` | {must_be(table, name)} | {usual(table, name)} | `{key.example}` | {key.means} |"


def page() -> str:
    """The page with its generated part anew."""
    by_hand, begin, _ = PAGE.read_text().partition(BEGIN)
    return by_hand + begin + reference()


if __name__ == "__main__":
    PAGE.write_text(page())
