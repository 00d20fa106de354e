"""Folders of one's own: where sockets may lie that nobody else can reach."""

import os
import stat
import tempfile
from pathlib import Path

from geartrain.errors import BadValue


def private_dir(name: str) -> Path:
    """A folder that only this user can enter, the same for every script that asks by this name.

    It lies in `$XDG_RUNTIME_DIR/geartrain`, or where there is none in the folder for temporary files.
    """
    if not name or "/" in name or name in (".", ".."):
        raise BadValue(f"a private folder's name is one word without slashes, got {name!r}")
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    base = Path(runtime) / "geartrain" if runtime else Path(tempfile.gettempdir()) / f"geartrain-{os.getuid()}"
    for folder in (base, base / name):
        folder.mkdir(mode=0o700, exist_ok=True)
        check_private(folder)
    return base / name


def check_private(folder: Path) -> None:
    """Refuse a folder that is a link, is somebody else's, or lets others in."""
    try:
        found = os.lstat(folder)
    except FileNotFoundError as error:
        raise BadValue(f"the folder {folder} does not exist; geartrain.private_dir(name) makes a good one") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise BadValue(
            f"{folder} must be a folder of yours that nobody else can enter (mode 0700, and no link); "
            "geartrain.private_dir(name) makes one"
        )
