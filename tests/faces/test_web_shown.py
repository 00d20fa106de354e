"""What an observer has seen, as the page reads it."""

from geartrain.faces.web_shown import live_of
from geartrain.rules.slots import BUCKETS, bucket_ends_ns, bucket_of
from tests.faces.web_parts import VIEW


def test_percentiles_are_those_of_the_buckets_and_null_where_no_body_has_run() -> None:
    counts = [0] * BUCKETS
    short, long = bucket_of(1_000_000), bucket_of(80_000_000)
    counts[short], counts[long] = 97, 3
    camera, *others = live_of(VIEW, {"camera": tuple(counts)}).daemons
    assert camera.name == "camera"
    assert (camera.p50_s, camera.p99_s) == (bucket_ends_ns(short) / 1e9, bucket_ends_ns(long) / 1e9)
    assert {(other.p50_s, other.p99_s) for other in others} == {(None, None)}
