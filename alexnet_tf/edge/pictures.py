"""The bytes of a picture to what a network sees of it, by Pillow and NumPy alone.

preprocessing.py and decoding.py do the same in TensorFlow, for training and for exports. The two
decode to the same levels; those of a scaled picture differ by one at most, since Pillow rounds
between rows and columns.
"""

import io
import re
import struct
import warnings

import numpy as np
from PIL import Image

from alexnet_tf import picture_files, picture_headers
from alexnet_tf.errors import one_line
from alexnet_tf.pixels import HALVED_FROM, LARGEST_PICTURE, LUMA, TOO_LARGE, Preprocessing

# Of EXIF's orientations: what makes such a picture upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION, _SHORT, _LONG = 0x112, 3, 4  # of EXIF: the entry, and its types
_PNG_DEPTH = 24  # the place of the byte that says how many bits a level has


def prepare(picture: bytes, pixels: Preprocessing) -> np.ndarray:
    """The bytes of a JPEG, PNG, GIF, BMP or WebP file to what the network sees of it: uint8
    [image_size, image_size, channels].

    Raises ValueError, its message saying what is wrong, for bytes that are no picture, that end
    early, whose format is not read, or whose header promises more than LARGEST_PICTURE pixels.
    """
    picture_headers.check(picture)
    return central_crop(decode(picture, pixels.resize), pixels)


def decode(picture: bytes, resize: int | None = None) -> Image.Image:
    """What preprocessing.decode gives of the bytes of a file, as an RGB image of Pillow.

    With `resize`, a large JPEG is decoded at a part of its size. Raises as `prepare` does.
    """
    kind = picture_files.format_of(picture[: picture_files.HEAD])
    if kind is None:
        raise ValueError(picture_files.foreign(picture[: picture_files.HEAD]))
    if kind == "WEBP":  # Pillow would import all of its plugins to find this one
        from PIL import WebPImagePlugin  # noqa: F401
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pixels, which are counted here, and of odd tags
            image: Image.Image = Image.open(io.BytesIO(picture), formats=[kind])
            if image.width * image.height > LARGEST_PICTURE:
                raise _TooLargeError
            if resize:
                ratio = 2 ** sum(min(image.size) >= times * resize for times in HALVED_FROM)
                image.draft(None, (image.width // ratio, image.height // ratio))
            image.load()
            if kind == "PNG" and b"IEND" not in picture:  # Pillow minds missing pixels alone
                raise ValueError("it ends early")
    except (_TooLargeError, Image.DecompressionBombError):
        raise ValueError(TOO_LARGE) from None
    except Exception as error:  # Pillow's readers raise what they like
        words = one_line(error, 120)
        known = words and not isinstance(error, Image.UnidentifiedImageError)
        raise ValueError(f"a damaged {kind} file{f': {words}' * bool(known)}") from None
    turn = _TURNS.get(_orientation(image.info.get("exif", b"")))
    if kind == "PNG" and "transparency" in image.info:
        _scale_transparency(image, depth=picture[_PNG_DEPTH])
    if kind == "BMP" and image.mode == "RGBA" and not image.getchannel("A").getbbox():
        image = image.convert("RGB")  # programs write an alpha of zeros and mean none
    image = _on_white(image)
    return image if turn is None else image.transpose(turn)


class _TooLargeError(Exception):
    pass


def _scale_transparency(image: Image.Image, depth: int) -> None:
    """Makes the transparent level that a PNG of `depth` bits states one of the levels that Pillow
    has made of its own. Raises ValueError where those say too little.
    """
    if image.mode == "L":
        image.info["transparency"] *= 255 // (2**depth - 1)
    elif image.mode == "RGB" and depth == 16:
        raise ValueError(f"a 16-bit PNG with a transparent colour, {picture_files.SAVE}")


def _on_white(image: Image.Image) -> Image.Image:
    """RGB, white where it was transparent, and of 16 bits the upper 8."""
    if image.mode.startswith("I"):  # PNG, of 16 bits of grey
        deep = np.asarray(image)
        levels = (deep >> 8).astype(np.uint8)
        levels[deep == image.info.get("transparency", -1)] = 255
        return Image.fromarray(levels).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _orientation(exif: bytes) -> int:
    """In 1..8, what EXIF states; 1 where it states none, or is damaged.

    Read here, since Pillow also believes other places than those that decoding.py looks at.
    """
    exif = re.sub(rb"\A(Exif\0\0){1,2}", b"", exif)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    stated = 1
    if order and len(exif) >= 8:
        (first,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack(f"{order}H", exif[first : first + 2].ljust(2, b"\0"))
        for entry in range(first + 2, min(first + 2 + 12 * count, len(exif) - 11), 12):
            tag, kind, values = struct.unpack_from(f"{order}HHI", exif, entry)
            if (tag, values) == (_ORIENTATION, 1) and kind in (_SHORT, _LONG):
                size = "H" if kind == _SHORT else "I"
                (value,) = struct.unpack_from(f"{order}{size}", exif, entry + 8)
                stated = value if 0 < value < 9 else stated
    return stated


def central_crop(image: Image.Image, pixels: Preprocessing) -> np.ndarray:
    """An RGB image of any size to what preprocessing.central_crop gives of its levels: uint8
    [image_size, image_size, channels].
    """
    resize, side = pixels.resize, pixels.image_size
    offset, least = (resize - side) // 2, min(image.size)
    box, whole = [], []
    for size in image.size:
        scaled = round(size * resize / least)
        corner = (scaled - resize) // 2 + offset
        box.append((corner * size / scaled, (corner + side) * size / scaled))
        reach = max(size / scaled, 1) + 1  # of the filter, in pixels of the picture, and one more
        whole.append((max(int(box[-1][0] - reach), 0), min(int(box[-1][1] + reach) + 1, size)))
    # Pillow keeps the box in float32, which is exact enough only near 0.
    (left, right), (top, bottom) = whole
    near = image.crop((left, top, right, bottom))
    (box_left, box_right), (box_top, box_bottom) = box
    window = near.resize(
        (side, side),
        Image.Resampling.BILINEAR,
        (
            box_left - left,
            box_top - top,
            min(box_right - left, near.width),
            min(box_bottom - top, near.height),
        ),
    )
    levels = np.asarray(window)
    if pixels.channels == 1:
        levels = np.rint(levels.astype(np.float32) @ np.array(LUMA, np.float32)).astype(np.uint8)[
            ..., None
        ]
    return levels
