"""Picture files: what each is known by, and what is wrong with one.

Names of files are bytes throughout, as the system has them: they need not be text.
"""

import concurrent.futures
import io
import os
import re
import stat
import warnings

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps

from alexnet_tf import console, preprocessing
from alexnet_tf.data import record
from alexnet_tf.pixels import LARGEST_PICTURE

_PILLOW_FORMATS = ("AVIF", "HEIF", "TIFF", "JPEG2000", "BMP")
_OPEN_FILES = 16
_MANY = 20_000  # files, of which reading all takes long enough to be shown


def identities(files) -> np.ndarray:
    """uint64: the record.identity of each of `files`, which reads them whole. 0 for one that cannot
    be read now.
    """

    def identity(file):
        try:
            with open(file, "rb") as stream:
                return record.identity(stream.read())
        except OSError:
            return 0

    with (
        concurrent.futures.ThreadPoolExecutor(_OPEN_FILES) as pool,
        console.progress(len(files), "know pictures", hidden=len(files) < _MANY) as bar,
    ):
        known = []
        for number in pool.map(identity, files):
            known.append(number)
            bar.update()
    return np.array(known, np.uint64)


def examine(files, by_pillow=False):
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


def _look_at(file):
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


def fault_of(read, *arguments, by_pillow=False):
    """What is wrong with the picture whose bytes `read(*arguments)` returns, or None; `by_pillow`
    as in `examine`.
    """
    try:
        picture = read(*arguments)
        preprocessing.decode(picture)
    except tf.errors.OpError as error:
        if (
            by_pillow
            and error.error_code == tf.errors.INVALID_ARGUMENT
            and through_pillow(picture.numpy()) is not None
        ):
            return None
        return reason(error)
    return None


def through_pillow(picture: bytes) -> bytes | None:
    """A file that `decoding.decode` does not read, AVIF, HEIC, TIFF, JPEG 2000 or a compressed BMP,
    as one that it does.

    The same pixels: turned upright, on white, 16 bits cut to the upper 8. None if Pillow cannot
    read it either, for want of a plugin too, if it holds numbers that have no such range, or more
    than pixels.LARGEST_PICTURE pixels.
    """
    try:
        import pillow_heif

        pillow_heif.register_heif_opener()
    except ImportError:
        pass  # HEIC is refused by name
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pixels, which are counted here, and of odd tags
            Image.init()
            # one without its plugin would be an error
            known = [form for form in _PILLOW_FORMATS if form in Image.OPEN]
            image: Image.Image = Image.open(io.BytesIO(picture), formats=known)
            if image.width * image.height > LARGEST_PICTURE or image.mode in ("I", "F"):
                return None
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I;16"):
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            stream = io.BytesIO()
            image.convert("RGB").save(stream, "BMP")
    except Exception:  # Pillow's readers raise what they like
        return None
    return stream.getvalue()


def reason(error):
    """What an error of TensorFlow says, in a few words."""
    text = error.message.split("[Op:")[0].split("\n\t [[")[0].strip()
    # then comes where the graph was made, and last what is wrong
    if text.startswith("Graph execution error"):
        text = text.splitlines()[-1]
    text = re.sub(r".*Summarized data: b'(.*)'", r"\1", " ".join(text.split()))
    text = re.sub(r".*assertion failed: \[(.*?)\]( \[\[.*)?", r"\1", text)
    return re.sub(r"{{.*?}} ", "", text)[:160].strip()
