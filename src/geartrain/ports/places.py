"""Folders of one's own: where sockets may lie that nobody else can reach."""

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from geartrain.errors import BadValue, PlaceRefused

_A_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


def private_dir(name: str) -> Path:
    """A folder that only this user can enter, the same for every script that asks by this name.

    It lies in `$XDG_RUNTIME_DIR/geartrain`, or where there is none in the folder for temporary files.
    """
    if not name or "/" in name or name in (".", ".."):
        raise BadValue(f"a private folder's name is one word without slashes, got {name!r}")
    return own_folder(runtime_folder() / name)


def runtime_folder() -> Path:
    """Where this user's running pipelines have their folders."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        return own_folder(Path(runtime) / "geartrain")
    return own_folder(Path(tempfile.gettempdir()) / f"geartrain-{os.getuid()}")


def own_folder(folder: Path) -> Path:
    """This folder, made if it was not there, and nobody else's."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except FileExistsError:
        # A file, or a link to nowhere: what it is, is said below.
        pass
    except OSError as error:
        raise PlaceRefused(f"the folder {folder} cannot be made: {error.strerror}") from error
    check_private(folder)
    return folder


def check_private(folder: Path) -> None:
    """Refuse a folder that is a link, is somebody else's, or lets others in."""
    try:
        found = os.lstat(folder)
    except FileNotFoundError as error:
        raise PlaceRefused(
            f"the folder {folder} does not exist; geartrain.private_dir(name) makes a good one"
        ) from error
    except OSError as error:
        raise PlaceRefused(f"the folder {folder} cannot be looked at: {error.strerror}") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PlaceRefused(
            f"{folder} must be a folder of yours that nobody else can enter (mode 0700, and no link); "
            "geartrain.private_dir(name) makes one"
        )


def remove_folder(folder: Path) -> None:
    """Remove a folder and all that is in it. A link is removed and not followed; what is gone already is no fault.

    It is hidden first: who dies in the middle of this leaves nothing that looks like a folder in use.
    """
    hidden = folder if folder.name.startswith(".") else folder.with_name(f".{folder.name}")
    try:
        with suppress(FileNotFoundError):
            folder.rename(hidden)
            _empty(os.open(hidden, _A_FOLDER))
            os.rmdir(hidden)
    except OSError as error:
        raise PlaceRefused(f"the folder {folder} cannot be removed: {error.strerror} ({error.filename})") from error


def _empty(folder: int) -> None:
    """Everything is done by descriptor, so that no folder can be exchanged for a link on the way."""
    try:
        with os.scandir(folder) as entries:
            for entry in list(entries):
                with suppress(FileNotFoundError):
                    _remove(folder, entry)
    finally:
        os.close(folder)


def _remove(folder: int, entry: "os.DirEntry[str]") -> None:
    if entry.is_dir(follow_symlinks=False):
        _empty(os.open(entry.name, _A_FOLDER, dir_fd=folder))
        os.rmdir(entry.name, dir_fd=folder)
    else:
        os.unlink(entry.name, dir_fd=folder)
