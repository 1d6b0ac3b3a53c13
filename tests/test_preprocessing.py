"""One window of the scaled picture is what scaling the whole picture and cropping gives, everywhere it is used."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from alexnet_tf import preprocessing
from alexnet_tf.preprocessing import Preprocessing

PIXELS = Preprocessing(image_size=113, resize=128, channels=3, mean=(120.0, 110.0, 100.0), std=2.0)


def noise(rng, height, width):
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("height,width", [(200, 300), (301, 199), (128, 128), (50, 81), (113, 500), (3, 4)])
def test_central_crop_is_scaling_then_cropping(rng, height, width):
    image = noise(rng, height, width)
    crop = preprocessing.central_crop(tf.constant(image), PIXELS).numpy()
    shorter = min(height, width)
    scaled = [round(side * 128 / shorter) for side in (height, width)]
    whole = tf.image.resize(image, scaled, antialias=True).numpy()
    top, left = ((side - 128) // 2 + 7 for side in scaled)
    expected = whole[top:top + 113, left:left + 113]
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
                    if (view[0] == whole[top, left:left + 113]).all():
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
    dataset = tf.data.Dataset.from_tensors(jpeg.getvalue()).map(lambda picture: (
        preprocessing.central_crop(preprocessing.decode(picture), PIXELS),
        preprocessing.random_crop(preprocessing.decode(picture), PIXELS, seed)))
    central, random = next(iter(dataset))
    np.testing.assert_array_equal(central, preprocessing.central_crop(tf.constant(image), PIXELS))
    np.testing.assert_array_equal(random, preprocessing.random_crop(tf.constant(image), PIXELS, seed))


def test_decode_takes_grey_palette_alpha_and_cmyk(rng):
    image = Image.fromarray(np.repeat(np.repeat(noise(rng, 4, 4), 16, 0), 16, 1))
    for mode, form in (("L", "JPEG"), ("L", "PNG"), ("RGBA", "PNG"), ("P", "PNG"), ("CMYK", "JPEG"), ("RGB", "BMP"), ("P", "GIF")):
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
    crop = preprocessing.central_crop(tf.constant(np.full((40, 40, 3), [200, 100, 50], np.uint8)), grey)
    assert crop.shape == (28, 28, 1)
    assert set(np.unique(crop)) == {124}  # 0.299 * 200 + 0.587 * 100 + 0.114 * 50
