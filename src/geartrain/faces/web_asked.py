"""What a request asks for, or a refusal that says what may be asked. Nothing bogus is taken for the usual."""

from typing import get_args

from starlette.requests import Request

from geartrain.faces.web_answers import Refused
from geartrain.rules.view import StatusFilter

STATUSES: tuple[StatusFilter, ...] = get_args(StatusFilter)


def status(request: Request) -> StatusFilter | None:
    """None where nothing is said: those faults that are present."""
    said = request.query_params.get("status")
    if said is None:
        return None
    for known in STATUSES:
        if said == known:
            return known
    raise Refused(400, "invalid-parameter", f"status is one of {', '.join(STATUSES)}, not {said!r}", parameter="status")


def seconds(request: Request, name: str, usual: float, least: float) -> float:
    said = request.query_params.get(name)
    if said is None:
        return usual
    try:
        seconds = float(said)
        if 0 <= seconds <= 3600:
            return max(seconds, least)
    except ValueError:
        pass
    raise Refused(400, "invalid-parameter", f"{name} is a number of seconds up to 3600, not {said!r}", parameter=name)


def whole(request: Request, name: str, usual: int, most: int) -> int:
    said = request.query_params.get(name, str(usual))
    if said.isascii() and said.isdecimal() and len(said) < 10 and 1 <= int(said) <= most:
        return int(said)
    raise Refused(400, "invalid-parameter", f"{name} is a whole number from 1 to {most}, not {said!r}", parameter=name)


def flag(request: Request, name: str) -> bool:
    said = request.query_params.get(name, "false")
    if said not in ("true", "false"):
        raise Refused(400, "invalid-parameter", f"{name} is true or false, not {said!r}", parameter=name)
    return said == "true"


def last_id(request: Request) -> int | None:
    """A header when a browser connects again by itself; a parameter for whoever cannot set one."""
    said = request.headers.get("last-event-id") or request.query_params.get("last_event_id")
    if said is None or said == "":
        return None
    if said.isascii() and said.isdecimal() and len(said) < 20:
        return int(said)
    raise Refused(400, "invalid-parameter", f"Last-Event-ID is a whole number, not {said!r}", parameter="last_event_id")
