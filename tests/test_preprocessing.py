"""One window of the scaled picture is what scaling the whole picture and cropping gives, everywhere
it is used.
"""

import contextlib
import io
import pathlib
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from alexnet_tf import decoding, preprocessing
from alexnet_tf.preprocessing import Preprocessing

PIXELS = Preprocessing(image_size=113, resize=128, channels=3, mean=(120.0, 110.0, 100.0), std=2.0)


def noise(rng, height, width):
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "height,width", [(200, 300), (301, 199), (128, 128), (50, 81), (113, 500), (3, 4)]
)
def test_central_crop_is_scaling_then_cropping(rng, height, width):
    image = noise(rng, height, width)
    crop = preprocessing.central_crop(tf.constant(image), PIXELS).numpy()
    shorter = min(height, width)
    scaled = [round(side * 128 / shorter) for side in (height, width)]
    whole = tf.image.resize(image, scaled, antialias=True).numpy()
    top, left = ((side - 128) // 2 + 7 for side in scaled)
    expected = whole[top : top + 113, left : left + 113]
    assert crop.shape == (113, 113, 3) and crop.dtype == np.uint8
    assert np.abs(crop - np.rint(expected)).max() <= 1  # rounding of a half may go either way
    assert (crop == np.rint(expected)).mean() > 0.998


def test_random_crop_depends_on_its_seed_alone_and_reaches_all_places(rng):
    image = tf.constant(noise(rng, 128, 128))
    whole = image.numpy()
    places = {}
    for seed in range(200):
        crop = preprocessing.random_crop(image, PIXELS, tf.constant([seed, 5], tf.int64)).numpy()
        again = preprocessing.random_crop(image, PIXELS, tf.constant([seed, 5], tf.int64)).numpy()
        np.testing.assert_array_equal(crop, again)
        for mirrored, view in ((False, crop), (True, crop[:, ::-1])):
            for top in range(16):
                for left in range(16):
                    if (view[0] == whole[top, left : left + 113]).all():
                        places[seed] = (mirrored, top, left)
    assert len(places) == 200  # each is a window of the picture, mirrored or not
    assert {mirrored for mirrored, _, _ in places.values()} == {False, True}
    for axis in (1, 2):
        assert {place[axis] for place in places.values()} == set(range(16))


def test_pixels_are_the_same_eagerly_and_inside_tf_data(rng):
    image = noise(rng, 90, 140)
    jpeg = io.BytesIO()
    Image.fromarray(image).save(jpeg, "PNG")
    seed = tf.constant([1, 2], tf.int64)
    dataset = tf.data.Dataset.from_tensors(jpeg.getvalue()).map(
        lambda picture: (
            preprocessing.central_crop(preprocessing.decode(picture), PIXELS),
            preprocessing.random_crop(preprocessing.decode(picture), PIXELS, seed),
        )
    )
    central, random = next(iter(dataset))
    np.testing.assert_array_equal(central, preprocessing.central_crop(tf.constant(image), PIXELS))
    np.testing.assert_array_equal(
        random, preprocessing.random_crop(tf.constant(image), PIXELS, seed)
    )


def test_decode_takes_grey_palette_alpha_and_cmyk(rng):
    image = Image.fromarray(np.repeat(np.repeat(noise(rng, 4, 4), 16, 0), 16, 1))
    for mode, form in (
        ("L", "JPEG"),
        ("L", "PNG"),
        ("RGBA", "PNG"),
        ("P", "PNG"),
        ("CMYK", "JPEG"),
        ("RGB", "BMP"),
        ("P", "GIF"),
    ):
        stream = io.BytesIO()
        image.convert(mode).save(stream, form, **({"quality": 100} if form == "JPEG" else {}))
        decoded = preprocessing.decode(stream.getvalue()).numpy()
        expected = np.asarray(Image.open(stream).convert("RGB"))
        assert decoded.shape == (64, 64, 3)
        assert np.abs(decoded.astype(int) - expected).mean() < 3, (mode, form)


def test_network_input_is_mean_subtracted_and_divided():
    images = np.full((1, 2, 2, 3), [130, 110, 90], np.uint8)
    expected = np.full((1, 2, 2, 3), [5.0, 0.0, -5.0], np.float32)
    np.testing.assert_array_equal(preprocessing.to_network_input(images, PIXELS), expected)


def test_grey_variant_gets_one_channel(rng):
    grey = Preprocessing(image_size=28, resize=32, channels=1, mean=(0.0,), std=1.0)
    crop = preprocessing.central_crop(
        tf.constant(np.full((40, 40, 3), [200, 100, 50], np.uint8)), grey
    )
    assert crop.shape == (28, 28, 1)
    assert set(np.unique(crop)) == {124}  # 0.299 * 200 + 0.587 * 100 + 0.114 * 50


def jpeg(image, **options):
    stream = io.BytesIO()
    image.save(stream, "JPEG", **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    "height,width",
    [(200, 300), (301, 199), (128, 128), (128, 200), (50, 81), (113, 500), (520, 700)],
)
def test_decoding_the_crop_alone_gives_the_bits_of_decoding_all(rng, height, width):
    image = Image.fromarray(noise(rng, height, width))
    for number in range(4):
        # colours are stored at half size, and smoothed
        picture = jpeg(image if number else image.convert("CMYK"), quality=90)
        seed = tf.constant([number, 4], tf.int64)
        np.testing.assert_array_equal(
            preprocessing.random_crop_of_jpeg(picture, PIXELS, seed),
            preprocessing.decode_random_crop(picture, PIXELS, seed),
        )


def test_the_quick_way_refuses_all_but_jpegs(rng):
    image = Image.fromarray(noise(rng, 130, 140))
    png = io.BytesIO()
    image.save(png, "PNG")
    whole = jpeg(image)
    for picture in (png.getvalue(), whole[:-2], whole + b"notes", b""):
        with pytest.raises(tf.errors.InvalidArgumentError):
            preprocessing.random_crop_of_jpeg(picture, PIXELS, tf.constant([1, 2], tf.int64))
    assert preprocessing.random_crop_of_jpeg(
        whole, PIXELS, tf.constant([1, 2], tf.int64)
    ).shape == (113, 113, 3)


def test_too_many_pixels_are_refused_in_every_way_of_reading(monkeypatch):
    picture = tf.io.encode_jpeg(tf.zeros([140, 160, 3], tf.uint8))
    seed = tf.constant([1, 2], tf.int64)
    for largest, refused in ((140 * 160, False), (140 * 160 - 1, True)):
        monkeypatch.setattr(decoding, "LARGEST_PICTURE", largest)
        for read in (
            preprocessing.decode,
            lambda picture: preprocessing.random_crop_of_jpeg(picture, PIXELS, seed),
        ):
            with (
                pytest.raises(tf.errors.InvalidArgumentError)
                if refused
                else contextlib.nullcontext()
            ):
                read(picture)


def test_colours_are_those_of_pillow_whatever_the_form(rng):
    blocks = Image.fromarray(np.repeat(np.repeat(noise(rng, 8, 6), 16, 0), 16, 1))
    cmyk = jpeg(blocks.convert("CMYK"), quality=95)
    marker = cmyk.index(b"\xff\xee")
    ycck = cmyk[: marker + 15] + b"\x02" + cmyk[marker + 16 :]  # the same numbers, said to be YCCK
    without_marker = cmyk[:marker] + cmyk[marker + 16 :]
    files = {
        "plain": jpeg(blocks),
        "grey": jpeg(blocks.convert("L")),
        "progressive": jpeg(blocks, progressive=True),
        "CMYK": cmyk,
        "YCCK": ycck,
        "CMYK without Adobe's marker": without_marker,
        "garbage behind": jpeg(blocks) + b"notes",
    }
    for name, picture in files.items():
        expected = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))
        np.testing.assert_array_equal(preprocessing.decode(picture), expected, name)
    assert np.abs(np.subtract(preprocessing.decode(without_marker), blocks, dtype=int)).mean() < 3
    broken_exif = b"\xff\xe1\0\x14Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12"
    np.testing.assert_array_equal(
        preprocessing.decode(files["plain"][:2] + broken_exif + files["plain"][2:]),
        preprocessing.decode(files["plain"]),
    )


def test_pngs_of_all_depths_first_frames_and_thin_pictures_are_read(rng):
    image = Image.fromarray(noise(rng, 30, 40))
    for mode in ("RGB", "RGBA", "L", "LA", "P", "1"):
        stream = io.BytesIO()
        image.convert(mode).save(stream, "PNG")
        expected = np.asarray(Image.open(stream).convert("RGB"))
        np.testing.assert_array_equal(preprocessing.decode(stream.getvalue()), expected, mode)
    deep = tf.constant(rng.integers(0, 2**16, (5, 6, 3)), tf.uint16)
    np.testing.assert_array_equal(preprocessing.decode(tf.io.encode_png(deep)), deep.numpy() >> 8)
    stream = io.BytesIO()
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "blue")]
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
    assert preprocessing.decode(stream.getvalue()).numpy()[0, 0].tolist() == [255, 0, 0]
    for height, width in ((1, 1), (1, 300), (300, 1)):
        for picture in (jpeg(Image.new("RGB", (width, height), "white")),):
            crop = preprocessing.central_crop(preprocessing.decode(picture, PIXELS.resize), PIXELS)
            assert crop.shape == (113, 113, 3) and (crop.numpy() == 255).all()


def test_large_jpegs_are_decoded_smaller_and_look_the_same(rng):
    smooth = Image.fromarray(noise(rng, 12, 16)).resize((800, 600), Image.Resampling.BICUBIC)
    picture = jpeg(smooth, quality=95)
    assert preprocessing.decode(picture, 75).shape == (150, 200, 3)
    assert preprocessing.decode(picture, 150).shape == (300, 400, 3)
    assert (
        preprocessing.decode(picture, 151).shape
        == preprocessing.decode(picture).shape
        == (600, 800, 3)
    )
    crops = [
        preprocessing.central_crop(preprocessing.decode(picture, resize), PIXELS)
        for resize in (None, 128)
    ]
    assert np.abs(np.subtract(*crops, dtype=int)).mean() < 1


def test_headers_that_promise_too_much_are_refused_before_decoding(rng):
    image = Image.fromarray(noise(rng, 20, 20))
    png, plain = io.BytesIO(), bytearray(jpeg(image))
    image.save(png, "PNG")
    frame = plain.index(b"\xff\xc0")
    plain[frame + 5 : frame + 9] = (60_000).to_bytes(2, "big") * 2
    side = (50_000).to_bytes(4, "big")
    for picture in (
        bytes(plain),
        png.getvalue()[:16] + side + side + png.getvalue()[24:],
        b"GIF89a" + b"\xff" * 4 + b"\0\0\0,\0\0\0\0" + b"\xff" * 4 + b"\0\x08\x01\0\0;",
        b"BM" + bytes(8) + b"\x36\0\0\0\x28\0\0\0" + side[::-1] * 2 + b"\1\0\x18\0" + bytes(24),
    ):
        with pytest.raises(
            tf.errors.InvalidArgumentError, match="promises more than 89478485 pixels"
        ):
            preprocessing.decode(picture)


PCA = ((70.0, 72.0, 68.0), (25.0, 2.0, -28.0), (5.0, -9.0, 4.0))


def shifts(strength=0.1, rows=4000, step=3, first_row=0, seed=1, **changes):
    pixels = Preprocessing(
        image_size=1, resize=1, channels=3, mean=(100.0,) * 3, std=2.0, colour_pca=PCA, **changes
    )
    images = np.full((rows, 1, 1, 3), 100, np.uint8)
    return (
        np.asarray(
            preprocessing.to_training_input(images, pixels, strength, seed, step, first_row)
        )[:, 0, 0]
        * 2
    )


def test_colour_noise_has_the_covariance_of_the_pixels_times_its_strength():
    noise = shifts()
    expected = 0.01 * np.array(PCA).T @ np.array(PCA)
    np.testing.assert_allclose(noise.mean(0), 0, atol=0.6)
    np.testing.assert_allclose(np.cov(noise.T), expected, atol=0.06 * expected.max())
    np.testing.assert_array_equal(shifts(0.0), 0)
    # N(0, 1): four of a thousand lie beyond 2.88
    scaled = noise @ np.linalg.inv(np.array(PCA)) / 0.1
    assert 0.001 < (np.abs(scaled) > 2.88).mean() < 0.008


def test_colour_noise_belongs_to_seed_step_and_row():
    whole = shifts(rows=8)
    for rows in (1, 2, 3, 4):  # to the bit, however many there are at once
        parts = [shifts(rows=min(rows, 8 - first), first_row=first) for first in range(0, 8, rows)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert len(np.unique(whole)) == 24
    for other in (shifts(rows=8, step=4), shifts(rows=8, seed=2)):
        assert (other != whole).all()
    compiled = tf.function(
        lambda: preprocessing.to_training_input(
            np.full((8, 1, 1, 3), 100, np.uint8),
            Preprocessing(1, 1, 3, (100.0,) * 3, 2.0, PCA),
            0.1,
            1,
            3,
            0,
        ),
        jit_compile=True,
    )
    np.testing.assert_allclose(compiled()[:, 0, 0] * 2, whole, rtol=1e-4, atol=1e-4)


def test_the_source_divides_noisy_inputs_and_the_paper_does_not():
    np.testing.assert_allclose(shifts(noise_divides=True) * 1.1, shifts(), rtol=1e-5, atol=1e-4)
    images = np.full((2, 1, 1, 3), 130, np.uint8)
    pixels = Preprocessing(1, 1, 3, (100.0,) * 3, 1.0, None, noise_divides=True)
    # no components: no noise
    np.testing.assert_array_equal(preprocessing.to_training_input(images, pixels, 0.1, 0, 0, 0), 30)


def test_settings_of_before_there_was_colour_noise_are_read():
    old = {"image_size": 227, "resize": 256, "channels": 3, "mean": [1, 2, 3], "std": 1.0}
    assert Preprocessing(**old).colour_pca is None
    assert Preprocessing(**old, colour_pca=[list(row) for row in PCA]).colour_pca == PCA


def test_what_is_no_mean_or_no_deviation_is_refused():
    old = {"image_size": 227, "resize": 256, "channels": 3, "mean": [1, 2, 3], "std": 1.0}
    for std in ((58.4, 57.1, 57.4), [58.4] * 3, np.ones(3)):
        with pytest.raises(ValueError, match="std is .*, not one number.*: give their"):
            Preprocessing(**old | {"std": std})
    for std in ("58", None, True):
        with pytest.raises(ValueError, match="std is .*, not one number for all channels$"):
            Preprocessing(**old | {"std": std})
    for mean in (127.5, None, "127", [None], np.float32(127)):
        with pytest.raises(ValueError, match="mean is .*, not a level of 0..255 for each"):
            Preprocessing(**old | {"mean": mean})


@pytest.mark.long
def test_pixels_that_keras_reads_as_the_page_on_python_does_are_near_to_ours(tmp_path):
    texture = np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)
    picture = Image.fromarray(texture).resize((300, 250), Image.Resampling.BICUBIC)
    for name in "ab":
        (tmp_path / name).mkdir()
        picture.save(tmp_path / name / "1.png")
    content = (tmp_path / "a" / "1.png").read_bytes()
    pixels = Preprocessing(40, 40, 3, (0.0,) * 3, 1.0)
    ours = preprocessing.decode_central_crop(content, pixels).numpy().astype(np.float32)

    def distance(interpolation):
        read = keras.utils.image_dataset_from_directory(
            tmp_path,
            image_size=(40, 40),
            interpolation=interpolation,
            crop_to_aspect_ratio=True,
            verbose=False,
        )
        return np.abs(next(iter(read))[0][0].numpy() - ours).mean()

    page = (pathlib.Path(__file__).parents[1] / "docs/python.md").read_text()
    (of_page,) = re.findall(r'    interpolation="(\w+)",\n', page)
    assert 2.5 * distance(of_page) < distance("bilinear")
