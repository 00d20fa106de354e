"""By how much too soon to be woken, so as to be there in time: what it takes to wake, learnt from being late.

    set to ring        the moment
        |---- lead ----|
            |- early: waits the rest awake            the lead shrinks a little
                        |- late                       the lead grows a little

A CPU that has gone to sleep takes 50 to 150 us to wake, and a loop some 30 us more to go on; both depend on the machine
and on what else it does. Half of all wake-ups come a little before their moment, so what is spent awake is little.
"""

# A lead is never longer: so long at most somebody waits awake.
MOST_NS = 200_000

_STEP_NS = 2_000


class Lead:
    """The lead of one timer."""

    __slots__ = ("ns",)

    def __init__(self) -> None:
        self.ns = 0

    def learn(self, late_ns: int) -> None:
        """So late, or so early, somebody went on. How much does not matter: one pause of seconds teaches nothing."""
        step_ns = _STEP_NS if late_ns > 0 else -_STEP_NS
        self.ns = min(max(0, self.ns + step_ns), MOST_NS)
