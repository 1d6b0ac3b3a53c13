"""Picture files that want more of a reader than their size: time, memory, steps."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

_IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 255, [30, 40, 3], np.uint8))


def encode(kind, image=_IMAGE, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(kind, data=b""):
    """One of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def riff(kind, data=b""):
    """A chunk of a WebP."""
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _jpegs(size):
    plain, progressive = encode("JPEG"), encode("JPEG", progressive=True)
    last = progressive[progressive.rindex(b"\xff\xda") : -2]
    large = encode("JPEG", Image.new("RGB", (4096, 4096), "grey"), progressive=True)
    large_last = large[large.rindex(b"\xff\xda") : -2]
    frame = plain.index(b"\xff\xc0")
    claim = plain[: frame + 5] + struct.pack(">HH", 65_500, 65_500) + plain[frame + 9 :]
    return {
        "segments": plain[:2] + b"\xff\xfe\0\2" * (size // 4) + plain[2:],
        "fill bytes": plain[:2] + b"\xff" * size + plain[2:],
        "scans": progressive[:-2] + last * (size // len(last)) + b"\xff\xd9",
        "large scans": large[:-2] + large_last * 100 + b"\xff\xd9",
        "a claim of 4 gigapixels": claim,
        "EXIF that is a chain": encode("JPEG", exif=b"Exif\0\0II*\0" + b"\xff" * 60_000),
    }


def _pngs(size):
    plain = encode("PNG")
    head, rest = plain[:33], plain[33:]
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(8_000_000), 9))
    header = struct.pack(">IIBBBBB", 65_500, 65_500, 8, 2, 0, 0, 0)
    side = 9000
    rows = zlib.compressobj(9)
    flat = b"".join(rows.compress(bytes(1 + 3 * side)) for _ in range(side)) + rows.flush()
    return {
        "chunks": head + chunk(b"teXt") * max(size // 12, 200_001) + rest,
        "compressed texts": head + text * min(size // len(text), 2000) + rest,
        "a claim of 4 gigapixels": plain[:8] + chunk(b"IHDR", header) + rest,
        "81 megapixels in few bytes": (
            plain[:8]
            + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", flat)
            + chunk(b"IEND")
        ),
        "a profile that inflates": (
            head + chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(50_000_000), 9)) + rest
        ),
    }


def _gifs(size):
    def head(width, height):
        return b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0)

    def frame(left, top, width, height, data=b"\2\1\x44\0"):
        return b"\x2c" + struct.pack("<HHHHB", left, top, width, height, 0) + data

    one = frame(0, 0, 1, 1)
    blocks = b"\1x" * (size // 2)
    return {
        "a large second frame": head(1, 1) + one + frame(0, 0, 12_000, 12_000) + b";",
        "large frames": head(1, 1) + one + frame(0, 0, 7000, 7000) * 150 + b";",
        "many frames": head(1, 1) + one * (size // len(one)) + b";",
        "extensions": head(1, 1) + b"!\xfe\0" * (size // 3) + one + b";",
        "blocks": head(1, 1) + frame(0, 0, 1, 1, b"\2" + blocks + b"\0") + b";",
        "a large screen": head(65_535, 65_535) + one + b";",
        "a far frame": head(1, 1) + frame(60_000, 50_000, 1, 1) + b";",
    }


def _bmps(size):
    plain = encode("BMP")
    of_one = plain[:18] + struct.pack("<ii", 65_500, 65_500) + plain[26:]
    return {
        "a claim of 4 gigapixels": of_one,
        "a claim of negative rows": plain[:18] + struct.pack("<ii", 65_500, -65_500) + plain[26:],
        "bytes behind": plain + bytes(size),
    }


def _webps(size):
    plain = encode("WEBP")[12:]
    canvas = riff(b"VP8X", b"\2\0\0\0" + b"\xff\x3f\0" * 2)
    large = b"\0" * 6 + b"\xff\x3f\0" * 2 + b"\0" * 4
    small = b"\0" * 6 + b"\0\0\0" * 2 + b"\0" * 4

    def file(*parts):
        body = b"WEBP" + b"".join(parts)
        return b"RIFF" + struct.pack("<I", len(body)) + body

    extended = riff(b"VP8X", b"\2\0\0\0" + struct.pack("<I", 39)[:3] + struct.pack("<I", 29)[:3])
    return {
        "a canvas of 268 megapixels": file(canvas, riff(b"ANIM", bytes(6))),
        "large frames": file(extended, riff(b"ANIM", bytes(6)), riff(b"ANMF", large + plain) * 150),
        "many frames": file(
            extended, riff(b"ANIM", bytes(6)), riff(b"ANMF", small + plain) * (size // 2000)
        ),
        "chunks": file(extended, riff(b"junk") * (size // 8), plain),
    }


def files(size=2**20):
    """{what it tries: bytes}, named by the format first; those of many parts have about `size`
    bytes.
    """
    return {
        f"{kind}: {name}": content
        for kind, make in (
            ("JPEG", _jpegs),
            ("PNG", _pngs),
            ("GIF", _gifs),
            ("BMP", _bmps),
            ("WebP", _webps),
        )
        for name, content in make(size).items()
    }


# Those that a reader has to refuse from their headers, and a few of its words; the others cost
# little more than honest pictures.
REFUSED = {
    "JPEG: segments": "segments",
    "JPEG: scans": "scans",
    "JPEG: large scans": "promises more than",
    "JPEG: a claim of 4 gigapixels": "promises more than",
    "PNG: chunks": "chunks",
    "PNG: compressed texts": "compressed texts",
    "PNG: a claim of 4 gigapixels": "promises more than",
    "GIF: a large second frame": "promises more than",
    "GIF: large frames": "promises more than",
    "GIF: extensions": "blocks",
    "GIF: blocks": "blocks",
    "GIF: a large screen": "promises more than",
    "GIF: a far frame": "promises more than",
    "BMP: a claim of 4 gigapixels": "promises more than",
    "BMP: a claim of negative rows": "promises more than",
    "WebP: a canvas of 268 megapixels": "promises more than",
    "WebP: large frames": "promises more than",
}
