"""Picture files: which there are in a folder, and what is wrong with one.

Names of files are bytes throughout, as the system has them: they need not be text.
"""

import concurrent.futures
import os
import re
import stat

import tensorflow as tf

from alexnet_tf import preprocessing

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".gif")
_OPEN_FILES = 16


def list_pictures(folder):
    """(names of what is named as a picture in `folder`, names of what is not), sorted; hidden files are in neither."""
    entries = sorted(entry for entry in os.listdir(os.fsencode(folder)) if not entry.startswith(b"."))
    paths = [os.path.join(os.fsencode(folder), entry) for entry in entries]
    named = [os.fsdecode(path).lower().endswith(SUFFIXES) for path in paths]
    return ([path for path, picture in zip(paths, named) if picture], [path for path, picture in zip(paths, named) if not picture])


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
