"""Pillow and NumPy prepare a picture as TensorFlow does: the same levels where nothing is scaled,
and within one level where something is.
"""

import dataclasses
import json
import re
import zipfile

import journeys
import numpy as np
import picture_kinds
import pytest
import tensorflow as tf
from picture_kinds import bmp, by_pillow, exif, gif, saved, segment
from PIL import Image

from alexnet_tf import decoding, pixels, preprocessing
from alexnet_tf.edge import pictures
from alexnet_tf.preprocessing import Preprocessing

KINDS = picture_kinds.kinds()
SIZES = [
    Preprocessing(19, 20, 3, (0.0,) * 3, 1.0),  # smaller than the pictures
    Preprocessing(67, 77, 3, (0.0,) * 3, 1.0),  # larger
    Preprocessing(21, 21, 3, (0.0,) * 3, 1.0),  # as high as most
    Preprocessing(28, 32, 1, (0.0,), 1.0),  # grey
]


def in_tensorflow(content, size):
    return preprocessing.central_crop(preprocessing.decode(content, size.resize), size).numpy()


def check_within_a_level(content, size, name):
    ours, theirs = pictures.prepare(content, size), in_tensorflow(content, size)
    assert ours.dtype == np.uint8 and ours.shape == theirs.shape, name
    assert np.abs(ours.astype(int) - theirs).max() <= 1, name


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "WebP"])
def test_every_kind_is_what_tensorflow_makes_of_it(form):
    of_form = {name: content for name, content in KINDS.items() if name.startswith(form)}
    assert len(KINDS) > 100 and len(of_form) > 10
    for name, content in of_form.items():
        decoded = np.asarray(pictures.decode(content))
        np.testing.assert_array_equal(decoded, by_pillow(content), name)
        for size in SIZES:
            check_within_a_level(content, size, f"{name}, {size.resize}")


def noise(width, height, seed):
    """Levels of both ends, where a filter that is shifted by a pixel is furthest off."""
    rng = np.random.default_rng(seed)
    return Image.fromarray(255 * rng.integers(0, 2, (height, width, 3), np.uint8))


@pytest.mark.parametrize(
    "width,height",
    [
        (77, 78),
        (77, 400),
        (500, 375),
        (241, 333),
        (300, 309),
        (308, 310),  # from here a JPEG is decoded at half its size
        (615, 621),
        (617, 700),  # at a quarter
        (1301, 1233),  # at an eighth
        (16, 2000),
        (2000, 16),
        (1, 1),
        (2, 50),
    ],
)
def test_photographs_of_any_size_are_within_a_level(width, height):
    image = noise(width, height, seed=width)
    for name, content in (
        ("PNG", saved(image, "PNG")),
        ("JPEG", saved(image, "JPEG", quality=93, exif=exif(6))),
        ("CMYK", saved(image.convert("CMYK"), "JPEG", quality=93)),
        ("progressive", saved(image, "JPEG", progressive=True, subsampling=0)),
    ):
        for size in SIZES[1:2] + SIZES[3:]:
            check_within_a_level(content, size, f"{name} {width} x {height}, {size.resize}")


def test_a_photograph_is_decoded_at_the_size_that_tensorflow_takes():
    picture = saved(noise(1300, 1240, 1), "JPEG")
    for resize, width in ((400, 1300), (310, 650), (160, 650), (155, 325), (77, 163), (3, 163)):
        assert pictures.decode(picture, resize).width == width
        assert decoding.decode(picture, resize).shape[1] == width


def test_sixteen_bits_are_cut_to_the_upper_eight(rng):
    for channels in (1, 3, 4):
        deep = rng.integers(0, 2**16, (9, 7, channels), np.uint16)
        content = tf.io.encode_png(deep).numpy()
        np.testing.assert_array_equal(pictures.decode(content), decoding.decode(content))
    grey = deep[..., :1]
    grey[2:4] = 1234
    content = picture_kinds.png_with(
        tf.io.encode_png(grey).numpy(), b"tRNS", (1234).to_bytes(2, "big")
    )
    np.testing.assert_array_equal(pictures.decode(content), decoding.decode(content))
    assert (np.asarray(pictures.decode(content))[2:4] == 255).all()


def test_the_program_on_the_page_prepares_what_the_network_sees(tmp_path, monkeypatch, rng):
    """But for MediaPipe, which is not here."""
    (program,) = (
        re.sub("(?m)^from mediapipe.*|mediapipe, ", "", block.text.partition("options = ")[0])
        for block in journeys.BLOCKS["docs/edge.md"]
        if "import mediapipe" in block.text
    )
    monkeypatch.chdir(tmp_path)
    size = SIZES[1]
    with zipfile.ZipFile("mine.tflite", "w") as archive:
        archive.writestr("manifest.json", json.dumps({"preprocessing": dataclasses.asdict(size)}))
    for content in (
        *(
            tf.io.encode_png(np.kron(levels, np.ones((13, 15, 1), levels.dtype))).numpy()
            for levels in (
                rng.integers(0, 256, (7, 9, 4), np.uint8),
                rng.integers(0, 2**16, (7, 9, 1), np.uint16),
            )
        ),
        *(KINDS[name] for name in KINDS if name.startswith("BMP, 32 bits")),
    ):
        (tmp_path / "flower.jpg").write_bytes(content)
        found: dict = {}
        exec(compile(program, "docs/edge.md", "exec"), found)
        expected = pictures.prepare(content, size)
        assert np.abs(found["square"].astype(int) - expected).mean() < 1


def test_the_transparent_level_of_few_bits_is_that_of_the_file(rng):
    for depth in (1, 2, 4, 8):
        numbers = rng.integers(0, 2**depth, (8, 8))
        bits = numbers[..., None] >> np.arange(depth)[::-1] & 1
        rows = np.packbits(bits.reshape(8, -1).astype(np.uint8), axis=1)
        for number in range(min(2**depth, 9)):
            content = picture_kinds.png(8, 8, depth, 0, rows, [(b"tRNS", bytes([0, number]))])
            np.testing.assert_array_equal(
                pictures.decode(content), decoding.decode(content), f"{depth} {number}"
            )
    deep = picture_kinds.png(1, 1, 16, 2, [bytes(6)], [(b"tRNS", bytes(6))])
    with pytest.raises(ValueError, match="^a 16-bit PNG with a transparent colour, which is not"):
        pictures.decode(deep)


@pytest.mark.parametrize(
    "message,content",
    [
        ("^AVIF, which only alexnet prepare reads", b"\0\0\0\x18ftypavif" + bytes(40)),
        ("^HEIC or AVIF, which only alexnet prepare", b"\0\0\0\x18ftypmif1" + bytes(40)),
        ("^a PNG that was converted for iPhones", b"\x89PNG\r\n\x1a\n\0\0\0\4CgBI" + bytes(40)),
        ("^TIFF, ", b"MM\0*" + bytes(40)),
        ("^SVG, which is not read; save it as JPEG or PNG", b'<?xml version="1.0"?><svg/>'),
        ("^PDF, ", b"%PDF-1.7"),
        ("^a web page; fetch the picture again", b"<html>"),
        ("^an empty file; fetch it again, or remove it", b""),
        ("^neither JPEG, PNG, GIF, BMP nor WebP$", b"a text"),
        ("^a damaged PNG file", b"\x89PNG\r\n\x1a\n" + bytes(40)),
        ("promises more than 89478485 pixels", bmp(1, bytes(8), width=2**20, height=2**20)),
    ],
)
def test_what_is_no_picture_is_named(message, content):
    with pytest.raises(ValueError, match=message):
        pictures.prepare(content, SIZES[0])


def test_no_pixel_is_decoded_of_a_picture_that_is_too_large(monkeypatch):
    content = saved(Image.new("RGB", (200, 100)), "PNG")
    monkeypatch.setattr(pictures, "LARGEST_PICTURE", 200 * 100)
    assert pictures.decode(content).size == (200, 100)
    monkeypatch.setattr(pictures, "LARGEST_PICTURE", 200 * 100 - 1)
    monkeypatch.setattr(Image.Image, "load", None)
    with pytest.raises(ValueError, match="promises more than"):
        pictures.decode(content)
    assert pixels.LARGEST_PICTURE == decoding.LARGEST_PICTURE


@pytest.mark.parametrize(
    "name", ["JPEG", "GIF, transparent", "BMP, 8 bits", "WebP, lossless alpha", "PNG, alpha"]
)
def test_files_cut_anywhere_are_refused(name):
    content = KINDS[name]
    for length in (*range(1, 80, 5), len(content) // 2, len(content) - 20):
        with pytest.raises(ValueError):
            pictures.decode(content[:length])
        with pytest.raises(tf.errors.InvalidArgumentError):
            decoding.decode(content[:length])


def test_orientations_that_are_damaged_or_stated_elsewhere_leave_a_picture_as_it_is():
    jpeg = KINDS["JPEG"]
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'
    entry = b"\x12\x01\x03\0\x01\0\0\0"  # the orientation, of two bytes, one value
    for content in (
        b"Exif\0\0",
        b"Exif\0\0II*\0",
        exif(6)[:25],
        exif(6).replace(b"II*", b"II+"),
        exif(6)[:8] + b"\xff" * 40,
        b"Exif\0\0MM\0*\xff\xff\xff\xff\0\1",
        exif(6).replace(entry, entry[:4] + b"\x02\0\0\0"),
        exif(6).replace(entry, b"\x12\x01\x01\0" + entry[4:]),
        b"http://ns.adobe.com/xap/1.0/\0" + xmp,
    ):
        turned = picture_kinds.jpeg_with(jpeg, segment(0xE1, content))
        np.testing.assert_array_equal(pictures.decode(turned), decoding.decode(turned))


def test_of_a_gif_the_first_frame_alone_is_decoded():
    small = gif((4, 4), (0, 0), np.zeros((4, 4), np.uint8), bytes(768))
    large = gif((65535, 65535), (0, 0), np.zeros((1, 1), np.uint8), bytes(768))
    frame = large.index(b",\0\0\0\0\1\0\1\0")
    bomb = small[:-1] + large[frame : frame + 5] + b"\xff\xff\xff\xff" + large[frame + 9 :]
    assert pictures.decode(bomb).size == (4, 4)
    with pytest.raises(ValueError, match="in all its frames and scans"):
        pictures.prepare(bomb, SIZES[0])  # as elsewhere, where a decoder would hold all of them
