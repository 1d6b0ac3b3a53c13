"""What is asked of files on disk: whether there is room for them, and whether they are there and those that were written."""

import hashlib
import os
import pathlib
import shutil

from alexnet_tf.errors import UserError


def free_bytes(folder):
    """Bytes that are free on the disk of `folder`, which need not exist yet."""
    folder = pathlib.Path(folder).absolute()
    return shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.is_dir())).free


def check_free_space(folder, needed):
    """Raises UserError if `needed` bytes do not fit onto the disk of `folder`, which need not exist yet."""
    folder = pathlib.Path(folder).absolute()
    free = free_bytes(folder)
    if free < needed:
        raise UserError(f"{folder} needs {needed / 1e9:.1f} GB on a disk that has {free / 1e9:.1f} GB left; free some, or choose "
                        "another disk.")


def sums(folder, files):
    """A line for each of `files`, paths relative to `folder`, with its sha256: as `sha256sum` prints and checks them."""
    lines = []
    for file in files:
        with open(folder / file, "rb") as stream:
            lines.append(f"{hashlib.file_digest(stream, 'sha256').hexdigest()}  {file}\n")
    return "".join(lines)


def flush(path):
    """Waits until the file or folder is on disk: a rename may otherwise survive a power cut that its content does not."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
