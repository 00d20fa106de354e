"""The pytest plugin: one fixture for those who ask for it. Nothing happens by itself, and nothing is loaded before."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from geartrain.faces.testing import PipelineRunner


@pytest.fixture
def run_pipeline(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> "Iterator[PipelineRunner]":
    """`await run_pipeline(pipeline, in_process=, clock=, timeout=)`: a `PipelineRunner` of geartrain.

    What the processes print is in the report of a test that fails. A test that leaves a process, a socket or shared
    memory of a run behind is an error.
    """
    from geartrain.faces.testing import PipelineRunner  # every run of pytest loads this file

    def attach(title: str, text: str) -> None:
        request.node.add_report_section("call", title, text)

    runner = PipelineRunner(attach, tmp_path_factory.mktemp("geartrain"))
    yield runner
    if left := runner.left_behind():
        pytest.fail(left, pytrace=False)
