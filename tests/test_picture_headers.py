"""What pictures would cost, against Pillow and against files that are made to cost much."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from alexnet_tf import picture_headers
from alexnet_tf.picture_headers import Cost, cost

IMAGES = [
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, [30, 40, 3], np.uint8))
    for seed in range(3)
]


def encode(kind, image=IMAGES[0], **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


JPEG, PNG, GIF, BMP, WEBP = (encode(kind) for kind in ("JPEG", "PNG", "GIF", "BMP", "WEBP"))
PROGRESSIVE = encode("JPEG", progressive=True)


@pytest.mark.parametrize(
    "picture,kind",
    [
        (JPEG, "JPEG"),
        (PROGRESSIVE, "JPEG"),
        (encode("JPEG", IMAGES[0].convert("CMYK")), "JPEG"),
        (PNG, "PNG"),
        (
            encode("JPEG", exif=b"Exif\0\0" + b"\xff\xda\xff\xd9" * 9999, comment=b"\xff\xda"),
            "JPEG",
        ),
        (JPEG + b"\xff\xda" * 10_000, "JPEG"),
        (b"\xff\xd8" + b"\xff" * 3 * 2**20 + JPEG[2:], "JPEG"),
        (encode("PNG", IMAGES[0].convert("P")), "PNG"),
        (GIF, "GIF"),
        (encode("GIF", comment=b"x" * 1000), "GIF"),
        (BMP, "BMP"),
        (BMP[:22] + struct.pack("<i", -30) + BMP[26:], "BMP"),
        (WEBP, "WEBP"),
        (encode("WEBP", lossless=True), "WEBP"),
        (encode("WEBP", IMAGES[0].convert("RGBA"), exif=b"Exif\0\0"), "WEBP"),
        (b"BM" + bytes(12) + struct.pack("<IHH", 12, 40, 30), "BMP"),
    ],
)
def test_honest_pictures(picture, kind):
    assert cost(picture) == Cost(kind, 30 * 40)


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_frames_are_added_up(kind):
    assert cost(encode(kind, save_all=True, append_images=IMAGES[1:])) == Cost(kind, 3 * 30 * 40)


def frame(left, top, width, height):
    return b"\x2c" + struct.pack("<HHHHB", left, top, width, height, 0) + b"\2\1\0\0"


def test_a_screen_holds_its_largest_frame():
    head = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0, 0, 0)
    assert (
        cost(head + frame(0, 0, 1, 1) + frame(0, 0, 12_000, 12_000) + b";").pixels == 12_000**2 + 1
    )
    assert cost(head + frame(0, 0, 7000, 7000) * 150 + b";").pixels == 150 * 7000**2
    assert (
        cost(head + frame(60_000, 0, 1, 1) + frame(0, 50_000, 1, 1) + b";").pixels
        == 60_001 * 50_001
    )
    assert (
        cost(
            b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0) + frame(0, 0, 1, 1) + b";"
        ).pixels
        == 65_535**2
    )


def repeated(picture, times):
    """A JPEG whose last scan is there as many times more."""
    last = picture.rindex(b"\xff\xda")
    return picture[:-2] + picture[last:-2] * times + picture[-2:]


@pytest.mark.parametrize("times,factor", [(0, 1), (1, 2), (10, 2), (11, 3), (490, 50)])
def test_scans_are_counted(times, factor):
    assert PROGRESSIVE.count(b"\xff\xda") == 10
    assert cost(repeated(PROGRESSIVE, times)).pixels == factor * 30 * 40


def chunk(kind, data=b""):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


MANY = picture_headers.MAX_PARTS + 1
TEXT = zlib.compress(b"x" * 1000)


@pytest.mark.parametrize(
    "picture,reason",
    [
        (repeated(PROGRESSIVE, 491), "a JPEG of more than 500 scans"),
        (
            repeated(PROGRESSIVE, 491).replace(b"\xff\xda", b"\xff\xff\xff\xda"),
            "a JPEG of more than 500 scans",
        ),
        (JPEG[:2] + b"\xff\xfe\0\2" * MANY + JPEG[2:], "a JPEG of more than 200000 segments"),
        (PNG[:33] + chunk(b"teSt") * MANY + PNG[33:], "a PNG of more than 200000 chunks"),
        (
            PNG[:33] + chunk(b"zTXt", b"a\0\0" + TEXT) * 9 + PNG[33:],
            "a PNG of more than 8 compressed texts",
        ),
        (
            PNG[:-12] + chunk(b"iTXt", b"a\0\1\0\0\0" + TEXT) * 9 + PNG[-12:],
            "a PNG of more than 8 compressed texts",
        ),
        (GIF[:-1] + b"\x21\xfe\0" * MANY + b";", "a GIF of more than 200000 blocks"),
        (GIF[:-1] + b"\x21\xfe" + b"\1x" * MANY + b"\0;", "a GIF of more than 200000 blocks"),
        (WEBP + b"abcd\0\0\0\0" * MANY, "a WebP of more than 200000 chunks"),
    ],
)
def test_headers_without_end_are_refused(picture, reason):
    with pytest.raises(ValueError) as error:
        cost(picture)
    assert str(error.value) == reason


@pytest.mark.parametrize(
    "picture,reason",
    [
        (repeated(PROGRESSIVE, 491)[:-2] + b"\xff\xc0\xff\xd9", "a JPEG of more than 500 scans"),
        (PNG[:33] + chunk(b"zTXt", b"a\0" + TEXT) * 9, "a PNG of more than 8 compressed texts"),
    ],
)
def test_what_ends_within_a_header_does_not_hide_what_stands_before(picture, reason):
    with pytest.raises(ValueError, match=reason):
        picture_headers.check(picture)


def test_what_ends_within_a_header_costs_what_stands_before():
    scans = repeated(PROGRESSIVE, 90)[:-2]
    whole = Cost("JPEG", 10 * 30 * 40)  # of a hundred scans
    for end in (b"\xff\xc0\xff\xd9", b"\xff\xc0", b"\xff\xc0\0\x11\x08\0"):
        assert cost(scans + end) == whole
    frames = encode("GIF", save_all=True, append_images=IMAGES[1:])
    assert cost(frames[:-1] + b"\x2c\0\0\0") == Cost("GIF", 3 * 30 * 40)


def test_texts_that_are_not_compressed_are_not_counted():
    texts = chunk(b"tEXt", b"a\0b") * 100 + chunk(b"iTXt", b"a\0\0\0\0\0text") * 100
    assert cost(PNG[:33] + texts + PNG[33:]) == Cost("PNG", 30 * 40)


@pytest.mark.parametrize(
    "picture",
    [
        b"",
        b"x",
        b"II*\0",
        b"%PDF",
        b"RIFF\0\0\0\0WAVE",
        *(picture[:length] for picture in (PNG, BMP) for length in (6, 10)),
        GIF[:6],
    ],
)
def test_what_is_no_picture_has_no_cost(picture):
    assert cost(picture) is None


@pytest.mark.parametrize("picture", [JPEG, PROGRESSIVE, PNG, GIF, BMP, WEBP])
def test_damage_is_left_to_the_decoder(picture):
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(picture[: rng.integers(1, len(picture) + 1)])
        damaged[rng.integers(len(damaged))] = rng.integers(256)
        answer = cost(bytes(damaged))
        assert answer is None or answer.pixels >= 0


@pytest.mark.parametrize("shift", range(4))
def test_a_marker_at_the_edge_of_a_window_is_found(shift):
    window = picture_headers._WINDOW
    begin = PROGRESSIVE.rindex(b"\xff\xda")
    padded = repeated(PROGRESSIVE, 5)
    at = len(PROGRESSIVE) - 2  # where the first of the scans that are added begins
    scan_data = len(PROGRESSIVE[begin:-2])
    assert padded[at : at + 2] == b"\xff\xda" and scan_data > 10
    # The search of its end starts behind the header of the scan before.
    header = begin + 2 + int.from_bytes(padded[begin + 2 : begin + 4])
    filler = b"\0" * (window - (at - header) - shift)
    assert cost(padded[:at] + filler + padded[at:]).pixels == 2 * 30 * 40
