"""What a shell offers when somebody presses Tab: daemons and runs that are alive, and files.

    geartrain completion bash      the script, for the shell to read once
    geartrain                      asked by that script, with `_GEARTRAIN_COMPLETE` in its environment

A shell waits for the answer, so nothing is asked for long; and where nothing can be said, nothing is offered.
"""

from collections.abc import Iterator

import click
from click.shell_completion import CompletionItem, get_completion_class

from geartrain.engine.control import Answer, AskChannels, AskStandings, Question, ask
from geartrain.errors import GeartrainError
from geartrain.faces.runs import live_run, logs_in, pipeline_name, state_of
from geartrain.ports.run_directory import kept_states, live_runs

SHELLS = ("bash", "zsh", "fish")

_ANSWER_WITHIN_S = 1.0


def script(shell: str, command: click.Command) -> str:
    kind = get_completion_class(shell)
    assert kind is not None
    return kind(command, {}, "geartrain", "_GEARTRAIN_COMPLETE").source()


def daemon_names(ctx: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """The daemons of the run that is named, or of the only one."""
    answer = _answer(ctx, AskStandings())
    return [] if answer is None else _beginning([standing.daemon for standing in answer.daemons], begun)


def channel_names(ctx: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    answer = _answer(ctx, AskChannels())
    return [] if answer is None else _beginning([counts.channel for counts in answer.channels], begun)


def log_names(ctx: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """Whose logs there are."""
    try:
        return _beginning(sorted({log.process for log in logs_in(state_of(ctx.params.get("run_name")), None)}), begun)
    except GeartrainError:
        return []


def run_names(_ctx: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """The runs that are alive, by their pipelines' names where that is enough."""
    try:
        return _beginning(list(_short([run.run_id for run in live_runs()])), begun)
    except GeartrainError:
        return []


def kept_names(_ctx: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """The runs of which something is kept, the youngest first; a pipeline's name means its last one."""
    try:
        ids = [path.name for path in kept_states()]
        return _beginning(list(dict.fromkeys((*map(pipeline_name, ids), *ids))), begun)
    except GeartrainError:
        return []


def files(_ctx: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """The shell knows them better."""
    return [CompletionItem(begun, type="file")]


def _answer(ctx: click.Context, question: Question) -> Answer | None:
    try:
        folder = live_run(ctx.params.get("run_name")).folder
        return ask(folder, question, within_s=_ANSWER_WITHIN_S)
    except GeartrainError:
        return None


def _short(ids: list[str]) -> Iterator[str]:
    names = [pipeline_name(run_id) for run_id in ids]
    for name, run_id in zip(names, ids, strict=True):
        yield name if names.count(name) == 1 else run_id


def _beginning(words: list[str], begun: str) -> list[str]:
    return [word for word in words if word.startswith(begun)]
