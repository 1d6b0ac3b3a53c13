"""Picture files: what is wrong with one, and which are the same.

Names of files are bytes throughout, as the system has them: they need not be text.
"""

import concurrent.futures
import hashlib
import importlib.util
import io
import os
import re
import stat
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps, UnidentifiedImageError

from alexnet_tf import console, picture_headers, preprocessing
from alexnet_tf.errors import one_line
from alexnet_tf.picture_files import PREPARED_ALONE
from alexnet_tf.pixels import LARGEST_PICTURE

_PILLOW_FORMATS = ("AVIF", "HEIF", "TIFF", "JPEG2000", "BMP")
_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262  # tags of TIFF
_OPEN_FILES = 16
LARGEST_FILE = 2**29  # bytes; a BMP of as many pixels as are read has 0.36e9
_MANY = 20_000  # files, of which reading all takes long enough to be shown


def check_header(picture: bytes) -> None:
    """As picture_headers.check, as an error of the decoders: tf.errors.InvalidArgumentError."""
    try:
        picture_headers.check(picture)
    except ValueError as error:
        raise tf.errors.InvalidArgumentError(None, None, str(error)) from None


def identity(content: bytes) -> int:
    """The identity of the picture file that holds these bytes: see record.py."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def know(files: Sequence[bytes]) -> tuple[np.ndarray, list[str | None]]:
    """(the identity of each of `files`, uint64, and what is wrong with its header, or None).

    Reads them whole. That one cannot be read, as it has gone meanwhile, is a fault too.
    """

    def look_through(file: bytes) -> tuple[int, str | None]:
        try:
            with open(file, "rb") as stream:
                picture = stream.read()
            check_header(picture)
        except OSError as error:
            return 0, error.strerror
        except tf.errors.InvalidArgumentError as error:
            return 0, error.message
        return identity(picture), None

    with (
        concurrent.futures.ThreadPoolExecutor(_OPEN_FILES) as pool,
        console.progress(len(files), "identify pictures", hidden=len(files) < _MANY) as bar,
    ):
        known, faults = [], []
        for number, fault in pool.map(look_through, files):
            known.append(number)
            faults.append(fault)
            bar.update()
    return np.array(known, np.uint64), faults


def examine(files: Iterable[bytes], by_pillow: bool = False) -> tuple[list[int], list[str | None]]:
    """Sizes of `files` in bytes, and for each what is wrong with it, or None: two lists.

    With `by_pillow`, what `through_pillow` reads is sound. Looks at each file's first and last
    bytes, which takes about 30 microseconds a file; one that looks odd is decoded. So damage
    between the two is not found here.
    """
    sizes, faults = [], []
    with concurrent.futures.ThreadPoolExecutor(_OPEN_FILES) as pool:
        for file, (size, fault, odd) in zip(files, pool.map(_look_at, files)):
            sizes.append(size)
            faults.append(
                fault or (odd and fault_of(tf.io.read_file, file, by_pillow=by_pillow)) or None
            )
    return sizes, faults


def _look_at(file: bytes) -> tuple[int, str | None, bool]:
    """(size in bytes, what is wrong or None, whether it looks unlike a whole JPEG, PNG, GIF or WebP
    file).
    """
    try:
        kind = os.stat(file).st_mode
        if not stat.S_ISREG(kind):  # opening a pipe would wait for ever
            return 0, "a folder" if stat.S_ISDIR(kind) else "neither a file nor a folder", False
        with open(file, "rb") as stream:
            head = stream.read(12)
            size = stream.seek(0, 2)
            if size > LARGEST_FILE:
                return size, f"{size:,} bytes; no more than {LARGEST_FILE:,} are read", False
            stream.seek(max(0, size - 12))
            tail = stream.read()
    except OSError as error:
        return 0, "a link that leads nowhere" if os.path.islink(file) else error.strerror, False
    whole_jpeg = head.startswith(b"\xff\xd8\xff") and tail.endswith(b"\xff\xd9")
    whole_png = head.startswith(b"\x89PNG") and tail[4:8] == b"IEND"
    whole_gif = head.startswith(b"GIF8") and tail.endswith(b"\0;")
    whole_webp = (
        head.startswith(b"RIFF")
        and head.endswith(b"WEBP")
        and int.from_bytes(head[4:8], "little") + 8 <= size
    )
    return size, None, not (whole_jpeg or whole_png or whole_gif or whole_webp)


def fault_of(
    read: Callable[..., tf.Tensor], *arguments: Any, by_pillow: bool = False
) -> str | None:
    """What is wrong with the picture whose bytes `read(*arguments)` returns, or None; `by_pillow`
    as in `examine`.
    """
    try:
        picture = read(*arguments)
        check_header(picture.numpy())
        preprocessing.decode(picture)
    except tf.errors.OpError as error:
        told = reason(error)
        if not by_pillow or PREPARED_ALONE not in told:
            return told
        try:
            through_pillow(picture.numpy())
        except ValueError as why:
            return told.replace(PREPARED_ALONE, str(why))
    return None


def through_pillow(picture: bytes) -> bytes:
    """A file that `decoding.decode` does not read, AVIF, HEIC, TIFF, JPEG 2000 or a compressed BMP,
    as one that it does.

    The same pixels: turned upright, on white, more than 8 bits cut to the upper 8; the first page
    or frame. Raises ValueError, which says what to do, if Pillow cannot read it either, which may
    be for want of a plugin, if its numbers have no such range, or if it has more than
    LARGEST_PICTURE pixels.
    """
    has_plugin = importlib.util.find_spec("pillow_heif") is not None
    if has_plugin:
        import pillow_heif

        pillow_heif.register_heif_opener()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pixels, which are counted here, and of odd tags
            Image.init()
            # one without its plugin would be an error
            known = [form for form in _PILLOW_FORMATS if form in Image.OPEN]
            image: Image.Image = Image.open(io.BytesIO(picture), formats=known)
            if image.width * image.height > LARGEST_PICTURE:
                raise Image.DecompressionBombError
            if image.mode in ("I", "F"):
                raise _Refusal("with numbers of no agreed range; save it with 8 or 16 bits")
            tags = getattr(image, "tag_v2", {})  # of a TIFF
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I;16"):
                levels = np.asarray(image) >> tags.get(_BITS_PER_SAMPLE, (16,))[0] - 8
                if tags.get(_PHOTOMETRIC) == 0:  # white is 0, which Pillow sees to in 8 bits alone
                    levels = 255 - levels
                image = Image.fromarray(levels.astype(np.uint8))
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            stream = io.BytesIO()
            image.convert("RGB").save(stream, "BMP")
    except _Refusal:
        raise
    except Image.DecompressionBombError:  # by Pillow where there are far more
        raise ValueError(f"with more than {LARGEST_PICTURE} pixels; make it smaller") from None
    except Exception as error:  # Pillow's readers raise what they like
        unknown = isinstance(error, UnidentifiedImageError)
        if unknown and not has_plugin and re.match(rb".{4}ftyp(?!avi)", picture, re.DOTALL):
            raise ValueError("which needs a package: pip install pillow-heif") from None
        why = "" if unknown else f": {one_line(error, 80)}"
        raise ValueError(f"damaged, or of a kind that Pillow does not read{why}") from None
    return stream.getvalue()


class _Refusal(ValueError):
    """What `through_pillow` says itself."""


def reason(error: tf.errors.OpError) -> str:
    """What an error of TensorFlow says, in a few words."""
    text = error.message.split("[Op:")[0].split("\n\t [[")[0].split("\nTraceback")[0].strip()
    # then comes where the graph was made, and last what is wrong
    if text.startswith("Graph execution error"):
        text = text.splitlines()[-1]
    text = re.sub(r".*Summarized data: b'(.*)'", r"\1", " ".join(text.split()))
    text = re.sub(r".*assertion failed: \[(.*?)\]( \[\[.*)?", r"\1", text)
    text = re.sub(r".* transformation with iterator: \S+: ", "", text)
    return re.sub(r"{{.*?}} ", "", text)[:160].strip()
