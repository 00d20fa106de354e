"""How many descriptors a run takes, about: the largest of its processes says it, for the limit is one for each.

    the supervisor      two logs with their files, a slot file, a control socket and a pidfd for each process
    a process           sockets and their wake-ups for each end of a channel that leaves it

The figures were counted on both loops, with room for a restart on top.
"""

from collections import Counter

from geartrain.rules.pipeline import PipelineSpec

_ANYWHERE = 32
_FOR_A_PROCESS = 9
_FOR_AN_END = 6


def descriptors_needed(carried: PipelineSpec) -> int:
    """By the process that needs most, of a pipeline whose entries are channels, each with one writer and one reader."""
    home = {daemon.name: daemon.process for daemon in carried.daemons}
    ends = Counter[str]()
    for channel in carried.channels:
        assert channel.writer is not None
        assert channel.reader is not None
        here, there = home[channel.writer.daemon], home[channel.reader.daemon]
        if here != there:
            ends.update((here, there))
    most_ends = max(ends.values(), default=0)
    return _ANYWHERE + max(_FOR_A_PROCESS * (len(set(home.values())) + (carried.spares or 1)), _FOR_AN_END * most_ends)
