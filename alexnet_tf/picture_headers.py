"""What a picture file would cost to decode, from its headers alone, without decoding any of it.

A file of a few hundred kilobytes may claim frames of gigabytes, or scans that hold a core for
minutes; and a header may itself be made of millions of parts. So this reader takes a bounded number
of steps, and decoders are given only what it has let pass.
"""

import dataclasses
import re
import struct
from collections.abc import Callable

from alexnet_tf.pixels import LARGEST_PICTURE, TOO_LARGE

# segments, chunks and sub-blocks of a file: a GIF of 48 MB has as many, and nothing else comes near
MAX_PARTS = 200_000
MAX_SCANS = 500  # of a JPEG. Encoders write 10 or so; what libjpeg-turbo's own fuzzers take is 500
# compressed ones in a PNG: libpng inflates each and keeps it, up to 8 MB from 8 kB, in 50 ms
MAX_TEXTS = 8
TOO_MANY_SCANS = f"a JPEG of more than {MAX_SCANS} scans"
TOO_MANY_TEXTS = f"a PNG of more than {MAX_TEXTS} compressed texts"
SCANS_OF_A_PIXEL = 10  # a progressive JPEG as encoders write it

# Of a JPEG: what ends the data of a scan. FF 00 is an FF in the data, and FF D0 to FF D7 are
# restarts within it.
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])", re.DOTALL)
_LONGEST_HEADER = 64  # bytes, more than any that is read here as one
_WINDOW = 2**20  # bytes that are searched at once: the search lets no other thread of Python run
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


@dataclasses.dataclass(frozen=True)
class Cost:
    """`pixels` are those that a decoder has to hold or to go over: of all frames, and a JPEG's once
    for every ten scans.
    """

    format: str
    pixels: int


def cost(picture: bytes) -> Cost | None:
    """The Cost of the bytes of a JPEG, PNG, GIF, BMP or WebP file, or None for other bytes.

    Raises ValueError, with the reason, for a file whose headers have more parts than those of any
    honest one. What a header says is not checked beyond that: a file that is damaged has a cost
    like others, and the decoder refuses it.
    """
    read: Callable[[bytes], int] | None
    if picture.startswith(b"RIFF") and picture[8:12] == b"WEBP":
        read = _webp
    else:
        starts = {
            b"\xff\xd8\xff": _jpeg,
            b"\x89PNG\r\n\x1a\n": _png,
            b"GIF8": _gif,
            b"BM": _bmp,
        }
        read = next((read for start, read in starts.items() if picture.startswith(start)), None)
    if read is None:
        return None
    try:
        pixels = read(picture)
    except (struct.error, IndexError):  # it ends within a header; what stands before that counts
        pixels = read(picture + bytes(_LONGEST_HEADER))
        if not pixels:
            return None
    return Cost(read.__name__[1:].upper(), pixels)


def check(picture: bytes) -> None:
    """Raises ValueError, with the reason, for the bytes of a picture file that would cost a decoder
    too much: this goes before every decoder of pictures that come from anywhere.
    """
    found = cost(picture)
    if found and found.pixels > LARGEST_PICTURE:
        raise ValueError(f"{TOO_LARGE}, in all its frames and scans")


def _jpeg(picture: bytes) -> int:
    """Pixels of the largest frame, once for every ten scans."""
    pixels, scans, position = 0, picture.count(b"\xff\xda"), 2
    # what stands in other segments, or behind the picture, may look like scans
    exact = scans > SCANS_OF_A_PIXEL
    if exact:
        scans = 0
    for _ in range(MAX_PARTS):
        marker = _next_marker(picture, position)
        if not marker or marker[1] == b"\xd9":
            break
        kind, position = marker[1][0], marker.end()
        if kind == 0x01:  # it has no length
            continue
        if kind in _FRAME_HEADERS:
            height, width = struct.unpack_from(">HH", picture, position + 3)
            pixels = max(pixels, width * height)
        elif kind == 0xDA:
            if not exact:  # frames stand before scans
                break
            scans += 1
            if scans > MAX_SCANS:
                raise ValueError(TOO_MANY_SCANS)
        position += int.from_bytes(picture[position : position + 2])
    else:
        raise ValueError(f"a JPEG of more than {MAX_PARTS} segments")
    return pixels * max(1, -(-scans // SCANS_OF_A_PIXEL))


def _next_marker(picture: bytes, position: int) -> re.Match[bytes] | None:
    """The match of the next marker from `position` on, or None."""
    while position < len(picture):
        end = position + _WINDOW
        if marker := _MARKER.search(picture, position, end):
            return marker
        position = end - picture.endswith(b"\xff", 0, end)  # half a marker may end the window
    return None


def _png(picture: bytes) -> int:
    width, height = struct.unpack_from(">II", picture, 16)
    position, texts = 8, 0
    for _ in range(MAX_PARTS):
        kind = picture[position + 4 : position + 8]
        if len(kind) < 4 or kind == b"IEND":
            break
        if kind == b"zTXt":
            texts += 1
        elif kind == b"iTXt":  # keyword, zero, and whether it is compressed
            texts += picture[picture.find(b"\0", position + 8) + 1] == 1
        if texts > MAX_TEXTS:
            raise ValueError(TOO_MANY_TEXTS)
        position += 12 + int.from_bytes(picture[position : position + 4])
    else:
        raise ValueError(f"a PNG of more than {MAX_PARTS} chunks")
    return width * height


def _gif(picture: bytes) -> int:
    """Pixels of the screen that holds all frames, or of the frames together if those are more."""
    width, height, flags = struct.unpack_from("<HHB", picture, 6)
    position, pixels, parts = 13 + _palette(flags), 0, 0
    while position < len(picture) and picture[position] != 0x3B:
        if picture[position] == 0x2C:
            left, top, frame_width, frame_height, flags = struct.unpack_from(
                "<HHHHB", picture, position + 1
            )
            width, height = max(width, left + frame_width), max(height, top + frame_height)
            pixels += frame_width * frame_height
            position += 11 + _palette(flags)
        else:  # an extension, and its label; or no GIF any more, which the decoder will say
            position += 2
        while True:  # sub-blocks, each behind its length
            parts += 1
            if parts > MAX_PARTS:
                raise ValueError(f"a GIF of more than {MAX_PARTS} blocks")
            if position >= len(picture) or not picture[position]:
                break
            position += 1 + picture[position]
        position += 1
    return max(width * height, pixels)


def _palette(flags: int) -> int:
    return 3 * 2 << (flags & 7) if flags & 0x80 else 0


def _bmp(picture: bytes) -> int:
    (header,) = struct.unpack_from("<I", picture, 14)
    width, height = struct.unpack_from("<HH" if header == 12 else "<ii", picture, 18)
    return abs(width) * abs(height)  # one that is stored from top to bottom has a negative height


def _webp(picture: bytes) -> int:
    """Pixels of the canvas, or of the frames together if those are more."""
    canvas = frames = 0
    position = 12
    for _ in range(MAX_PARTS):
        kind, size = (
            picture[position : position + 4],
            int.from_bytes(picture[position + 4 : position + 8], "little"),
        )
        if len(kind) < 4:
            break
        begin = position + 8
        if kind == b"VP8X":
            canvas = _webp_size(picture, begin + 4)
        elif kind == b"ANMF":
            frames += _webp_size(picture, begin + 6)
        elif kind == b"VP8 ":
            width, height = struct.unpack_from("<HH", picture, begin + 6)
            frames += (width & 0x3FFF) * (height & 0x3FFF)
        elif kind == b"VP8L":
            (bits,) = struct.unpack_from("<I", picture, begin + 1)
            frames += ((bits & 0x3FFF) + 1) * ((bits >> 14 & 0x3FFF) + 1)
        position = begin + size + size % 2
    else:
        raise ValueError(f"a WebP of more than {MAX_PARTS} chunks")
    return max(canvas, frames)


def _webp_size(picture: bytes, position: int) -> int:
    """Width times height, each stored in three bytes and as one less."""
    width, height = (
        int.from_bytes(picture[at : at + 3], "little") + 1 for at in (position, position + 3)
    )
    return width * height
