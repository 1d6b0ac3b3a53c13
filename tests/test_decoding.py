"""A picture means the same to every reader, to the bit what Pillow makes of it; what is not read is
refused by its name.
"""

import io
import os
import pathlib
import struct
import subprocess
import sys

import numpy as np
import picture_kinds
import pytest
import tensorflow as tf
from picture_kinds import bmp, by_pillow, exif, gif, png, saved, segment, tiff
from PIL import Image

from alexnet_tf import decoding, picture_files, picture_headers, preprocessing
from alexnet_tf.data import datasets, pictures, store
from alexnet_tf.edge import pictures as edge_pictures
from alexnet_tf.exports import saved_model
from alexnet_tf.preprocessing import Preprocessing

KINDS = picture_kinds.kinds()
PIXELS = Preprocessing(image_size=19, resize=20, channels=3, mean=(0.0,) * 3, std=1.0)
COLOURS = bytes(range(256)) * 3


def crop(levels):
    return preprocessing.central_crop(tf.constant(levels), PIXELS).numpy()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "WebP"])
def test_every_kind_is_what_pillow_makes_of_it(form):
    of_form = {name: content for name, content in KINDS.items() if name.startswith(form)}
    assert len(KINDS) > 100 and len(of_form) > 10
    dataset = tf.data.Dataset.from_tensor_slices(list(of_form.values())).map(decoding.decode)
    for (name, content), inside in zip(of_form.items(), dataset.as_numpy_iterator(), strict=True):
        expected = by_pillow(content)
        np.testing.assert_array_equal(decoding.decode(content), expected, name)
        np.testing.assert_array_equal(inside, expected, f"{name}, in tf.data")


def test_the_crop_alone_of_a_turned_jpeg_has_the_bits_of_the_whole():
    pixels = Preprocessing(image_size=113, resize=128, channels=3, mean=(0.0,) * 3, std=1.0)
    image = Image.fromarray(np.random.default_rng(3).integers(0, 256, (60, 80, 3), np.uint8))
    for size in ((190, 150), (128, 200), (640, 530)):
        for orientation in range(1, 9):
            picture = saved(image.resize(size), "JPEG", exif=exif(orientation), quality=90)
            seed = tf.constant([orientation, 4], tf.int64)
            np.testing.assert_array_equal(
                preprocessing.random_crop_of_jpeg(picture, pixels, seed),
                preprocessing.decode_random_crop(picture, pixels, seed),
                f"{size} {orientation}",
            )


@pytest.mark.parametrize("across,down", [(1, 1), (2, 2), (4, 1), (1, 4), (4, 2), (2, 4)])
def test_the_crop_alone_has_the_bits_of_the_whole_however_colours_are_sampled(across, down):
    """libjpeg gets parts of a picture wrong of which eight pixels share a colour, where it makes
    it smaller as it decodes it: such a one has to be decoded whole.
    """
    picture, refused = picture_kinds.jpeg_of_blocks(across, down, 16 // across, 16 // down), []
    for resize in (96, 32, 16, 8):  # of 128 pixels: as they are, halved, to a quarter, to an eighth
        pixels = Preprocessing(resize * 7 // 8, resize, 3, (0.0,) * 3, 1.0)
        for seed in ([0, 4], [1, 4]):
            try:
                crop = preprocessing.random_crop_of_jpeg(
                    picture, pixels, tf.constant(seed, tf.int64)
                )
            except tf.errors.InvalidArgumentError:
                refused.append(resize)
            else:
                whole = preprocessing.decode_random_crop(
                    picture, pixels, tf.constant(seed, tf.int64)
                )
                np.testing.assert_array_equal(crop, whole, f"{resize} {seed}")
    assert sorted(set(refused)) == ([8, 16, 32] if across * down == 8 else [])


@pytest.mark.long
def test_operators_that_a_user_has_made_those_of_numpy_read_the_same_pixels():
    code = """import tensorflow as tf
tf.experimental.numpy.experimental_enable_numpy_behavior()  # for the whole of a process
import test_decoding
for form in ("JPEG", "PNG", "GIF", "BMP", "WebP"):
    test_decoding.test_every_kind_is_what_pillow_makes_of_it(form)
test_decoding.test_the_crop_alone_of_a_turned_jpeg_has_the_bits_of_the_whole()"""
    paths = [str(pathlib.Path(__file__).parent), *filter(None, sys.path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.long
def test_the_export_and_the_store_see_the_same_pixels(tmp_path):
    decode = saved_model.decoder(PIXELS)
    tf.saved_model.save(tf.Module(), str(tmp_path / "saved"), decode)
    contents = list(KINDS.values())
    images = (
        tf.saved_model.load(str(tmp_path / "saved"))
        .signatures["serving_default"](tf.constant(contents))["output_0"]
        .numpy()
    )
    for name, image, content in zip(KINDS, images, contents, strict=True):
        np.testing.assert_array_equal(image, crop(by_pillow(content)), name)
    for name, content in list(KINDS.items())[::7]:
        whole = preprocessing.central_crop(tf.constant(by_pillow(content)), store.PIXELS).numpy()
        np.testing.assert_array_equal(store.encode(90, tf.constant(content), 1)[1], whole, name)
    operators = {
        node.op
        for function in decode.get_concrete_function().graph.as_graph_def().library.function
        for node in function.node_def
    }
    # Of TensorFlow 2.0, every one: a server that knows no WebP refuses such a picture, and serves
    # the others.
    assert {one for one in operators if one.startswith("Decode")} == {
        "DecodeJpeg",
        "DecodePng",
        "DecodeGif",
        "DecodeImage",
        "DecodeRaw",
    }


def test_sixteen_bits_are_cut_to_the_upper_eight(rng):
    for channels in (1, 3):
        deep = rng.integers(0, 2**16, (9, 7, channels), np.uint16)
        levels = np.broadcast_to(deep >> 8, (9, 7, 3))
        np.testing.assert_array_equal(decoding.decode(tf.io.encode_png(deep)), levels)
    deep = rng.integers(0, 2**16, (9, 7, 4), np.uint16)
    colour, alpha = (deep >> 8).astype(int)[..., :3], (deep >> 8).astype(int)[..., 3:]
    expected = np.rint((colour * alpha + 255 * (255 - alpha)) / 255)
    np.testing.assert_array_equal(decoding.decode(tf.io.encode_png(deep)), expected)


@pytest.mark.parametrize("header", [56, 108, 124])
def test_an_alpha_of_zeros_is_none_in_a_bmp_and_transparent_elsewhere(header, rng):
    levels = rng.integers(0, 200, (4, 5, 4), np.uint8)  # blue, green, red, alpha
    levels[..., 3] = 0
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    expected = {"opaque": levels[..., 2::-1].copy(), "white": np.full((4, 5, 3), 255, np.uint8)}
    expected["white"][3, 4] = expected["opaque"][3, 4]

    def bmp_of(levels):
        form = {"compression": 3, "masks": masks, "header": header, "from_top": True}
        return bmp(32, levels.tobytes(), **form, width=5, height=4)

    content = {"opaque": bmp_of(levels)}
    levels[3, 4, 3] = 255  # of one pixel is enough
    content["white"] = bmp_of(levels)
    for decode in (decoding.decode, edge_pictures.decode):
        for name in expected:
            np.testing.assert_array_equal(decode(content[name]), expected[name], name)
        clear = Image.fromarray(levels * np.array([1, 1, 1, 0], np.uint8))
        for form in ("PNG", "WEBP"):
            assert np.min(decode(saved(clear, form, lossless=True))) == 255, form


def test_transparent_grey_and_deep_colours_are_exact_where_pillow_is_not(rng):
    for depth in (1, 2, 4):
        numbers = rng.integers(0, 2**depth, (8, 8))
        bits = numbers[..., None] >> np.arange(depth)[::-1] & 1
        rows = np.packbits(bits.reshape(8, -1).astype(np.uint8), axis=1)
        content = png(8, 8, depth, 0, rows, [(b"tRNS", b"\0\1")])
        levels = np.where(numbers == 1, 255, numbers * 255 // (2**depth - 1))
        np.testing.assert_array_equal(
            decoding.decode(content), np.broadcast_to(levels[..., None], (8, 8, 3)), str(depth)
        )
    deep = rng.integers(0, 2**16, (8, 8, 4)).astype(">u2")
    deep[0, 0, :3], deep[0, 1, :3] = 0x1234, 0x1235  # alike in the upper byte
    for channels, colour in ((1, 0), (3, 2)):
        part = np.ascontiguousarray(deep[..., :channels])
        content = png(
            8,
            8,
            16,
            colour,
            part.reshape(8, -1).view(np.uint8),
            [(b"tRNS", b"\x12\x34" * channels)],
        )
        expected = np.broadcast_to(part >> 8, (8, 8, 3)).copy()
        expected[0, 0] = 255
        np.testing.assert_array_equal(decoding.decode(content), expected)


def heic(brand):
    return b"\0\0\0\x18ftyp" + brand + bytes(100)


def test_what_is_not_read_is_named_with_what_to_do():
    image = Image.new("RGB", (9, 9), "red")
    rle = bmp(8, b"\x09\x01\0\0\0\1", COLOURS + bytes(256), compression=1)
    inside = tf.function(decoding.decode, [tf.TensorSpec([], tf.string)], autograph=False)
    prepared, by_hand = "which only alexnet prepare reads", "save it as JPEG or PNG"
    for name, advice, content in (
        ("AVIF", prepared, saved(image, "AVIF")),
        ("HEIC", prepared, heic(b"heic")),
        ("HEIC or AVIF", prepared, heic(b"mif1")),
        ("a video, or a raw file of a camera", by_hand, heic(b"crx ")),
        ("a Windows icon", by_hand, saved(image, "ICO")),
        ("a PNG that was converted for iPhones", by_hand, b"\x89PNG\r\n\x1a\n\0\0\0\4CgBI"),
        ("an empty file", "fetch it again", b""),
        ("a web page", "fetch the picture again", b"\n<!DOCTYPE html><html>404"),
        ("a web page", "fetch the picture again", b'<!DOCTYPE HTML PUBLIC "-//IETF//DTD'),
        ("a web page", "fetch the picture again", b"\xef\xbb\xbf<Html>"),
        ("a pointer of Git LFS", "git lfs pull", b"version https://git-lfs.github.com/spec/v1"),
        ("metadata of macOS", "remove it", b"\0\5\x16\7" + bytes(90)),
        ("TIFF", prepared, saved(image, "TIFF")),
        ("TIFF", prepared, b"MM\0*" + bytes(40)),
        ("JPEG 2000", prepared, saved(image, "JPEG2000")),
        ("a BMP with run-length compression", prepared, rle),
        ("a BMP of a rare form", by_hand, bmp(2, bytes(400))),
        ("SVG", by_hand, b'<?xml version="1.0"?><svg/>'),
        (
            "SVG",
            "or fetch it again",
            b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
        ),
        ("SVG", by_hand, b'\xef\xbb\xbf<svg xmlns=""/>'),
        ("PDF", by_hand, b"%PDF-1.7"),
        ("neither JPEG, PNG, GIF, BMP nor WebP", "", saved(image, "TGA")),
    ):
        told = pictures.fault_of(lambda: tf.constant(content))  # noqa: B023
        assert told.startswith(name) and advice in told and "\n" not in told and "node" not in told
        with pytest.raises(tf.errors.InvalidArgumentError, match=name):
            inside(tf.constant(content))


@pytest.mark.long
def test_what_pillow_alone_reads_is_stored_as_it_is_meant_to_look(tmp_path, rng):
    levels = rng.integers(0, 256, (20, 30, 4), np.uint8)
    clear, plain = Image.fromarray(levels), Image.fromarray(np.ascontiguousarray(levels[..., :3]))
    deep = rng.integers(0, 2**16, (20, 30), np.uint16)
    turned = exif(6)[6:]
    files = {
        "plain.tiff": saved(plain, "TIFF"),
        "turned.tiff": saved(plain, "TIFF", exif=turned),
        "clear.tif": saved(clear, "TIFF", compression="tiff_lzw"),
        "p.jp2": saved(plain, "JPEG2000"),
        "turned.avif": saved(plain, "AVIF", quality=100, exif=turned),
    }
    for name, content in files.items():
        np.testing.assert_array_equal(
            decoding.decode(pictures.through_pillow(content)), by_pillow(content), name
        )
    of_deep = decoding.decode(pictures.through_pillow(saved(Image.fromarray(deep), "TIFF")))
    np.testing.assert_array_equal(of_deep, np.broadcast_to((deep >> 8)[..., None], (20, 30, 3)))
    for order in "<>":
        content = tiff(30, 20, 16, 1, deep.astype(f"{order}u2").tobytes(), order)
        np.testing.assert_array_equal(
            decoding.decode(pictures.through_pillow(content))[..., 0], deep >> 8
        )
    inverse = decoding.decode(pictures.through_pillow(tiff(30, 20, 16, 0, deep.tobytes())))
    np.testing.assert_array_equal(inverse[..., 0], 255 - (deep >> 8))
    twelve = np.unpackbits((deep >> 4).astype(">u2").view(np.uint8).reshape(20, 30, 2), axis=2)
    twelve = np.packbits(twelve[..., 4:].reshape(20, -1), axis=1)
    of_twelve = decoding.decode(pictures.through_pillow(tiff(30, 20, 12, 1, twelve.tobytes())))
    np.testing.assert_array_equal(of_twelve[..., 0], deep >> 8)
    rle = bmp(
        8,
        b"\x09\x01\0\0\x09\x02\0\1",
        bytes(4) + b"\x0a\x14\x1e\0\x28\x32\x3c\0" + bytes(1012),
        compression=1,
        width=9,
        height=2,
    )
    np.testing.assert_array_equal(decoding.decode(pictures.through_pillow(rle)), by_pillow(rle))

    for split in ("train", "val"):
        for label in ("one", "two"):
            (tmp_path / split / label).mkdir(parents=True)
            for name, content in (files | {"rle.bmp": rle}).items():
                (tmp_path / split / label / name).write_bytes(
                    content + split.encode() + label.encode()
                )
    dataset = datasets.open_dataset(
        "folder", tmp_path, suffixes=picture_files.SUFFIXES + picture_files.READ_BY_PREPARE
    )
    assert (dataset.train.examples, dataset.bad_pictures) == (12, ())
    found_by_training, identical = store.check(dataset)
    assert identical == [] and found_by_training == [
        f"{tmp_path}/{split}/{label}/rle.bmp cannot be read in training (a BMP with run-length "
        "compression, which only alexnet prepare reads; elsewhere save it as JPEG or PNG)"
        for split in ("train", "val")
        for label in ("one", "two")
    ]
    statistics = store.write(dataset, tmp_path / "stored/1.0.0", 90)
    assert (
        statistics["pictures"] == {"train": 12, "validation": 12}
        and statistics["bad_pictures"] == []
    )


def test_heic_is_stored_as_it_is_meant_to_look(tmp_path, rng):
    import pillow_heif

    pillow_heif.register_heif_opener()
    image = Image.fromarray(
        np.kron(rng.integers(0, 256, (6, 10, 3), np.uint8), np.ones((8, 8, 1)).astype(np.uint8))
    )
    content = saved(image, "HEIF", quality=-1, exif=exif(6)[6:])
    levels = decoding.decode(pictures.through_pillow(content)).numpy().astype(int)
    assert np.abs(levels - np.rot90(np.asarray(image).astype(int), -1)).max() <= 1
    for label in ("one", "two"):
        for name in ("a.heic", "b.HIF", "c.jpg"):  # telephones call them so too
            path = tmp_path / "pictures" / label / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content + label.encode() + name.encode())
    with_heic = picture_files.SUFFIXES + picture_files.READ_BY_PREPARE
    dataset = datasets.open_dataset("folder", tmp_path / "pictures", suffixes=with_heic)
    bad, unused = store.check(dataset)  # a training takes the .jpg for a JPEG file
    assert len(bad) == 2 and unused == []
    assert all("c.jpg cannot be read in training (HEIC, which only" in line for line in bad)
    counts = store.write(dataset, tmp_path / "stored/1.0.0", 90)["pictures"]
    assert sum(counts.values()) == 6


def test_what_prepare_cannot_read_either_is_told_with_what_to_do(tmp_path, monkeypatch, rng):
    monkeypatch.setattr(pictures.importlib.util, "find_spec", lambda name: None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    image = Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8))
    wide = saved(Image.fromarray(rng.random((9, 9), np.float32)), "TIFF")
    told = {
        "a.heic": (heic(b"heic"), "HEIC, which needs a package: pip install pillow-heif"),
        "b.heif": (heic(b"mif1"), "HEIC or AVIF, which needs a package: pip install"),
        "c.tif": (saved(image, "TIFF")[:200], "TIFF, damaged, or of a kind that Pillow does not"),
        "d.tiff": (wide, "TIFF, with numbers of no agreed range; save it with 8 or 16 bits"),
        "e.avif": (saved(image, "AVIF")[:300], "AVIF, damaged, or of a kind that Pillow does not"),
        "f.jp2": (saved(image, "JPEG2000")[:90], "JPEG 2000, damaged"),
        "g.jpg": (b"\xff\xd8\xff and nothing", "Invalid JPEG data"),
    }
    for label in ("one", "two"):
        (tmp_path / label).mkdir()
        for number in range(3):
            image.putpixel((0, 0), (number, len(label), 0))
            (tmp_path / label / f"{number}.png").write_bytes(saved(image, "PNG"))
    for name, (content, _) in told.items():
        (tmp_path / "one" / name).write_bytes(content)
    suffixes = picture_files.SUFFIXES + picture_files.READ_BY_PREPARE
    bad, _ = store.check(datasets.open_dataset("folder", tmp_path, suffixes=suffixes))
    assert len(bad) == len(told)
    for line, (name, (_, message)) in zip(sorted(bad), told.items()):
        assert f"one/{name} cannot be read ({message}" in line
        assert "alexnet prepare" not in line and "\n" not in line


def bomb(**changes):
    """A GIF of a first frame of 4 x 4 and of more, which are 65,535 x 65,535."""
    small = gif((4, 4), (0, 0), np.zeros((4, 4), np.uint8), COLOURS)
    large = gif((65535, 65535), (0, 0), np.zeros((1, 1), np.uint8), COLOURS, **changes)
    frame = large.index(b",\0\0\0\0\1\0\1\0")
    return small[:-1] + large[frame : frame + 5] + b"\xff\xff\xff\xff" + large[frame + 9 :]


def test_hostile_headers_cost_no_memory():
    assert decoding.decode(bomb()).shape == (4, 4, 3)  # what follows the first frame is not decoded
    webp = bytearray(saved(Image.new("RGBA", (9, 9)), "WEBP", exif=exif(1)))
    webp[24:30] = b"\xff" * 6
    lossless = bytearray(saved(Image.new("RGB", (9, 9)), "WEBP", lossless=True))
    lossless[21:25] = b"\xff\xff\xff\x0f"
    lossy = bytearray(saved(Image.new("RGB", (9, 9)), "WEBP"))
    lossy[26:30] = b"\xff\x3f\xff\x3f"
    frame = gif((4, 4), (0, 0), np.zeros((4, 4), np.uint8), COLOURS).replace(
        b",\0\0\0\0\4\0\4\0", b",\0\0\0\0\xff\xff\xff\xff"
    )
    for content in (
        webp,
        lossless,
        lossy,
        frame,
        bmp(1, bytes(8), bytes(8), width=2**20, height=2**20),
        bmp(8, bytes(8), bytes(8), width=2**20, height=-(2**20)),
    ):
        with pytest.raises(
            tf.errors.InvalidArgumentError, match="promises more than 89478485 pixels"
        ):
            decoding.decode(bytes(content))
    blocks = (
        gif((4, 4), (0, 0), np.zeros((4, 4), np.uint8), COLOURS)[:-2]
        + b"\1\0\2\0\0" * 20_000
        + b"\0;"
    )
    jpeg = saved(Image.new("RGB", (9, 9)), "JPEG")
    assert decoding.decode(picture_kinds.jpeg_with(jpeg, segment(0xFE, b"") * 30_000)).shape == (
        9,
        9,
        3,
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match="first frame ends early"):
        decoding.decode(blocks)
    far = b"GIF89a\4\0\4\0\0\0\0" + b"!\xfe\0" * 10_001 + b",\0\0\0\0\4\0\4\0\0\2\0;"
    with pytest.raises(tf.errors.InvalidArgumentError, match="a GIF without a frame"):
        decoding.decode(far)  # the way to which would have no end


@pytest.mark.parametrize(
    "name",
    ["GIF, transparent", "BMP, 8 bits", "BMP, 16 bits, 565", "WebP, lossless alpha", "PNG, alpha"],
)
def test_files_cut_anywhere_are_errors_and_nothing_worse(name):
    content = KINDS[name]
    for length in (*range(1, 80, 5), len(content) // 2, len(content) - 20):
        with pytest.raises(tf.errors.InvalidArgumentError):
            decoding.decode(content[:length])


def test_damaged_orientations_leave_a_picture_as_it_is(rng):
    jpeg = KINDS["JPEG"]
    expected = by_pillow(jpeg)
    for content in (
        b"Exif\0\0",
        b"Exif\0\0II*\0",
        exif(6)[:25],
        exif(6).replace(b"II*", b"II+"),
        exif(6)[:8] + b"\xff" * 40,
        b"Exif\0\0MM\0*\xff\xff\xff\xff\0\1",
    ):
        np.testing.assert_array_equal(
            decoding.decode(picture_kinds.jpeg_with(jpeg, segment(0xE1, content))), expected
        )


def test_sound_pngs_among_jpegs_make_no_noise(capfd):
    with pytest.raises(tf.errors.InvalidArgumentError, match="not a JPEG"):
        preprocessing.random_crop_of_jpeg(KINDS["PNG, RGB"], PIXELS, tf.constant([1, 2], tf.int64))
    decoding.decode(KINDS["PNG, RGB"])
    records = tf.data.Dataset.from_tensor_slices([KINDS["PNG, RGB"], KINDS["JPEG"]])
    seed = tf.constant([1, 2], tf.int64)
    for way, read in (
        (preprocessing.random_crop_of_jpeg, 1),
        (preprocessing.decode_random_crop, 2),
    ):
        crops = records.map(lambda picture: way(picture, PIXELS, seed)).ignore_errors()  # noqa: B023
        assert len(list(crops)) == read
    assert "JPEG" not in capfd.readouterr().err


def test_an_animation_whose_flags_promise_no_transparency():
    """TensorFlow's decoder writes four colours of it into room for three: it has to be told of
    four, or the heap is damaged.
    """
    shades = np.random.default_rng(0).integers(0, 255, [30, 40, 3], np.uint8)
    stream = io.BytesIO()
    Image.fromarray(shades).save(stream, "WEBP", lossless=True)
    still = stream.getvalue()[12:]

    def chunk(kind, data):
        return kind + struct.pack("<I", len(data)) + data

    side = struct.pack("<I", 39)[:3] + struct.pack("<I", 29)[:3]
    frame = chunk(b"ANMF", bytes(6) + side + bytes(4) + still)
    body = b"WEBP" + chunk(b"VP8X", b"\2\0\0\0" + side) + chunk(b"ANIM", bytes(6)) + 3 * frame
    for _ in range(3):
        image = decoding.decode(b"RIFF" + struct.pack("<I", len(body)) + body)
        np.testing.assert_array_equal(image, shades)


def refusal_of(check, content):
    """What `check` says of a file that it does not let pass, or None."""
    try:
        check(content)
    except (ValueError, tf.errors.InvalidArgumentError) as error:
        return pictures.reason(error) if isinstance(error, tf.errors.OpError) else str(error)
    return None


def test_a_graph_lets_pass_what_python_lets_pass():
    """The bounds on scans and compressed texts, told again in TensorFlow's operators."""
    progressive = saved(Image.new("RGB", (2000, 1000)), "JPEG", progressive=True)
    scan = progressive[progressive.rindex(b"\xff\xda") : -2]
    plain = KINDS["JPEG"]

    def scans(count, marker=b"\xff\xda"):  # of which each ten cost two megapixels
        return progressive[:-2] + scan.replace(b"\xff\xda", marker) * (count - 10) + b"\xff\xd9"

    small = plain[plain.rindex(b"\xff\xda") : -2]
    cases = {
        "440 scans": scans(440),
        "441 scans": scans(441),
        "441 scans behind fill bytes": scans(441, b"\xff\xff\xda"),
        "500 small scans": plain[:-2] + small * 499 + b"\xff\xd9",
        "501 small scans": plain[:-2] + small * 500 + b"\xff\xd9",
        "scans in a comment": picture_kinds.jpeg_with(plain, segment(0xFE, b"\xff\xda" * 20_000)),
        "scans behind the end": plain + b"\xff\xda\0\2" * 20_000,
        "a film behind the end": progressive + np.random.default_rng(0).bytes(2**22),
        "segments without end": plain[:2] + b"\xff\xfe\0\2" * 20_000 + plain[2:],
    }
    png = KINDS["PNG, RGB"]
    for kind, begin in (
        (b"zTXt", b"a\0\0"),
        (b"iTXt", b"\xe9\0\1\0\0\0"),
        (b"iTXt", b"a\0\0\0\0\0"),
    ):
        for count in (8, 9):
            with_texts = png
            for _ in range(count):
                with_texts = picture_kinds.png_with(with_texts, kind, begin + b"\1 text", True)
            cases[f"{count} texts of {kind!r}, {begin!r}"] = with_texts
    refused = 0
    for name, content in (cases | KINDS).items():
        by_python = refusal_of(picture_headers.check, content)
        by_graph = refusal_of(decoding.within_bounds, tf.constant(content))
        assert bool(by_graph) == bool(by_python), (name, by_python, by_graph)
        refused += bool(by_python)
        if by_python and "promises" not in by_python:
            assert by_graph == by_python
    assert refused == 5


def test_segments_that_hide_scans_are_not_walked_for_ever():
    plain = KINDS["JPEG"]
    content = plain[:2] + b"\xff\xfe\0\2" * 20_000 + plain[2:-2] + b"\xff\xda\0\2" * 11
    assert (
        refusal_of(decoding.within_bounds, tf.constant(content))
        == "a JPEG of more than 10000 segments"
    )
