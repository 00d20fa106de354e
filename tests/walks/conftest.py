"""Runs of these tests have folders of their own, and leave nothing behind."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def places_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, nothing_left: Callable[[], list[int]]) -> None:
    place = tmp_path / "p"
    place.mkdir()
    for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(place))
