"""The addresses of sounds and of their pictures, beside those of Gradio."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from threading import BoundedSemaphore, Lock
from typing import TYPE_CHECKING

from ..index.tables import SoundKey, of_sounds
from .media import ShownSounds, UnavailableSoundError, browser_type, convert_to_flac, local_file
from .pictures import mel_picture


if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response

    from ..sound_index import SoundIndex

SOUNDS, PICTURES = "sounds", "pictures"  # the beginnings of the addresses
# Other web sites may not embed the sounds, and browsers take them for nothing but what their type says.
_HEADERS = {
    "Cache-Control": "private, max-age=300",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
_MIB = 1 << 20
_MAX_DIGITS = 18  # of a number in the header `Range`
_PICTURES_AT_ONCE = 2  # more would slow down the search


@dataclass(frozen=True)
class SoundFiles:
    """Where the page finds the sounds of an index.

    Args:
        index: the index.
        shown: the sounds that were shown, by token.
        folder (`str`, *optional*): folder that holds the sounds now, in place of the one that was indexed.
        follow_links (`bool`): whether a file may lie outside its folder, where a link leads to.
    """

    index: "SoundIndex"
    shown: ShownSounds
    folder: str | None = None
    follow_links: bool = False

    def file(self, sound: SoundKey) -> Path:
        """The file of a sound, or an `UnavailableSoundError`."""
        return local_file(sound, self.folder, self.follow_links)

    def asked_for(self, token: str) -> Path:
        """The file of a token's sound that is still in the index, or an `UnavailableSoundError`."""
        sound = self.shown.get(token)
        if sound is None or self.index.tables.count_sounds(of_sounds([sound])) == 0:
            raise UnavailableSoundError("There is no such sound in the index. Ask again.")
        return self.file(sound)


class _Made:
    """The last results of something that is made from files, up to a number of bytes."""

    def __init__(self, max_bytes: int):
        self._max_bytes, self._num_bytes = max_bytes, 0
        self._made: OrderedDict[Hashable, bytes] = OrderedDict()
        self._lock = Lock()

    def get(self, file: Path, make: Callable[[], bytes]) -> bytes:
        status = file.stat()
        key = (str(file), status.st_size, status.st_mtime_ns)
        with self._lock:
            if key in self._made:
                self._made.move_to_end(key)
                return self._made[key]
        content = make()
        with self._lock:
            if key not in self._made:
                self._made[key] = content
                self._num_bytes += len(content)
            while self._num_bytes > self._max_bytes and len(self._made) > 1:
                self._num_bytes -= len(self._made.popitem(last=False)[1])
        return content


def add_routes(app: "FastAPI", files: SoundFiles) -> None:
    """Add `/sounds/TOKEN` and `/pictures/TOKEN.png` to an application.

    A sound answers with its bytes, to requests for a range too. A format that browsers do not play is converted to
    FLAC in memory. An unknown token, a sound that was removed from the index, and a file that lies outside its folder
    or is gone are answered with 404 and a sentence, and a sound that cannot be decoded with 415.
    """
    from starlette.responses import FileResponse, PlainTextResponse
    from starlette.responses import Response as Answer

    converted, pictures = _Made(256 * _MIB), _Made(32 * _MIB)
    drawing, converting = BoundedSemaphore(_PICTURES_AT_ONCE), BoundedSemaphore(1)

    def refused(error: Exception, status: int) -> "Response":
        return PlainTextResponse(
            str(error), status, {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
        )

    def sound(request: "Request") -> "Response":
        try:
            file = files.asked_for(request.path_params["token"])
        except (UnavailableSoundError, OSError) as error:
            return refused(error, 404)
        try:
            if (media_type := browser_type(file)) is not None:
                return FileResponse(file, media_type=media_type, headers=_HEADERS)
            with converting:
                content = converted.get(file, lambda: convert_to_flac(file))
        except (UnavailableSoundError, OSError) as error:
            return refused(error, 415)
        return ranged(content, "audio/flac", request.headers.get("range"))

    def picture(request: "Request") -> "Response":
        try:
            file = files.asked_for(request.path_params["token"])
        except (UnavailableSoundError, OSError) as error:
            return refused(error, 404)
        try:
            with drawing:
                content = pictures.get(file, lambda: mel_picture(file))
        except (ValueError, OSError) as error:
            return refused(error, 415)
        return Answer(content, media_type="image/png", headers=_HEADERS)

    app.add_route(f"/{SOUNDS}/{{token}}", sound, methods=["GET", "HEAD"])
    app.add_route(f"/{PICTURES}/{{token}}.png", picture, methods=["GET", "HEAD"])


def ranged(content: bytes, media_type: str, asked: str | None) -> "Response":
    """An answer with bytes in memory, or with the one range of them that the header `Range` asks for.

    As RFC 9110 allows, a header that is not understood or asks for several ranges is answered with the whole content.
    """
    from starlette.responses import Response

    headers = _HEADERS | {"Accept-Ranges": "bytes"}
    found = _range_of(asked, len(content)) if asked else None
    if found is None:
        return Response(content, media_type=media_type, headers=headers)
    start, end = found
    if start >= min(end, len(content)):
        return Response(status_code=416, headers=headers | {"Content-Range": f"bytes */{len(content)}"})
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
    return Response(content[start:end], 206, headers, media_type)


def _range_of(asked: str, length: int) -> tuple[int, int] | None:
    """First byte and byte after the last of a header such as `bytes=0-99`, `bytes=100-` or `bytes=-100`."""
    unit, _, span = asked.partition("=")
    first, dash, last = (part.strip() for part in span.partition("-"))
    numbers = [part for part in (first, last) if part]
    if unit.strip().lower() != "bytes" or not dash or not numbers:
        return None
    if not all(part.isdecimal() and len(part) <= _MAX_DIGITS for part in numbers):
        return None
    if not first:
        return max(0, length - int(last)), length if int(last) else 0
    if last and int(last) < int(first):
        return None
    return int(first), min(int(last) + 1, length) if last else length
