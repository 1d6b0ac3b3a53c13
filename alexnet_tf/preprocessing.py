"""Pixels in, network input out: the only home of decoding, scaling, cropping, mirroring and mean subtraction.

Training, evaluation, export and classification all call this module, so that a network never sees pixels prepared in another
way than those it was trained on. uint8 travels between the stages; `to_network_input` does the arithmetic at the end.
"""

import dataclasses

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What has to be known of the pixels; it is stored with every model and export."""

    image_size: int  # side of the square that the network reads, in pixels
    resize: int  # the shorter side of a picture is scaled to this before cropping, in pixels
    channels: int  # 3: RGB; 1: grey (ITU-R BT.601 luma)
    mean: tuple  # subtracted per channel, in 0..255
    std: float  # then the difference is divided by this; 1 in the paper

    def __post_init__(self):
        object.__setattr__(self, "mean", tuple(float(level) for level in self.mean))  # JSON gives a list


def default_resize(row, image_size):
    """The `resize` that belongs to `image_size` for a row of model.VARIANTS: the variant's own, or in proportion 8 / 7."""
    return row["resize"] if image_size == row["image_size"] else round(image_size * 8 / 7)


def decode(picture):
    """Decodes the bytes of one JPEG, PNG, BMP or GIF file (its first frame) to RGB, uint8 [height, width, 3].

    Grey is repeated, alpha and EXIF orientation are ignored. Raises tf.errors.InvalidArgumentError for bytes that are no
    picture or that end early.
    """
    image = tf.io.decode_image(picture, channels=3, expand_animations=False)
    image.set_shape([None, None, 3])
    return image


def central_crop(image, preprocessing):
    """One picture of any size, uint8 [height, width, 3], to the central uint8 [image_size, image_size, channels]."""
    offset = tf.fill([2], (preprocessing.resize - preprocessing.image_size) / 2)
    return _window(image, preprocessing, tf.floor(offset))


def ten_views(image, preprocessing):
    """The four corners and the centre of the central resize x resize square, each and its mirror image: uint8 [10, s, s, c].

    As the paper's section 4.1 and __trim_borders of the source's convdata_jpeg.py have it.
    """
    square = _window(image, dataclasses.replace(preprocessing, image_size=preprocessing.resize), tf.zeros([2]))
    size, far = preprocessing.image_size, preprocessing.resize - preprocessing.image_size
    places = (0, 0), (0, far), (far, 0), (far, far), (far // 2, far // 2)
    views = [square[top:top + size, left:left + size] for top, left in places]
    return tf.stack([*views, *(view[:, ::-1] for view in views)])


def random_crop(image, preprocessing, seed):
    """As `central_crop`, but at a random place of the central resize x resize square, and mirrored half the time.

    Section 4.1 of the paper. `seed` is an int64 [2]: the same seed gives the same crop.
    """
    highest = preprocessing.resize - preprocessing.image_size + 1
    offset = tf.random.stateless_uniform([2], seed, 0, highest, tf.int32)
    mirror = tf.random.stateless_uniform([], seed + [0, 1], 0, 2, tf.int32) == 1
    crop = _window(image, preprocessing, tf.cast(offset, tf.float32))
    return tf.cond(mirror, lambda: crop[:, ::-1], lambda: crop)


def _window(image, preprocessing, offset):
    """Scales the shorter side to `resize` and returns image_size x image_size pixels of the central square, uint8.

    `offset` [2] is the window's (top, left) within that square. Only the window is computed: it equals the same window of the
    whole scaled picture (triangle filter, antialiased as tf.image.resize does it).
    """
    size = tf.cast(tf.shape(image)[:2], tf.float32)
    scaled = tf.round(size * preprocessing.resize / tf.reduce_min(size))
    scale = scaled / size
    corner = tf.floor((scaled - preprocessing.resize) / 2) + offset
    window = tf.raw_ops.ScaleAndTranslate(
        images=image[None], size=[preprocessing.image_size] * 2, scale=scale, translation=-corner,
        kernel_type="triangle", antialias=True)[0]
    if preprocessing.channels == 1:
        window = tf.image.rgb_to_grayscale(window)
    window = tf.cast(tf.clip_by_value(tf.round(window), 0, 255), tf.uint8)
    return tf.ensure_shape(window, [preprocessing.image_size] * 2 + [preprocessing.channels])


def to_network_input(images, preprocessing):
    """uint8 or float images in 0..255, [batch, image_size, image_size, channels], to float32 less the mean, over `std`."""
    return (tf.cast(images, tf.float32) - tf.constant(preprocessing.mean)) / preprocessing.std
