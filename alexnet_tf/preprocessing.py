"""Pixels in, network input out: the only home of scaling, cropping, mirroring, colour noise and
mean subtraction. Bytes become pixels in `decoding`.

Training, evaluation, export and classification all call this module, so that a network never sees
pixels prepared in another way than those it was trained on. uint8 travels between the stages;
`to_network_input`, and in training `to_training_input`, do the arithmetic at the end.
"""

import dataclasses
import functools
import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from alexnet_tf.decoding import decode, jpeg_in_parts
from alexnet_tf.pixels import Preprocessing

LESS_MEAN = "less_mean"  # the name of operations of `to_edge_input`


def central_crop(image: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """One picture of any size, uint8 [height, width, 3], to the central uint8 [image_size,
    image_size, channels].
    """
    offset = tf.fill([2], (preprocessing.resize - preprocessing.image_size) // 2)
    return _window(tf.shape(image)[:2], functools.partial(_cut, image), preprocessing, offset)


def decode_central_crop(
    picture: tf.Tensor, preprocessing: Preprocessing, common: bool = False
) -> tf.Tensor:
    """`central_crop` of the picture in the bytes of a file: `common` and errors as of `decode`."""
    return central_crop(decode(picture, preprocessing.resize, common), preprocessing)


def ten_views(image: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """The four corners and the centre of the central resize x resize square, each and its mirror
    image: uint8 [10, s, s, c].

    As the paper's section 4.1 and __trim_borders of the source's convdata_jpeg.py have it.
    """
    square = _window(
        tf.shape(image)[:2],
        functools.partial(_cut, image),
        dataclasses.replace(preprocessing, image_size=preprocessing.resize),
        tf.zeros([2], tf.int32),
    )
    size, far = preprocessing.image_size, preprocessing.resize - preprocessing.image_size
    places = (0, 0), (0, far), (far, 0), (far, far), (far // 2, far // 2)
    views = [square[top : top + size, left : left + size] for top, left in places]
    return tf.stack([*views, *(view[:, ::-1] for view in views)])


def random_crop(image: tf.Tensor, preprocessing: Preprocessing, seed: tf.Tensor) -> tf.Tensor:
    """As `central_crop`, but at a random place of the central resize x resize square, and mirrored
    half the time.

    Section 4.1 of the paper. `seed` is an int64 [2]: the same seed gives the same crop.
    """
    return _random_window(tf.shape(image)[:2], functools.partial(_cut, image), preprocessing, seed)


def decode_random_crop(
    picture: tf.Tensor, preprocessing: Preprocessing, seed: tf.Tensor, common: bool = False
) -> tf.Tensor:
    """`random_crop` of the picture in the bytes of a file. `common` and errors are `decode`'s."""
    return random_crop(decode(picture, preprocessing.resize, common), preprocessing, seed)


def random_crop_of_jpeg(
    picture: tf.Tensor, preprocessing: Preprocessing, seed: tf.Tensor
) -> tf.Tensor:
    """The bits of `decode_random_crop` for a JPEG, of which only that part is decoded.

    Raises as `decoding.jpeg_in_parts` does.
    """
    size, part = jpeg_in_parts(picture, preprocessing.resize)
    return _random_window(size, part, preprocessing, seed)


def _cut(image: tf.Tensor, begin: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    return tf.slice(image, tf.concat([begin, [0]], 0), tf.concat([size, [-1]], 0))


def _random_window(
    size: tf.Tensor, part: Callable, preprocessing: Preprocessing, seed: tf.Tensor
) -> tf.Tensor:
    highest = preprocessing.resize - preprocessing.image_size + 1
    offset = tf.random.stateless_uniform([2], seed, 0, highest, tf.int32)
    mirror = tf.random.stateless_uniform([], seed + [0, 1], 0, 2, tf.int32) == 1
    crop = _window(size, part, preprocessing, offset)
    return tf.cond(mirror, lambda: tf.reverse(crop, [1]), lambda: crop)


def _window(
    size: tf.Tensor, part: Callable, preprocessing: Preprocessing, offset: tf.Tensor
) -> tf.Tensor:
    """Scales the shorter side to `resize` and returns image_size x image_size pixels of the central
    square, uint8.

    `size`, int32 [2], is that of the picture; `part(begin, size)` gives pixels of it, of which the
    outermost may be off by some levels, where they are not the picture's own; `offset`, int32 [2],
    is the window's (top, left) within that square. Only the window is read and computed: it equals
    the same window of the whole scaled picture (triangle filter, antialiased as tf.image.resize
    does it).
    """
    resize, side = preprocessing.resize, preprocessing.image_size

    def cut() -> tf.Tensor:
        corner = (size - resize) // 2 + offset
        begin = tf.maximum(corner - 1, 0)
        return _cut(
            part(begin, tf.minimum(corner + side + 1, size) - begin), corner - begin, [side, side]
        )

    def resample() -> tf.Tensor:
        exact = tf.cast(size, tf.float64)
        scaled = tf.round(exact * resize / tf.reduce_min(exact))
        scale = scaled / exact
        corner = (scaled - resize) // 2 + tf.cast(offset, tf.float64)
        # of the filter, in pixels of the picture, and one more
        reach = tf.maximum(1 / scale, 1) + 1
        begin = tf.maximum(tf.cast(tf.floor(corner / scale - reach), tf.int32), 0)
        end = tf.minimum(tf.cast(tf.math.ceil((corner + side) / scale + reach), tf.int32), size)
        shift = tf.cast(begin, tf.float64) * scale - corner
        return _resample(
            part(begin, end - begin), tf.cast(scale, tf.float32), tf.cast(shift, tf.float32), side
        )

    window = tf.cond(tf.reduce_min(size) == resize, cut, resample)
    if preprocessing.channels == 1:
        window = tf.cast(tf.round(tf.image.rgb_to_grayscale(tf.cast(window, tf.float32))), tf.uint8)
    return tf.ensure_shape(window, [side, side, preprocessing.channels])


def _resample(image: tf.Tensor, scale: tf.Tensor, shift: tf.Tensor, size: int) -> tf.Tensor:
    """uint8 [height, width, 3] to uint8 [size, size, 3]: a pixel at p comes to p * scale + shift,
    both float32 [2].

    ScaleAndTranslate is three times as fast on rows, whole vectors, as on the three numbers of a
    pixel. So rows are scaled, turned into columns, and scaled again.
    """

    def rows(image: tf.Tensor, axis: int) -> tf.Tensor:
        flat = tf.reshape(image, [1, tf.shape(image)[0], 1, -1])
        scaled = tf.raw_ops.ScaleAndTranslate(
            images=flat,
            size=[size, 1],
            scale=tf.stack([scale[axis], 1.0]),
            translation=tf.stack([shift[axis], 0.0]),
            kernel_type="triangle",
            antialias=True,
        )
        return tf.reshape(scaled, [size, tf.shape(image)[1], 3])

    columns = rows(tf.transpose(rows(image, 0), [1, 0, 2]), 1)
    return tf.transpose(tf.cast(tf.round(columns), tf.uint8), [1, 0, 2])


def to_network_input(images: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """uint8 or float images in 0..255, [batch, image_size, image_size, channels], to float32 less
    the mean, over `std`.
    """
    return (tf.cast(images, tf.float32) - tf.constant(preprocessing.mean)) / preprocessing.std


def to_training_input(
    images: tf.Tensor,
    preprocessing: Preprocessing,
    strength: float,
    seed: int,
    step: tf.Tensor,
    first_row: tf.Tensor,
) -> tf.Tensor:
    """`to_network_input` with colour noise (paper, section 4.1): to each picture the principal
    components of the training pixels are added, each times a number from N(0, strength^2), the same
    for all pixels.

    The paper multiplies eigenvalues; the 2012 source multiplies their roots, the standard
    deviations, as here: eigenvalues would drown the picture. Noise belongs to (seed, step, row of
    the global batch), the first row here being `first_row`. It is the same under XLA, because
    random integers are.
    """
    inputs = to_network_input(images, preprocessing)
    if preprocessing.colour_pca is None:
        return inputs
    shift = strength * tf.reduce_sum(
        _normal(tf.shape(images)[0], seed, step, first_row)[:, :, None] * preprocessing.colour_pca,
        1,
    )
    noisy = inputs + shift[:, None, None] / preprocessing.std
    return noisy / (1 + strength) if preprocessing.noise_divides else noisy


def _normal(rows: tf.Tensor, seed: int, step: tf.Tensor, first_row: tf.Tensor) -> tf.Tensor:
    """float32 [rows, 3] from N(0, 1), by the Box-Muller transform of random bits, of which Philox
    gives four words for each row.

    The counter is (row, step); the key lies above those of layers.Dropout.
    """
    counter = tf.stack([tf.cast(first_row, tf.uint64), tf.cast(step, tf.uint64)])
    bits = tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=[rows, 4],
        key=tf.constant([2**32 + seed], tf.uint64),
        counter=counter,
        alg=1,
        dtype=tf.int32,
    )
    uniform = (tf.cast(bits, tf.float32) + (2**31 + 0.5)) * 2.0**-32  # in 0..1, without 0
    radius, angle = tf.sqrt(-2 * tf.math.log(uniform[:, :2])), 2 * math.pi * uniform[:, 2:]
    normal = tf.concat([radius * tf.cos(angle), radius[:, :1] * tf.sin(angle[:, :1])], 1)
    # Logarithm and cosine differ in their last bit with the number of rows, and under XLA. Nothing
    # that is learned should.
    return tf.round(normal * 1024) / 1024


def to_edge_input(images: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """As `to_network_input`, but the mean goes in two parts, each as good as exact in float16.

    A converter to float16 rounds all constants: a mean that is 0.03 off in a channel costs 1e-3 of
    a probability. LESS_MEAN names the subtractions: a converter to int8 knows them by it.
    """
    mean = np.array(preprocessing.mean, np.float32)
    rounded = mean.astype(np.float16).astype(np.float32)
    less = tf.subtract(tf.cast(images, tf.float32), rounded, name=LESS_MEAN)
    return tf.subtract(less, mean - rounded, name=LESS_MEAN) / preprocessing.std
