"""Files on disk: whether there is room for them, whole or not at all, one process at a time."""

import contextlib
import fcntl
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


def numbered(folder):
    """The folders in `folder` whose names are whole numbers, by number: {1: Path, 2: Path, ...}."""
    return {int(path.name): path for path in pathlib.Path(folder).glob("*/")
            if path.name.isascii() and path.name.isdecimal()}


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


@contextlib.contextmanager
def locked(folder, flag="model_dir", at_work="trained"):
    """Keeps other processes out of `folder`, which it makes. Raises UserError, naming `flag`, if one is at work there."""
    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    with open(pathlib.Path(folder) / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system takes it back when the process ends, however it ends
        except BlockingIOError:
            raise UserError(f"{flag}={folder} is being {at_work} by another process; wait for it, or pass another.") from None
        yield



def replace_text(path, text):
    """Writes a file whose name holds either all of the old text or all of the new, whatever happens."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(text)
    flush(unfinished)
    unfinished.replace(path)
