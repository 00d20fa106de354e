"""The process of a run that needs most descriptors says how many they are, about."""

from geartrain.rules.descriptors import descriptors_needed
from geartrain.rules.pipeline import ChannelSpec, DaemonSpec, PipelineSpec, PortRef


def needed(homes: list[str], *channels: tuple[int, int], spares: int = 1) -> int:
    """By daemons in these processes, and channels from one to another."""
    return descriptors_needed(
        PipelineSpec(
            name="p",
            spares=spares,
            daemons=tuple(DaemonSpec(name=f"d{place}", process=home, run="m:D") for place, home in enumerate(homes)),
            channels=tuple(
                ChannelSpec(name=f"c{number}", writer=PortRef(f"d{here}", "out"), reader=PortRef(f"d{there}", "inp"))
                for number, (here, there) in enumerate(channels)
            ),
        )
    )


def test_each_process_and_each_spare_takes_some_of_the_supervisor() -> None:
    one = needed(["a"])
    assert needed(["a", "b"]) - one == needed(["a"], spares=2) - one > 0
    assert needed(["a", "a"]) == one


def test_channels_count_where_many_meet_and_not_within_a_process() -> None:
    to_one = [(place, 0) for place in range(1, 100)]
    assert needed(["a", *["b"] * 99], *to_one) > needed(["a", *["b"] * 99], *to_one[:50]) > needed(["a", "b"])
    assert needed(["a"] * 100, *to_one) == needed(["a"])


def test_a_usual_pipeline_fits_into_the_usual_limit_and_one_with_thousands_of_channels_does_not() -> None:
    assert needed([str(place) for place in range(50)], *[(place, place + 1) for place in range(49)]) < 1024
    assert needed(["a", *["b"] * 1000], *[(place, 0) for place in range(1, 1001)]) > 4096
