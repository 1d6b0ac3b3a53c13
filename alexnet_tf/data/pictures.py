"""Picture files: which there are in a folder, and what is wrong with one.

Names of files are bytes throughout, as the system has them: they need not be text.
"""

import concurrent.futures
import os
import re
import stat

import numpy as np
import tensorflow as tf

from alexnet_tf import console, preprocessing
from alexnet_tf.data import record

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".gif")
_OPEN_FILES = 16
_MANY = 20_000  # files, of which reading all takes long enough to be shown


# Endings that say nothing, or what programs disagree on: the content says what the file is.
_BY_CONTENT = ("", ".jfif", ".jif", ".pjpeg", ".pjp")
_MAGIC = {".jpg": b"\xff\xd8\xff", ".png": b"\x89PNG\r\n\x1a\n", ".gif": b"GIF8", ".bmp": b"BM", ".webp": b"RIFF"}
# Of pictures that only `alexnet prepare` reads.
READ_BY_PREPARE = (".avif", ".heic", ".heif", ".tif", ".tiff", ".jp2", ".j2k", ".jpx")
_NOBODYS_FOLDERS = (b"__MACOSX", b"@eaDir", b"lost+found", b"$RECYCLE.BIN")  # archivers and file servers lay them down


def is_hidden(name: bytes) -> bool:
    """Whether a file or folder of this name is none of the user's."""
    return name.startswith(b".") or name in _NOBODYS_FOLDERS


def ending(file) -> str:
    """What the name of a file ends in, in small letters: ".jpg", or "" where it has no ending."""
    return os.path.splitext(os.fsdecode(file))[1].lower()


def walk(folder, suffixes=SUFFIXES) -> tuple[list[bytes], list[bytes]]:
    """(the pictures anywhere below `folder`, what else lies there), names as bytes, each sorted.

    Links are followed, and what is hidden left out. A picture is what has one of the `suffixes`; a
    file whose ending says nothing is looked at. Raises OSError for a folder that cannot be read.
    """
    found, others, been = [], [], set()

    def refuse(error):
        raise error

    for here, inner, files in os.walk(os.fsencode(folder), onerror=refuse, followlinks=True):
        been.add(os.path.realpath(here))  # a link may lead back up
        inner[:] = sorted(name for name in inner if not is_hidden(name) and os.path.realpath(os.path.join(here, name)) not in been)
        for name in files:
            if not is_hidden(name):
                path = os.path.join(here, name)
                (found if _is_picture(path, suffixes) else others).append(path)
    return sorted(found), sorted(others)


def _is_picture(path, suffixes):
    suffix = ending(path)
    if suffix in suffixes:
        return True
    if suffix[1:].isalpha() and suffix not in _BY_CONTENT:
        return False
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        with open(path, "rb") as stream:
            head = stream.read(12)
    except OSError:
        return False
    kind = next((kind for kind, magic in _MAGIC.items() if head.startswith(magic)), None)
    return kind in suffixes and (kind != ".webp" or head.endswith(b"WEBP"))


def identities(files) -> np.ndarray:
    """uint64: the record.identity of each of `files`, which reads them whole. 0 for one that cannot be read now."""
    def identity(file):
        try:
            with open(file, "rb") as stream:
                return record.identity(stream.read())
        except OSError:
            return 0

    with concurrent.futures.ThreadPoolExecutor(_OPEN_FILES) as pool, console.progress(
            len(files), "know pictures", hidden=len(files) < _MANY) as bar:
        known = []
        for number in pool.map(identity, files):
            known.append(number)
            bar.update()
    return np.array(known, np.uint64)


def examine(files):
    """Sizes of `files` in bytes, and for each what is wrong with it, or None: two lists.

    Looks at each file's first and last bytes, which takes about 30 microseconds a file; one that looks odd is decoded. So damage
    between the two is not found here.
    """
    sizes, faults = [], []
    with concurrent.futures.ThreadPoolExecutor(_OPEN_FILES) as pool:
        for file, (size, fault, odd) in zip(files, pool.map(_look_at, files)):
            sizes.append(size)
            faults.append(fault or (odd and fault_of(tf.io.read_file, file)) or None)
    return sizes, faults


def _look_at(file):
    """(size in bytes, what is wrong or None, whether it looks unlike a whole JPEG or PNG file)."""
    try:
        kind = os.stat(file).st_mode
        if not stat.S_ISREG(kind):  # opening a pipe would wait for ever
            return 0, "a folder" if stat.S_ISDIR(kind) else "neither a file nor a folder", False
        with open(file, "rb") as stream:
            head = stream.read(4)
            size = stream.seek(0, 2)
            stream.seek(max(0, size - 12))
            tail = stream.read()
    except OSError as error:
        return 0, "a link that leads nowhere" if os.path.islink(file) else error.strerror, False
    whole_jpeg = head.startswith(b"\xff\xd8\xff") and tail.endswith(b"\xff\xd9")
    whole_png = head == b"\x89PNG" and tail[4:8] == b"IEND"
    return size, None, not (whole_jpeg or whole_png)


def fault_of(read, *arguments):
    """What is wrong with the picture whose bytes `read(*arguments)` returns, or None."""
    try:
        preprocessing.decode(read(*arguments))
    except tf.errors.OpError as error:
        return reason(error)
    return None


def reason(error):
    """What an error of TensorFlow says, in a few words."""
    text = re.sub(r".*Summarized data: b'(.*)'", r"\1", " ".join(error.message.split("[Op:")[0].split()))
    return re.sub(r"{{.*?}} ", "", text)[:160].strip()


def shown(file):
    """The name of a file for a message: as it is if it can be printed, else quoted."""
    name = os.fsdecode(file)
    return name if name.isprintable() else repr(os.fsencode(name))
