"""Picture files that want more of a reader than their size: time, memory, steps."""

import functools
import io
import struct
import zlib

import numpy as np
from PIL import Image

_TURNED = b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6" + bytes(7)
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
        "height given later": plain[: frame + 5] + bytes(2) + plain[frame + 7 :],
        "restarts": (
            plain[:frame] + b"\xff\xdd\0\4\0\1" + plain[frame:-2] + b"\xff\xd0" * (size // 2)
        ),
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
        "an animation": (
            head
            + chunk(b"acTL", struct.pack(">II", 90_000, 0))
            + chunk(b"fcTL", bytes(26)) * 90_000
            + rest[:-12]
            + chunk(b"fdAT", b"\0\0\0\1" + flat[:100]) * 90_000
            + rest[-12:]
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
        "pixels behind the end": plain[:10] + b"\xff" * 4 + plain[14:],
        "a palette of 4 billion": plain[:28] + b"\x08\0" + plain[30:46] + b"\xff" * 4 + plain[50:],
        "a header of 4 GB": plain[:14] + b"\xff" * 4 + plain[18:],
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


def _large_png(side, colour, depth, samples, before=b""):
    rows = zlib.compressobj(9)
    row = bytes(1 + side * samples * depth // 8)
    flat = b"".join(rows.compress(row) for _ in range(side)) + rows.flush()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + before + chunk(b"IDAT", flat) + chunk(b"IEND")


def _large_bmp(side, bits):
    palette = bytes(4 * 2**bits) if bits <= 8 else b""
    sizes = struct.pack("<IiiHHIIiiII", 40, side, side, 1, bits, 0, 0, 0, 0, 0, 0)
    begin = struct.pack("<IHHI", 0, 0, 0, 54 + len(palette))
    return b"BM" + begin + sizes + palette + bytes((side * bits + 31) // 32 * 4 * side)


def large(side):
    """{form: a function that makes a file of `side` x `side` pixels}: as many as a reader takes,
    where that is the most of which it decodes each.
    """

    def image(mode):
        return Image.new(mode, (side, side))

    frame = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\2\2\x44\1\0;"
    see_through = chunk(b"PLTE", bytes(768)) + chunk(b"tRNS", bytes(256))
    return {
        "JPEG": lambda: encode("JPEG", image("RGB")),
        "JPEG, progressive": lambda: encode("JPEG", image("RGB"), progressive=True),
        "JPEG, turned": lambda: encode("JPEG", image("RGB"), exif=_TURNED),
        "JPEG, CMYK": lambda: encode("JPEG", image("CMYK")),
        "PNG, RGB": lambda: _large_png(side, 2, 8, 3),
        "PNG, RGBA": lambda: _large_png(side, 6, 8, 4),
        "PNG, RGBA, 16 bits": lambda: _large_png(side, 6, 16, 4),
        "PNG, palette": lambda: _large_png(side, 3, 8, 1, see_through),
        "GIF": lambda: encode("GIF", image("P")),
        "GIF, a frame of one pixel": lambda: (
            b"GIF89a" + struct.pack("<HHBBB", side, side, 0, 0, 0) + frame
        ),
        **{
            f"BMP, {bits} bits": functools.partial(_large_bmp, side, bits)
            for bits in (1, 4, 8, 16, 24, 32)
        },
        "WebP": lambda: encode("WEBP", image("RGB"), quality=10, method=0),
        "WebP, RGBA": lambda: encode("WEBP", image("RGBA"), lossless=True, quality=0, method=0),
    }


def _tiff(tags, data=b"", directories=1, after=0):
    """A TIFF of `directories` alike, chained, the last of which says that one follows at `after`;
    `tags` are (number, type, count, value).
    """
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    length = 2 + len(entries) + 4
    chain = b"".join(
        struct.pack("<H", len(tags))
        + entries
        + struct.pack("<I", 8 + length * (number + 1) if number + 1 < directories else after)
        for number in range(directories)
    )
    return struct.pack("<2sHI", b"II", 42, 8) + chain + data


def _tiff_tags(side, compression, count, offset, samples=3):
    """Of an RGB picture in one strip."""
    return [
        (256, 4, 1, side),
        (257, 4, 1, side),
        (258, 3, 1, 8),
        (259, 3, 1, compression),
        (262, 3, 1, 2 if samples == 3 else 1),
        (273, 4, 1, offset),
        (277, 3, 1, samples),
        (278, 4, 1, side),
        (279, 4, 1, count),
    ]


def prepared(size=2**20):
    """As `files`, of the formats that alexnet prepare alone reads."""
    import pillow_heif

    pillow_heif.register_heif_opener()
    bomb = zlib.compress(bytes(300_000_000), 9)
    begin = 8 + 2 + 9 * 12 + 4
    side = 9000
    film = [Image.new("RGB", (64, 64), (shade, 0, 0)) for shade in range(200)]
    jp2, avif = encode("JPEG2000"), encode("AVIF")
    claim = jp2
    for place in (jp2.index(b"ihdr") + 4, jp2.index(b"\xff\x51") + 6):
        claim = claim[:place] + struct.pack(">II", 65_500, 65_500) + claim[place + 8 :]
    return {
        "TIFF: directories": _tiff(_tiff_tags(30, 1, 900, 8, 1), directories=size // 114),
        "TIFF: a chain that bites its tail": _tiff(_tiff_tags(30, 1, 900, 8, 1), after=8),
        "TIFF: tags": _tiff([(60_000 + tag % 5000, 4, 1, tag) for tag in range(65_535)]),
        "TIFF: a tag of 4 billion numbers": _tiff(
            [*_tiff_tags(30, 1, 900, 8, 1), (320, 3, 2**32 - 1, 8)]
        ),
        "TIFF: a claim of 4 gigapixels": _tiff(_tiff_tags(65_500, 1, 900, 8)),
        "TIFF: a strip that inflates": _tiff(_tiff_tags(side, 8, len(bomb), begin), bomb),
        "TIFF: a strip that inflates to more": _tiff(_tiff_tags(30, 8, len(bomb), begin), bomb),
        "TIFF: a strip that is not there": _tiff(_tiff_tags(side, 1, 3 * side**2, begin)),
        "TIFF: a JPEG that is none": _tiff(_tiff_tags(side, 7, size, begin), b"\xff" * size),
        "JPEG 2000: a claim of 4 gigapixels": claim,
        "JPEG 2000: boxes": jp2[:12] + b"\0\0\0\x08free" * (size // 8) + jp2[12:],
        "AVIF: a film": encode("AVIF", film[0], save_all=True, append_images=film[1:], speed=10),
        "AVIF: boxes": avif[:32] + b"\0\0\0\x08free" * (size // 8) + avif[32:],
        "HEIC: a film": encode("HEIF", film[0], save_all=True, append_images=film[1:]),
    }


def large_prepared(side):
    """As `large`, of the formats that alexnet prepare alone reads."""
    import pillow_heif

    pillow_heif.register_heif_opener()

    def image(mode):
        return Image.new(mode, (side, side))

    return {
        "TIFF": lambda: encode("TIFF", image("RGB"), compression="tiff_lzw"),
        "TIFF, RGBA, turned": lambda: encode(
            "TIFF", image("RGBA"), compression="tiff_adobe_deflate", tiffinfo={274: 6}
        ),
        "TIFF, CMYK": lambda: encode("TIFF", image("CMYK"), compression="tiff_lzw"),
        "TIFF, 16 bits": lambda: encode("TIFF", image("I;16"), compression="tiff_lzw"),
        "TIFF, facsimile": lambda: encode("TIFF", image("1"), compression="group4"),
        "JPEG 2000": lambda: encode("JPEG2000", image("L")),
        "AVIF": lambda: encode("AVIF", image("RGB"), speed=10),
        "AVIF, RGBA": lambda: encode("AVIF", image("RGBA"), speed=10),
        "HEIC": lambda: encode("HEIF", image("L"), quality=0),
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
