"""The page and its files: read once, served as they are, and nothing else of any folder."""

from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable

from starlette.responses import Response

from geartrain.faces.web_answers import Refused

_MEDIA = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
    "txt": "text/plain; charset=utf-8",
}
_FIRST = "/index.html"

# Nothing comes from elsewhere, nothing is sent elsewhere, and nobody shows the page within his own.
_HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


class Page:
    """The files, by their path."""

    def __init__(self, folder: Traversable | None = None) -> None:
        self._files = dict(_read(folder or files("geartrain.faces") / "web", ""))

    def files(self) -> Iterator[tuple[str, str]]:
        """Path and media type of each."""
        return ((path, _media(path)) for path in self._files)

    def answer(self, path: str) -> Response:
        wanted = _FIRST if path == "/" else path
        if wanted not in self._files:
            raise Refused(404, "not-found", "this installation has no page; the API is at /api/v1")
        return Response(self._files[wanted], media_type=_media(wanted), headers=_HEADERS)


def _read(folder: Traversable, path: str) -> Iterator[tuple[str, bytes]]:
    if not folder.is_dir():
        return
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        where = f"{path}/{entry.name}"
        if entry.is_dir():
            yield from _read(entry, where)
        elif entry.name.rpartition(".")[2] in _MEDIA:
            yield where, entry.read_bytes()


def _media(path: str) -> str:
    return _MEDIA[path.rpartition(".")[2]]
