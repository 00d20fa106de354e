"""What somebody may have meant who wrote a name that is not known."""

from collections.abc import Collection
from difflib import get_close_matches


def nearest(met: str, known: Collection[str]) -> str | None:
    """The known name that looks most like it, if one does."""
    by_lower = {name.lower(): name for name in reversed(tuple(known))}
    close = get_close_matches(met.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[close[0]] if close else None


def did_you_mean(met: str, known: Collection[str], nobody: str = "there are none") -> str:
    """The end of a sentence that refuses a name: the nearest one, else all there are."""
    close = nearest(met, known)
    if close is not None:
        return f"did you mean {close!r}?"
    return f"known: {', '.join(known)}" if known else nobody
