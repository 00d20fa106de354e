"""What somebody who looks into a channel has still to be shown: few, and the rest is counted."""

from geartrain.engine.signal import Bell
from geartrain.rules.shown import Few, Shown

_ITEMS = 1000
_ITEMS_BYTES = 1024 * 1024


class Echo:
    """One who looks. He may be slow, or stand still: it costs nobody anything but him."""

    def __init__(self) -> None:
        self._few = Few(_ITEMS, _ITEMS_BYTES)
        self._news = Bell()

    def put(self, shown: tuple[Shown, ...]) -> None:
        for one in shown:
            self._few.put(one)
        self._news.ring()

    async def next(self) -> tuple[Shown, ...]:
        """What there is, once there is something."""
        while not self._few:
            await self._news.wait()
        return self._few.take()
