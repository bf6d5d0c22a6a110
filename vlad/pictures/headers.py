"""Small files that would cost much: what is looked at before Pillow opens one, because Pillow does not or asks a process-wide limit."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable
from typing import IO

MOST_SCANS = 100  # of a JPEG; cameras write 1, progressive encoders some 10, and libtiff draws the same line

_START_OF_SCAN, _END, _STANDALONE = 0xDA, 0xD9, (0x01, *range(0xD0, 0xD9))  # what has no length: TEM, restarts, start of image
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # inside a scan, where 0xFF of the data is followed by 0


def count_scans(data: bytes) -> int:
    """Scans of a JPEG's first picture: every one goes over the whole picture again, so 200 KB can keep a decoder busy for half a minute.

    The marker's two bytes also occur in what lies around the scans (a profile, a film behind a phone's picture), so where there are
    many of them the segments are walked through.
    """
    found = data.count(bytes((0xFF, _START_OF_SCAN)))
    if found <= MOST_SCANS:
        return found
    scans, place = 0, 2
    while (marker := _MARKER.search(data, place)) is not None and (code := data[marker.start() + 1]) != _END:
        place = marker.end()
        if code not in _STANDALONE:
            scans += code == _START_OF_SCAN
            place += int.from_bytes(data[place : place + 2], "big")
    return scans


def first_frame_of_gif(file: IO[bytes], check_size: Callable[[int, int], None]) -> IO[bytes]:
    """The same GIF as one still picture, its screen as large as its first frame makes it.

    While it opens a file, Pillow asks its process-wide limit about a frame that is larger than the screen, fills the area to be disposed
    of, and gathers comments in a time that grows with the square of their length. None of that is left here.

    Args:
        file: at its start.
        check_size: is asked about width and height, and raises.

    Raises:
        ValueError, IndexError: it ends before its first frame.
    """
    data = file.read()
    place = 13 + _palette_bytes(data[10])
    control = b""
    while data[place] != 0x2C:  # image descriptor
        if data[place] == 0x3B:
            raise ValueError("no picture before its end")
        if data[place] != 0x21:  # nor an extension: passed over, as Pillow does
            place += 1
            continue
        if data[place + 1] == 0xF9 and data[place + 2] >= 4 and (not control or data[place + 3] & 1):  # what is transparent
            control = bytes((0x21, 0xF9, 4, data[place + 3] & 1, 0, 0, data[place + 6], 0))
        place += 2
        while size := data[place]:
            place += size + 1
        place += 1
    left, top, width, height = struct.unpack_from("<4H", data, place + 1)
    screen = struct.unpack_from("<2H", data, 6)
    needed = max(screen[0], left + width), max(screen[1], top + height)
    check_size(*needed)
    header = data[:6] + struct.pack("<2H", *(min(side, 0xFFFF) for side in needed)) + data[10 : 13 + _palette_bytes(data[10])]
    return io.BytesIO(header + control + data[place:])


def _palette_bytes(flags: int) -> int:
    return 3 * (2 << (flags & 7)) if flags & 0x80 else 0
