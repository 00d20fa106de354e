"""The shape of a type is its structure, and not where it is written down."""

import subprocess
import sys
from pathlib import Path

from geartrain.engine.shape import shape_of
from geartrain.rules.calls import Reply, Request

TWINS = """
import msgspec
class Frame(msgspec.Struct):
    number: int
"""


def test_the_shape_of_an_envelope_is_that_of_its_item_wherever_that_lives(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / f"twin_{name}.py").write_text(TWINS)
    script = (
        "from twin_one import Frame as A; from twin_other import Frame as B\n"
        "from geartrain.rules.calls import Reply, Request; from geartrain.engine.shape import shape_of\n"
        "print(shape_of(Request[A]) == shape_of(Request[B]), shape_of(Reply[A]) == shape_of(Reply[B]))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "True True\n"
    shapes = {shape_of(kind) for kind in (Request[int], Request[str], Reply[int], Reply[str])}
    assert len(shapes) == 4
