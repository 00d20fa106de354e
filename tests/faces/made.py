"""A pipeline that is declared in Python."""

from geartrain import Pipeline
from tests.faces import parts


def pipeline() -> Pipeline:
    made = Pipeline("made")
    source = made.add(parts.Source, name="source")
    sink = made.add(parts.Sink, name="sink")
    made.connect(source.out, sink.inp)
    return made


def broken() -> Pipeline:
    raise RuntimeError("no pipeline today")
