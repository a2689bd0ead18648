"""The structure of a JPEG file: its segments, its scans and its end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.JpegImagePlugin import JpegImageFile

# Each scan goes through all pixels again, in about 3 ns each; usual are 10.
MAX_SCANS = 500
START_OF_SCAN, END_OF_IMAGE, END_OF_FILE = 0xDA, 0xD9, 0
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # in coded data 0xff is followed by 0 or RST
_CHUNK = 1 << 20


def count_scans(jpeg: JpegImageFile) -> int:
    """Return how often decoding goes through the pixels, at most `MAX_SCANS` and one.

    Once, where the first scan holds all components.
    """
    assert jpeg.fp is not None
    scans = 0
    for kind, _, head in segments(jpeg.fp):
        if kind == END_OF_IMAGE or scans > MAX_SCANS:
            break
        if kind == START_OF_SCAN:
            scans += 1
            if not jpeg.info.get("progressive") and int.from_bytes(head[2:], "big") >= jpeg.layers:
                break
    return max(scans, 1)


def is_complete(jpeg: JpegImageFile) -> bool:
    """Return whether a file has a picture, and the marker of its end."""
    assert jpeg.fp is not None
    kinds = [kind for kind, _, _ in segments(jpeg.fp) if kind in (START_OF_SCAN, END_OF_IMAGE)]
    return START_OF_SCAN in kinds[:1] and END_OF_IMAGE in kinds


def coefficients(jpeg: JpegImageFile) -> float:
    """Return how many bytes per pixel the coefficients of all components take, which decoding holds
    if there are several scans."""
    samples = [across * down for _, across, down, _ in jpeg.layer]
    return 2 * sum(samples) / max(samples)


def segments(file: IO[bytes]) -> Iterator[tuple[int, int, bytes]]:
    """Yield the kind of each segment of a JPEG, how many bytes lie between it and the one before,
    and its first three bytes (length, and the components of a scan); then the end of the file."""
    place, start, content = 2, 0, b""  # where to look from; where the content begins
    while True:
        found = _MARKER.search(content, max(place - start, 0))
        if found is None or found.end() + 3 > len(content):  # to be read, unless this is the end
            again = start + found.start() if found else max(place, start + len(content) - 1)
            file.seek(again)
            more = file.read(_CHUNK)
            if start + len(content) < again + len(more):
                start, content = again, more
                continue
        if found is None:
            yield END_OF_FILE, start + len(content) - place, b""
            return
        head = content[found.end() : found.end() + 3]
        yield content[found.end() - 1], start + found.start() - place, head
        place = start + found.end() + int.from_bytes(head[:2], "big")
