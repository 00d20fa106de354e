"""What an observer has seen, as the page reads it."""

from geartrain.faces.web_shown import live_of
from geartrain.rules.slots import BUCKETS, bucket_ends_ns, bucket_of
from tests.faces.web_parts import brain, eyes, seen
from tests.rules import looks


def test_percentiles_are_those_of_the_buckets_and_null_where_no_body_has_run() -> None:
    counts = [0] * BUCKETS
    short, long = bucket_of(1_000_000), bucket_of(80_000_000)
    counts[short], counts[long] = 97, 3
    view = seen(eyes(looks.slot(name="camera", executions=100, max_ns=90_000_000)), brain())
    camera, *others = live_of(view, {"camera": tuple(counts)}).daemons
    assert camera.name == "camera"
    assert (camera.p50_s, camera.p99_s) == (bucket_ends_ns(short) / 1e9, bucket_ends_ns(long) / 1e9)
    assert {(other.p50_s, other.p99_s) for other in others} == {(None, None)}


def test_no_percentile_is_greater_than_the_longest_body() -> None:
    counts = [0] * BUCKETS
    counts[bucket_of(5_090_000)] = 100
    view = seen(eyes(looks.slot(name="camera", executions=100, max_ns=5_090_000)), brain())
    camera, *_ = live_of(view, {"camera": tuple(counts)}).daemons
    assert (camera.p50_s, camera.p99_s, camera.max_s) == (0.00509, 0.00509, 0.00509)
