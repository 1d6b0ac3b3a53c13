"""The bytes of a picture file to what the picture is meant to look like: RGB levels, the same for
every reader of this project.

All of it is TensorFlow's operators, so that it runs in tf.data and travels inside an export. Its
decoders see to what is compressed; orientation, transparency, the screen of a GIF and the palette
of a BMP, of which they know nothing, are seen to here.
"""

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import tensorflow as tf

from alexnet_tf.picture_files import FOREIGN, PREPARED_ALONE, SAVE, UNKNOWN
from alexnet_tf.picture_headers import (
    MAX_SCANS,
    MAX_TEXTS,
    SCANS_OF_A_PIXEL,
    TOO_MANY_SCANS,
    TOO_MANY_TEXTS,
)
from alexnet_tf.pixels import HALVED_FROM, LARGEST_PICTURE, TOO_LARGE

# As Pillow and libjpeg's own tools decode, to the bit. TensorFlow's default is 0.8 levels darker,
# and no faster.
_DCT = {"dct_method": "INTEGER_ACCURATE"}
_RATIOS = 1, 2, 4, 8  # by which libjpeg makes a JPEG smaller as it decodes it
_MOST_STEPS = 10_000  # from one part of a file to the next; a hostile file may have millions
_RAMP = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(256, 3)

# The head of a JPEG with nothing but JFIF's own segment and tables before its frame header, where
# EXIF belongs; that it does not stand behind it either is seen by its name. To see both costs next
# to nothing, to walk along the segments a hundredth of the time of decoding. \C is any byte; RE2
# has no name for those above 127: markers, and the length of two tables in one segment (132).
_PLAIN_JPEG = (
    r"\C\C(\C\C\x00\x10JFIF\C{10})?(\C\C\x00\x43[\x00-\x03]\C{64}|\C\C\x00\C\x00\C{129})*"
    r"\C\C\x00[\x0b\x11]\x08\C*"
)
_EXIF_SEGMENT = r"\C*Exif\x00\x00\C*"
_PLAIN_HEAD = 1024  # bytes, more than such a head and the tables behind it have


def _apart(function: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[tf.Tensor], tf.Tensor]:
    """`function` of one string as a call of its own in a graph, which costs nothing where it stands
    in a branch not taken.

    TensorFlow would put its operators into the graph around it, and there pass over each of them,
    for every picture.
    """
    return tf.function(
        function,
        [tf.TensorSpec([], tf.string)],
        autograph=False,
        experimental_attributes={"_noinline": True},
    )


def decode(
    picture: tf.Tensor | bytes, resize: int | None = None, common: bool = False
) -> tf.Tensor:
    """Decodes the bytes of one JPEG, PNG, GIF, BMP or WebP file to RGB, uint8 [height, width, 3].

    The picture is turned as its EXIF orientation says, and laid on white where it is transparent.
    Of several frames the first is taken, on its screen, of 16 bits the upper 8; grey is repeated,
    CMYK converted, palettes are applied, colour profiles are not. With `resize`, a JPEG whose
    shorter side is at least 4, 8 or 16 times as many pixels is decoded at 1/2, 1/4 or 1/8 of its
    size, which libjpeg does sooner and without aliasing; what is left to scale is at least twice
    `resize`, so that the result is hardly another. Raises tf.errors.InvalidArgumentError for bytes
    that are no picture, that end early, that have a form which is not read (the message names it
    and says what to do), or whose header promises more than LARGEST_PICTURE pixels, before any of
    them is decoded.
    """
    picture = tf.convert_to_tensor(picture)
    image = tf.cond(
        tf.io.is_jpeg(picture),
        lambda: _decode_jpeg(picture, resize),
        lambda: _decode_png_alone(picture) if common else _decode_other(picture),
    )
    return tf.ensure_shape(image, [None, None, 3])


def _decode_png_alone(picture: tf.Tensor) -> tf.Tensor:
    is_png = tf.strings.regex_full_match(tf.strings.substr(picture, 0, 4), r"\CPNG")
    with _after((is_png, "neither JPEG nor PNG")):
        return _decode_png(tf.identity(picture))


def jpeg_in_parts(
    picture: tf.Tensor | bytes, resize: int
) -> tuple[tf.Tensor, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]]:
    """What `decode` gives for a JPEG, without decoding all of it: (its int32 [height, width],
    part).

    `part(begin, size)`, both int32 [2], gives that window, of which the outermost pixels may be off
    by some levels, where they are not the picture's own. Raises tf.errors.InvalidArgumentError for
    another format, for a file that does not end as a JPEG does, of which a part may be there and
    the rest not, and for more than LARGEST_PICTURE pixels.
    """
    picture = tf.convert_to_tensor(picture)
    with _after(
        (
            tf.io.is_jpeg(picture) & tf.equal(tf.strings.substr(picture, -2, 2), b"\xff\xd9"),
            "not a JPEG that ends as one",
        )
    ):
        picture = tf.identity(picture)
    orientation = _orientation_of_jpeg(picture)
    picture, stored = _checked_jpeg(picture)
    halvings = _halvings(stored, resize)
    odd = tf.cond(
        halvings > 0, lambda: _shares_colours_of_eight_pixels(picture), lambda: tf.constant(False)
    )
    with _after((~odd, "a JPEG whose parts do not decode as the whole does")):
        divisor = tf.bitwise.left_shift(1, halvings)

    def exchanged(pair: tf.Tensor) -> tf.Tensor:
        return tf.where(orientation > 4, pair[::-1], pair)

    def part(begin: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        begin = tf.where(_reversed_axes(orientation), whole - begin - size, begin)
        window = tf.concat([exchanged(begin), exchanged(size)], 0)
        return _turned(
            tf.switch_case(
                halvings,
                [
                    functools.partial(
                        tf.image.decode_and_crop_jpeg, picture, window, 3, ratio, **_DCT
                    )
                    for ratio in _RATIOS
                ],
            ),
            orientation,
        )

    whole = exchanged((stored + divisor - 1) // divisor)
    return whole, part


@_apart
def _shares_colours_of_eight_pixels(picture: tf.Tensor) -> tf.Tensor:
    """Whether a JPEG may be sampled 4 x 2, 2 x 4 or more. libjpeg gives other colours to a part of
    such a one than to the whole, where it makes it smaller.
    """
    # Behind the length of a frame header of three colours and the bits of a level: height, width,
    # count, and of each colour its name, the sampling, one digit each way, and the table.
    heads = tf.strings.substr(_split([picture], b"\0\x11\x08")[0], 0, 14)
    sampled = tf.strings.regex_full_match(heads, r"\C{4}\x03(\C{3})*\C[\x24\x33\x34\x42-\x44]\C*")
    return tf.reduce_any(sampled)


def _decode_jpeg(picture: tf.Tensor, resize: int | None) -> tf.Tensor:
    orientation = _orientation_of_jpeg(picture)
    picture, size = _checked_jpeg(picture)
    halvings = _halvings(size, resize) if resize else tf.constant(0)
    image = tf.switch_case(
        halvings,
        [functools.partial(tf.io.decode_jpeg, picture, 3, ratio, **_DCT) for ratio in _RATIOS],
    )
    return _turned(image, orientation)


def _checked_jpeg(picture: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """(the file to decode, its int32 [height, width] as stored).

    An error if there are too many pixels.
    """
    shape = tf.image.extract_jpeg_shape(picture)
    size = _checked_size(shape[:2])
    return tf.cond(shape[2] == 4, lambda: _as_adobe_has_it(picture), lambda: picture), size


def _checked_size(size: tf.Tensor) -> tf.Tensor:
    """`size`, an integer [height, width], as int32.

    An error if there are no pixels, or too many.
    """
    pixels = tf.reduce_prod(tf.cast(size, tf.int64))
    with _after(
        (pixels > 0, "a picture without pixels"),
        (pixels <= LARGEST_PICTURE, TOO_LARGE),
    ):
        return tf.cast(tf.identity(size), tf.int32)


def _after(*checks: tuple[tf.Tensor, str | tf.Tensor]) -> AbstractContextManager:
    """The context of what is computed only where all `checks` hold, pairs of a condition and what
    the error says otherwise.
    """
    made = [tf.debugging.Assert(condition, [message]) for condition, message in checks]
    # None: it has run already
    return tf.control_dependencies([check for check in made if check is not None])


def _as_adobe_has_it(picture: tf.Tensor) -> tf.Tensor:
    """A JPEG of four colours with a marker of Adobe's before its own, if it has one, which then
    prevails.

    Without one, TensorFlow takes 255 for full ink. What writes such files, and Pillow, take it for
    none, as Adobe does.
    """
    marker = b"\xff\xee\0\x0eAdobe\0d\0\0\0\0\0"
    return tf.strings.join(
        [tf.strings.substr(picture, 0, 2), marker, tf.strings.substr(picture, 2, -1)]
    )


def _halvings(size: tf.Tensor, resize: int) -> tf.Tensor:
    """How many times a JPEG of `size`, int32 [2], is halved: what is left is at least twice
    `resize`.
    """
    return tf.math.count_nonzero(
        tf.reduce_min(size) >= resize * tf.constant(HALVED_FROM), dtype=tf.int32
    )


@_apart
def _decode_other(picture: tf.Tensor) -> tf.Tensor:
    head = tf.strings.substr(picture, 0, 16)
    ways = {
        r"\CPNG(\C{0,8}|\C{8}[^C]\C*)": _decode_png,
        r"GIF8\C*": _decode_gif,
        r"BM\C*": _decode_bmp,
        r"RIFF\C{4}WEBP\C*": _decode_webp,
    }
    return tf.case(
        [
            (tf.strings.regex_full_match(head, signature), functools.partial(way, picture))
            for signature, way in ways.items()
        ],
        default=functools.partial(_refuse, head),
    )


@_apart
def _refuse(head: tf.Tensor) -> tf.Tensor:
    message = tf.case(
        [
            (tf.strings.regex_full_match(head, signature), functools.partial(tf.constant, message))
            for signature, message in FOREIGN.items()
        ],
        default=lambda: tf.constant(UNKNOWN),
    )
    with _after((tf.constant(False), message)):
        return tf.zeros([1, 1, 3], tf.uint8)


def _bytes(picture: tf.Tensor) -> tf.Tensor:
    """uint8 of the bytes of a file, and zeros behind: what a header that ends early would say is
    read as 0.
    """
    return tf.io.decode_raw(tf.strings.join([picture, bytes(64)]), tf.uint8)


def _length(picture: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.strings.length(picture), tf.int64)


def _number(
    data: tf.Tensor, begin: int | tf.Tensor, size: int, little_endian: bool = True
) -> tf.Tensor:
    """int64, unsigned: what `size` of the bytes in `data` say."""
    powers = 256 ** np.arange(size, dtype=np.int64)
    return tf.reduce_sum(
        tf.cast(data[begin : begin + size], tf.int64) * (powers if little_endian else powers[::-1])
    )


def _on_white(image: tf.Tensor) -> tf.Tensor:
    """uint8 [height, width, 4] with alpha to [height, width, 3], rounded to the nearest level."""
    eight = tf.constant(8, tf.uint16)
    shade = (255 - tf.cast(image[..., :3], tf.uint16)) * tf.cast(image[..., 3:], tf.uint16) + 128
    shade = tf.bitwise.right_shift(
        shade + tf.bitwise.right_shift(shade, eight), eight
    )  # by 255, without a division
    return tf.cast(255 - shade, tf.uint8)


# Bounds -------------------------------------------------------------------------------------------


def within_bounds(picture: tf.Tensor | bytes) -> tf.Tensor:
    """`picture`, the bytes of a file, if it has no more scans (JPEG) or compressed texts (PNG) than
    picture_headers.check lets pass: else a tf.errors.InvalidArgumentError.

    For pictures that come to a decoder within a graph, where no Python looks at them first. All
    else that a file may cost is bounded by `decode` itself.
    """
    picture = tf.convert_to_tensor(picture)
    is_png = tf.strings.regex_full_match(tf.strings.substr(picture, 0, 4), r"\CPNG")
    return tf.case(
        [
            (tf.io.is_jpeg(picture), lambda: _of_few_scans(picture)),
            (is_png, lambda: _of_few_texts(picture)),
        ],
        default=lambda: tf.identity(picture),
    )


def _split(
    strings: tf.Tensor | list, separator: bytes, most: int = -1
) -> tuple[tf.Tensor, tf.Tensor]:
    """The parts of `strings` at `separator`, the first `most` times that it stands there, and for
    each its place among those of its string.
    """
    split = tf.raw_ops.StringSplitV2(input=strings, sep=separator, maxsplit=most)
    return split.values, split.indices[:, 1]


def _of_few_scans(picture: tf.Tensor) -> tf.Tensor:
    # What looks like a scan may be none: those of few are not gone over.
    parts, _ = _split([picture], b"\xff\xda", SCANS_OF_A_PIXEL + 1)
    return tf.cond(
        tf.size(parts) - 1 > SCANS_OF_A_PIXEL,
        lambda: _counted_scans(picture),
        lambda: tf.identity(picture),
    )


@_apart
def _counted_scans(picture: tf.Tensor) -> tf.Tensor:
    data, length = _bytes(picture), _length(picture)
    second = data[1:]  # of what may be a marker, as picture_headers._MARKER has it
    marks = (second != 0) & (second != 0xFF) & ((second < 0xD0) | (second > 0xD7))
    marks = tf.concat([tf.where((data[:-1] == 0xFF) & marks)[:, 0], [length]], 0)
    zero = tf.constant(0, tf.int64)

    def segment(at: tf.Tensor, kind: tf.Tensor, scans: tf.Tensor) -> tuple[tf.Tensor, ...]:
        at = marks[tf.searchsorted(marks, at[None])[0]]
        kind = data[at + 1]
        size = tf.where(kind == 1, zero, _number(data, at + 2, 2, little_endian=False))
        return tf.minimum(at + 2 + size, length), kind, scans + tf.cast(kind == 0xDA, tf.int64)

    def goes_on(_: tf.Tensor | None, kind: tf.Tensor, scans: tf.Tensor) -> tf.Tensor:
        return (kind != 0xD9) & (kind != 0) & (scans <= MAX_SCANS)

    _, kind, scans = tf.while_loop(
        goes_on,
        segment,
        (tf.minimum(zero + 2, length), tf.constant(1, tf.uint8), zero),
        maximum_iterations=_MOST_STEPS,
    )
    pixels = tf.reduce_prod(tf.cast(tf.image.extract_jpeg_shape(picture)[:2], tf.int64))
    times = (scans + SCANS_OF_A_PIXEL - 1) // SCANS_OF_A_PIXEL
    with _after(
        (scans <= MAX_SCANS, TOO_MANY_SCANS),
        (~goes_on(None, kind, scans), f"a JPEG of more than {_MOST_STEPS} segments"),
        (
            pixels * times <= LARGEST_PICTURE,
            f"{TOO_LARGE}, in all its scans",
        ),
    ):
        return tf.identity(picture)


@_apart
def _of_few_texts(picture: tf.Tensor) -> tf.Tensor:
    texts, _ = _split([picture], b"zTXt")
    others, _ = _split([picture], b"iTXt")
    # of each a keyword, a zero, and whether it is compressed
    parts, places = _split(tf.strings.substr(others[1:], 0, 81), b"\0", 1)
    compressed = tf.equal(tf.strings.substr(parts[places == 1], 0, 1), b"\1")
    count = tf.size(texts) - 1 + tf.math.count_nonzero(compressed, dtype=tf.int32)
    with _after((count <= MAX_TEXTS, TOO_MANY_TEXTS)):
        return tf.identity(picture)


# Orientation --------------------------------------------------------------------------------------


def _turned(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """uint8 [height, width, 3], turned and mirrored as an `orientation` of EXIF says, int32 in
    1..8.
    """

    def turned() -> tf.Tensor:
        upright = tf.transpose(image, tf.where(orientation > 4, [1, 0, 2], [0, 1, 2]))
        return tf.raw_ops.Reverse(
            tensor=upright, dims=tf.concat([_reversed_axes(orientation), [False]], 0)
        )

    return tf.cond(orientation > 1, turned, lambda: image)


def _reversed_axes(orientation: tf.Tensor) -> tf.Tensor:
    """bool [2]: whether rows, and whether columns, come in reverse, after they were exchanged where
    `orientation` is above 4.
    """
    return tf.gather(
        [[False, False], [False, True], [True, True], [True, False]], (orientation - 1) % 4
    )


def _orientation_of_jpeg(picture: tf.Tensor) -> tf.Tensor:
    """int32 in 1..8: what the first EXIF segment before the scan says; 1 where there is none."""
    head = tf.strings.substr(picture, 0, _PLAIN_HEAD)
    plain = tf.strings.regex_full_match(head, _PLAIN_JPEG)
    plain &= ~tf.strings.regex_full_match(head, _EXIF_SEGMENT)
    return tf.cond(plain, lambda: 1, lambda: _orientation_in_segments(picture))


@_apart
def _orientation_in_segments(picture: tf.Tensor) -> tf.Tensor:
    end = tf.strings.length(picture) - 10

    def segment(at: tf.Tensor, _: tf.Tensor, __: tf.Tensor) -> tuple[tf.Tensor, ...]:
        head = tf.io.decode_raw(tf.strings.substr(picture, at, 10), tf.uint16, little_endian=False)
        marker, length = head[0], tf.cast(head[1], tf.int32)
        exif = tf.reduce_all(
            tf.gather(head, [0, 2, 3, 4]) == [0xFFE1, 0x4578, 0x6966, 0]
        )  # "Exif", and two zeros
        last = exif | (marker == 0xFFDA) | (marker < 0xFF00)
        return (
            tf.where(last, at, at + tf.where(marker == 0xFFFF, 1, 2 + length)),
            exif,
            last,
        )  # 0xFFFF: the first fills up

    false = tf.constant(False)
    at, exif, _ = tf.while_loop(
        lambda at, _, last: ~last & (at <= end),
        segment,
        (2, false, false),
        parallel_iterations=1,
        maximum_iterations=_MOST_STEPS,
    )
    return tf.cond(
        exif, lambda: _orientation(tf.strings.substr(picture, at + 10, 2**16)), lambda: 1
    )


@_apart
def _orientation(exif: tf.Tensor) -> tf.Tensor:
    """int32 in 1..8 that EXIF states, a string that is laid out as a TIFF file; 1 where it states
    none, or is damaged.
    """
    exif = tf.strings.regex_replace(exif, r"\A(Exif\x00\x00){1,2}", "", replace_global=False)
    data, length = _bytes(exif), _length(exif)
    little_endian = data[0] == ord("I")

    def number(begin: int | tf.Tensor, size: int) -> tf.Tensor:
        return tf.where(
            little_endian, _number(data, begin, size), _number(data, begin, size, False)
        )

    first = tf.minimum(number(4, 4), length)
    count = tf.minimum(number(first, 2), tf.maximum(length - first - 2, 0) // 12)
    entries = tf.cast(tf.reshape(data[first + 2 : first + 2 + 12 * count], [-1, 12]), tf.int32)

    def column(begin: int) -> tf.Tensor:
        return tf.reduce_sum(
            entries[:, begin : begin + 2] * tf.where(little_endian, [1, 256], [256, 1]), 1
        )

    kind = column(2)  # 3: of two bytes, 4: of four
    value = column(8) + tf.where(kind == 4, column(10), 0)
    stated = (column(0) == 0x112) & (column(4) + column(6) == 1) & ((kind == 3) | (kind == 4))
    sound = (
        tf.strings.regex_full_match(tf.strings.substr(exif, 0, 4), r"II\*\x00|MM\x00\*")
        & (value > 0)
        & (value < 9)
    )
    return tf.concat([[1], tf.boolean_mask(value, stated & sound)], 0)[-1]


# Forms --------------------------------------------------------------------------------------------


@_apart
def _decode_png(picture: tf.Tensor) -> tf.Tensor:
    data, length = _bytes(picture), _length(picture)
    alpha, pixels, exif, end = (
        int.from_bytes(name, "big") for name in (b"tRNS", b"IDAT", b"eXIf", b"IEND")
    )

    def chunk(
        at: tf.Tensor, _: tf.Tensor, has_alpha: tf.Tensor, has_pixels: tf.Tensor, exif_at: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        content, kind = (_number(data, at + begin, 4, little_endian=False) for begin in (0, 4))
        has_alpha |= (kind == alpha) & ~has_pixels
        return (
            tf.minimum(at + 12 + content, length),
            kind,
            has_alpha,
            has_pixels | (kind == pixels),
            tf.where(kind == exif, at, exif_at),
        )

    first, none, false = tf.constant(8, tf.int64), tf.constant(0, tf.int64), tf.constant(False)
    _, _, has_alpha, _, exif_at = tf.while_loop(
        lambda at, kind, *_: (kind != end) & (at < length),
        chunk,
        (first, none, false, false, none),
        maximum_iterations=_MOST_STEPS,
    )
    has_alpha |= data[25] >= 4  # the type of colour: grey with alpha, or RGB with it
    with tf.control_dependencies(
        [_checked_size(tf.stack([_number(data, begin, 4, False) for begin in (20, 16)]))]
    ):
        image = tf.cond(
            has_alpha,
            lambda: _on_white(tf.io.decode_png(picture, 4)),
            lambda: tf.io.decode_png(picture, 3),
        )
    return _turned(
        image,
        tf.cond(
            exif_at > 0,
            lambda: _orientation(
                tf.strings.substr(picture, exif_at + 8, _number(data, exif_at, 4, False))
            ),
            lambda: 1,
        ),
    )


@_apart
def _decode_webp(picture: tf.Tensor) -> tf.Tensor:
    data, length = _bytes(picture), _length(picture)
    is_extended, is_lossless = (
        tf.equal(tf.strings.substr(picture, 12, 4), name) for name in (b"VP8X", b"VP8L")
    )
    packed, exif = _number(data, 21, 4), int.from_bytes(b"EXIF", "little")
    size = tf.where(
        is_extended,
        tf.stack([_number(data, begin, 3) for begin in (27, 24)]) + 1,
        tf.where(
            is_lossless,
            tf.stack([packed // 2**14, packed]) % 2**14 + 1,
            tf.stack([_number(data, begin, 2) for begin in (28, 26)]) % 2**14,
        ),
    )

    def chunk(at: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, ...]:
        kind, content = _number(data, at, 4), _number(data, at + 4, 4)
        return tf.where(kind == exif, at, tf.minimum(at + 8 + content + content % 2, length)), kind

    def walk() -> tf.Tensor:
        at, kind = tf.while_loop(
            lambda at, kind: (kind != exif) & (at < length),
            chunk,
            (tf.constant(12, tf.int64), tf.constant(0, tf.int64)),
            maximum_iterations=_MOST_STEPS,
        )
        return tf.cond(
            kind == exif,
            lambda: _orientation(tf.strings.substr(picture, at + 8, _number(data, at + 4, 4))),
            lambda: 1,
        )

    # TensorFlow writes four colours of an animation, also where the flags promise three, and makes
    # room for three: with the flag of transparency it makes room for what it writes.
    with_alpha = tf.constant([bytes([flags | 16]) for flags in range(256)])
    picture = tf.cond(
        is_extended & (data[20] & 2 > 0),
        lambda: tf.strings.join(
            [
                tf.strings.substr(picture, 0, 20),
                with_alpha[tf.cast(data[20], tf.int32)],
                tf.strings.substr(picture, 21, -1),
            ]
        ),
        lambda: picture,
    )
    with tf.control_dependencies([_checked_size(size)]):
        # Not by DecodeWebP: where a runtime has no such operator, an export with it would not load.
        image = tf.io.decode_image(picture, 0, expand_animations=False)
    image = tf.cond(tf.shape(image)[2] == 4, lambda: _on_white(image), lambda: image)
    return _turned(image, tf.cond(is_extended & (data[20] & 8 > 0), walk, lambda: 1))


def _palette(data: tf.Tensor, begin: tf.Tensor, count: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """uint8 [256, 3]:

    `count` colours of `size` bytes each in `data`, and black, as in Pillow; without any, levels of
    grey.
    """
    there = (
        tf.maximum(tf.size(data, tf.int64) - begin, 0) // size
    )  # in a file that ends early, which is told elsewhere
    colours = tf.reshape(
        data[begin : begin + size * tf.minimum(tf.minimum(count, 256), there)], tf.stack([-1, size])
    )[:, :3]
    beyond = tf.where(count > 0, tf.zeros([256, 3], tf.uint8), _RAMP)
    return tf.concat([colours, beyond[tf.shape(colours)[0] :]], 0)


@_apart
def _decode_gif(picture: tf.Tensor) -> tf.Tensor:
    """TensorFlow's decoder gets the first frame alone, which bounds its work.

    A palette that it is given with it makes levels of the numbers of colours.
    """
    data, length = _bytes(picture), _length(picture)

    def colours(flags: tf.Tensor) -> tf.Tensor:
        return tf.where(flags >= 128, 2 ** (flags % 8 + 1), 0)

    def extension(at: tf.Tensor, transparent: tf.Tensor, step: tf.Tensor) -> tuple[tf.Tensor, ...]:
        is_control = (_number(data, at, 2) == 0xF921) & (data[at + 3] & 1 > 0)
        after, step = tf.cond(
            data[at] == ord("!"),
            lambda: _after_blocks(data, length, at + 2, step + 1),
            lambda: (at + 1, step + 1),
        )
        return after, tf.where(is_control, _number(data, at + 6, 1), transparent), step

    def before_frame(at: tf.Tensor, _: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        return (
            (data[at] != ord(",")) & (data[at] != ord(";")) & (at < length) & (step < _MOST_STEPS)
        )

    zero, common = tf.constant(0, tf.int64), colours(_number(data, 10, 1))
    at, transparent, step = tf.while_loop(
        before_frame, extension, (tf.minimum(13 + 3 * common, length), zero - 1, zero)
    )
    left, top, width, height = (_number(data, at + begin, 2) for begin in (1, 3, 5, 7))
    flags = _number(data, at + 9, 1)
    own = colours(flags)
    begin = tf.minimum(at + 10 + 3 * own, length)
    end, _ = _after_blocks(data, length, begin + 1, step)
    screen = tf.maximum([_number(data, 8, 2), _number(data, 6, 2)], [top + height, left + width])
    with _after(
        (data[at] == ord(","), "a GIF without a frame"),
        (end <= length, "a GIF whose first frame ends early"),
        (width * height > 0, "a picture without pixels"),
    ):
        screen = tf.cast(_checked_size(screen), tf.int64)
    with tf.control_dependencies([screen]):
        size, interlaced = (
            tf.strings.substr(picture, at + 5, 4),
            tf.where(flags & 64 > 0, b"\x40", b"\0"),
        )
        numbers = tf.io.decode_gif(
            tf.strings.join(
                [
                    b"GIF89a",
                    size,
                    b"\xf7\0\0",
                    _RAMP.tobytes(),
                    b",\0\0\0\0",
                    size,
                    interlaced,
                    tf.strings.substr(picture, begin, end - begin),
                    b";",
                ]
            )
        )[0, :, :, 0]
    around = tf.stack([[top, screen[0] - top - height], [left, screen[1] - left - width]])
    numbers = tf.pad(numbers, around, constant_values=tf.cast(tf.maximum(transparent, 0), tf.uint8))
    palette = _palette(
        data, tf.where(own > 0, at + 10, 13), tf.where(own > 0, own, common), zero + 3
    )
    palette = tf.where(
        (tf.range(256, dtype=tf.int64) == transparent)[:, None], tf.constant(255, tf.uint8), palette
    )
    return tf.gather(palette, tf.cast(numbers, tf.int32))


def _after_blocks(
    data: tf.Tensor, length: tf.Tensor, at: tf.Tensor, step: tf.Tensor
) -> tuple[tf.Tensor, ...]:
    """(the place after the chain of a GIF's blocks that begins at `at`, steps taken by then),
    int64; beyond `length` if cut.

    Encoders write blocks of one length: these are passed at one step.
    """

    def blocks(at: tf.Tensor, step: tf.Tensor) -> tuple[tf.Tensor, ...]:
        stride = tf.cast(data[at], tf.int64) + 1
        same = tf.cast(data[at : at + 4096 * stride : stride] == data[at], tf.int32)
        return tf.minimum(at + stride * tf.argmin(tf.concat([same, [0]], 0)), length), step + 1

    at, step = tf.while_loop(
        lambda at, step: (data[at] > 0) & (step < _MOST_STEPS),
        blocks,
        (tf.minimum(at, length), step),
    )
    return tf.where(data[at] > 0, length, at) + 1, step


@_apart
def _decode_bmp(picture: tf.Tensor) -> tf.Tensor:
    """TensorFlow's own decoder takes the numbers of colours for levels of grey, and knows three of
    these forms.
    """
    data, length = _bytes(picture), _length(picture)
    begin, header = _number(data, 10, 4), _number(data, 14, 4)
    is_old = header == 12  # of OS/2

    def field(place: int, size: int, old: tf.Tensor) -> tf.Tensor:
        return tf.where(is_old, old, _number(data, place, size))

    zero = tf.constant(0, tf.int64)
    width, height, bits = (
        field(place, size, _number(data, old, 2))
        for place, size, old in ((18, 4, 18), (22, 4, 20), (28, 2, 24))
    )
    compression, count = field(30, 4, zero), field(46, 4, zero)
    from_top = height >= 2**31  # a negative number
    height = tf.where(from_top, 2**32 - height, height)
    masks = tf.stack(
        [_number(data, place, 4) for place in (54, 58, 62)]
        + [tf.where(header >= 56, _number(data, 66, 4), 0)]
    )
    masks = tf.where(
        compression == 3,
        masks,
        tf.where(
            bits == 16, tf.constant([0x7C00, 0x3E0, 0x1F, 0], tf.int64), [0xFF0000, 0xFF00, 0xFF, 0]
        ),
    )
    in_words = tf.reduce_all(masks[:3] == [0x7C00, 0x3E0, 0x1F]) | tf.reduce_all(
        masks[:3] == [0xF800, 0x7E0, 0x1F]
    )
    in_bytes = masks[:, None] == [0xFF, 0xFF00, 0xFF0000, 0xFF000000]
    whole_bytes = tf.reduce_all(tf.reduce_any(in_bytes[:3], 1)) & (
        (masks[3] == 0) | tf.reduce_any(in_bytes[3])
    )
    has_palette = (bits == 1) | (bits == 4) | (bits == 8)
    known = (is_old | (header >= 40)) & tf.where(
        has_palette,
        compression == 0,
        ((compression == 0) | (compression == 3))
        & (
            (bits == 16) & in_words
            | (bits == 24) & tf.reduce_all(masks[:3] == [0xFF0000, 0xFF00, 0xFF])
            | (bits == 32) & whole_bytes
        ),
    )

    entry, stride = tf.where(is_old, zero + 3, 4), (width * bits + 31) // 32 * 4
    count = tf.where(has_palette, tf.where(count == 0, 2 ** tf.minimum(bits, 8), count), 0)
    begin = tf.maximum(begin, 14 + header)
    begin = tf.where(
        begin == 14 + header, begin + entry * count, begin
    )  # some say so, although the palette is there
    with _after(
        (
            (compression != 1) & (compression != 2),
            f"a BMP with run-length compression, {PREPARED_ALONE}",
        ),
        (known, f"a BMP of a rare form, {SAVE}"),
    ):
        height, width = tf.unstack(_checked_size([height, width]))
    with _after((begin + tf.cast(height, tf.int64) * stride <= length, "a BMP that ends early")):
        rows = tf.reshape(data[begin : begin + tf.cast(height, tf.int64) * stride], [height, -1])
    rows = tf.raw_ops.Reverse(tensor=rows, dims=[~from_top, False])

    def by_palette(bits: int) -> tf.Tensor:
        shifts = tf.constant(list(range(8 - bits, -1, -bits)), tf.uint8)
        numbers = tf.bitwise.bitwise_and(
            tf.bitwise.right_shift(rows[:, :, None], shifts), 2**bits - 1
        )
        numbers = tf.reshape(numbers, [height, -1])[:, :width]
        return tf.gather(
            _palette(data, 14 + header, count, entry)[:, ::-1], tf.cast(numbers, tf.int32)
        )

    def of_words() -> tf.Tensor:
        # By a table of all words: nothing of four bytes and three colours for each pixel.
        parts = tf.cast(masks[:3], tf.int32)
        lowest = parts & -parts
        levels = (tf.range(2**16)[:, None] & parts) // lowest * 255 // (parts // lowest)
        words = tf.bitcast(tf.reshape(rows[:, : 2 * width], [height, width, 2]), tf.uint16)
        return tf.gather(tf.cast(levels, tf.uint8), tf.cast(words, tf.int32))

    def of_bytes(size: int) -> tf.Tensor:
        return tf.reshape(rows[:, : size * width], [height, width, size])

    def of_four() -> tf.Tensor:
        places = tf.argmax(tf.cast(in_bytes, tf.int32), 1)
        # Programs write an alpha of zeros and mean none, as other readers have it.
        has_alpha = (masks[3] > 0) & tf.reduce_any(of_bytes(4)[:, :, places[3]] > 0)
        return tf.cond(
            has_alpha,
            lambda: _on_white(tf.gather(of_bytes(4), places, axis=2)),
            lambda: tf.gather(of_bytes(4), places[:3], axis=2),
        )

    return tf.case(
        [(bits == number, functools.partial(by_palette, number)) for number in (1, 4, 8)]
        + [(bits == 16, of_words), (bits == 24, lambda: of_bytes(3)[:, :, ::-1])],
        default=of_four,
    )
