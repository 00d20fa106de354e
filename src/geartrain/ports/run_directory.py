"""Where a run has its sockets and says who belongs to it, and where what it has to tell lies after it is dead.

    $XDG_RUNTIME_DIR/geartrain/<run id>/          all that the run shares; whoever removes it removes everything
        run.lock                                  locked as long as the run lives, by the kernel and no number in a file
        <name>.process                            one for each process: number, start time, boot
        <12 letters>                              sockets, and beside them counters and planes
    $XDG_STATE_HOME/geartrain/runs/<run id>/      logs and set-aside items, of the last ten runs

A run id is the pipeline's name and some letters of chance. A folder is looked at before it is used, and nothing is
removed through a link, of another user, or of a run that has a process alive.
"""

import hashlib
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from geartrain.errors import BadValue, PlaceRefused, ProcessFailed
from geartrain.ports.linux import need_linux
from geartrain.ports.places import check_private, own_folder, remove_folder, runtime_folder
from geartrain.ports.process_table import Identity, identity_of, is_alive

if sys.platform == "linux":
    import fcntl

KEPT_RUNS = 10

# What the kernel takes as the path of a socket.
_SOCKET_PATH_BYTES = 107
_SOCKET_NAME_BYTES = 12
_LOCK = "run.lock"
_RECORD = ".process"
# A folder in the making is hidden. One that its maker has left like that is dead after a while.
_HIDDEN = "."
_MAKING_S = 60.0


class Run(Struct, frozen=True):
    """A run as others see it. `left_over` are processes of a dead run that are still alive."""

    run_id: str
    folder: Path
    alive: bool
    processes: tuple[tuple[str, Identity], ...] = ()

    @property
    def left_over(self) -> tuple[Identity, ...]:
        return () if self.alive else tuple(who for _, who in self.processes if is_alive(who))


class RunDirectory:
    """The folder of a run that is alive, which it is until `close`, or until this process is dead."""

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        self.run_id = folder.name
        self._lock: int | None = lock

    def socket_path(self, name: str) -> Path:
        """Where the socket of this name lies. Short, whatever the name is."""
        return _place_in(self.folder, name)

    def record(self, name: str, pid: int) -> None:
        """This process belongs to the run, under this name; a former one of the name does not any more."""
        _check_word("a process", name)
        who = identity_of(pid)
        if who is None:
            raise ProcessFailed(f"{name!r} cannot be entered as a process of {self.run_id}: there is no process {pid}")
        hidden = self.folder / f"{_HIDDEN}{name}{_RECORD}"
        with _in_words(f"{name!r} cannot be entered as a process of {self.run_id}"):
            hidden.write_bytes(msgspec.json.encode(who))
            hidden.rename(self.folder / f"{name}{_RECORD}")

    def forget(self, name: str) -> None:
        """The process of this name is gone, as agreed."""
        with _in_words(f"{name!r} cannot be taken off the processes of {self.run_id}"):
            (self.folder / f"{name}{_RECORD}").unlink(missing_ok=True)

    def close(self) -> None:
        """The run is over: its folder goes. State stays."""
        if self._lock is not None:
            remove_folder(self.folder)
            os.close(self._lock)
            self._lock = None


def counter_path(folder: Path, channel: str) -> Path:
    """Where the writer of a channel counts what it has accepted."""
    return _place_in(folder, channel).with_suffix(".count")


def plane_path(folder: Path, channel: str) -> Path:
    """Where the reader of a channel that may go stale tells that something has come."""
    return _place_in(folder, channel).with_suffix(".plane")


def _place_in(folder: Path, name: str) -> Path:
    return folder / hashlib.blake2b(name.encode(), digest_size=_SOCKET_NAME_BYTES // 2).hexdigest()


def new_run(pipeline: str) -> RunDirectory:
    """A folder for a new run of a pipeline, locked. Two runs of one pipeline have two."""
    need_linux()
    _check_word("a pipeline", pipeline)
    folder = runtime_folder() / f"{pipeline}-{os.urandom(4).hex()}"
    _check_socket_paths(folder)
    # Seen by others only once it is locked: without its lock it would look like a dead run's.
    hidden = own_folder(folder.with_name(f"{_HIDDEN}{folder.name}"))
    try:
        lock = _lock(hidden / _LOCK)
        hidden.rename(folder)
    except OSError as error:
        remove_folder(hidden)
        raise PlaceRefused(f"the folder {folder} of a new run cannot be made: {error.strerror}") from error
    return RunDirectory(folder, lock)


def _lock(path: Path) -> int:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return file


def all_runs() -> tuple[Run, ...]:
    """Every run of this user that has a folder, dead or alive, by name."""
    need_linux()
    base = runtime_folder()
    seen = (_look_at(base / name) for name in sorted(os.listdir(base)))
    return tuple(run for run in seen if run is not None)


def live_runs() -> tuple[Run, ...]:
    return tuple(run for run in all_runs() if run.alive)


def dead_runs() -> tuple[Run, ...]:
    """What runs have left that did not end by themselves."""
    return tuple(run for run in all_runs() if not run.alive)


def clear(dead: Run) -> bool:
    """Remove what a dead run has left. False where it is alive after all, or a process of it is still there."""
    found = _look_at(dead.folder)
    if found is None or found.alive or found.left_over:
        return False
    remove_folder(dead.folder)
    return True


def state_dir(run_id: str) -> Path:
    """The folder for what outlives a run. Of those of former runs the last ten are kept, and those of live runs."""
    need_linux()
    _check_word("a run", run_id)
    base = _state_folder()
    folder = own_folder(base / run_id)
    _keep_the_last(base, folder)
    return folder


def kept_states() -> tuple[Path, ...]:
    """The state folders that there are, the youngest first: those of live runs and of the last dead ones."""
    need_linux()
    return tuple(sorted(filter(_is_ours, _state_folder().iterdir()), key=_age_key, reverse=True))


# -- looking --------------------------------------------------------------------------------------------------------


def _look_at(folder: Path) -> Run | None:
    """None for what is not the folder of a run: somebody else's, a link, a script's own, one in the making."""
    try:
        check_private(folder)
        if folder.name.startswith(_HIDDEN):
            return Run(folder.name, folder, alive=False) if _is_abandoned(folder) else None
        return Run(folder.name, folder, _is_locked(folder / _LOCK), tuple(_records(folder)))
    except (PlaceRefused, OSError):
        return None


def _is_abandoned(hidden: Path) -> bool:
    """Whether its maker, or its remover, must have died over it."""
    age_s = time.time() - os.lstat(hidden).st_ctime
    with suppress(FileNotFoundError):
        return age_s > _MAKING_S and not _is_locked(hidden / _LOCK)
    return age_s > _MAKING_S


def _is_locked(lock: Path) -> bool:
    """Whether somebody alive holds it. A shared lock is tried, so that two who look do not take each other for it."""
    file = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def _records(folder: Path) -> Iterator[tuple[str, Identity]]:
    for path in sorted(folder.glob(f"*{_RECORD}")):
        # A record that cannot be read is one that is being written, or was cut by a full disk.
        with suppress(OSError, msgspec.MsgspecError):
            yield path.name.removesuffix(_RECORD), msgspec.json.decode(path.read_bytes(), type=Identity)


# -- checking -------------------------------------------------------------------------------------------------------


def _check_word(what: str, name: str) -> None:
    if not name or name.startswith(_HIDDEN) or "/" in name or "\0" in name:
        raise BadValue(f"{what} is named by one word without slashes that does not begin with a dot, got {name!r}")


def _check_socket_paths(folder: Path) -> None:
    needed = len(os.fsencode(folder)) + 1 + _SOCKET_NAME_BYTES
    if needed > _SOCKET_PATH_BYTES:
        raise PlaceRefused(
            f"sockets in {folder} would have paths of {needed} bytes, and the system takes {_SOCKET_PATH_BYTES}; "
            f"make the pipeline's name {needed - _SOCKET_PATH_BYTES} bytes shorter, or XDG_RUNTIME_DIR"
        )


@contextmanager
def _in_words(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PlaceRefused(f"{what}: {error.strerror}") from error


# -- state ----------------------------------------------------------------------------------------------------------


def _state_folder() -> Path:
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():
        state = Path(os.path.expanduser("~")) / ".local" / "state"
    with _in_words(f"the folder {state} cannot be made"):
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
    return own_folder(own_folder(state / "geartrain") / "runs")


def _keep_the_last(base: Path, present: Path) -> None:
    """The younger ones stay. What is not ours, or not a folder, is not counted and not touched."""
    alive = {run.run_id for run in live_runs()}
    former = [path for path in base.iterdir() if path != present and path.name not in alive and _is_ours(path)]
    for path in sorted(former, key=_age_key)[: -(KEPT_RUNS - 1)]:
        remove_folder(path)


def _is_ours(folder: Path) -> bool:
    try:
        check_private(folder)
    except PlaceRefused:
        return False
    return True


def _age_key(folder: Path) -> tuple[int, str]:
    with suppress(FileNotFoundError):
        return (os.lstat(folder).st_mtime_ns, folder.name)
    return (0, folder.name)
