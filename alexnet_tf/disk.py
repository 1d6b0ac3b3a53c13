"""Files on disk: whether there is room for them, whole or not at all, one process at a time."""

import contextlib
import dataclasses
import errno
import fcntl
import glob
import hashlib
import os
import pathlib
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator

from alexnet_tf.errors import UserError, check_kind

# How files of weights and of models are called, by whatever program.
_OF_MODELS = (
    *(".ckpt", ".h5", ".hdf5", ".keras", ".npz", ".onnx", ".pb", ".pt", ".pth", ".safetensors"),
    ".tflite",
)


def is_called_as_a_file(path: str | os.PathLike) -> bool:
    """Whether `path`, where a folder is to be written, is not a folder yet and is named like a
    file of weights or of a model: who passes it means such a file.
    """
    return pathlib.Path(path).suffix.lower() in _OF_MODELS and not os.path.isdir(path)


def local(path: str | os.PathLike, parameter: str = "") -> pathlib.Path:
    """`path`, which was passed as `parameter`, with the home folder for ~. Raises UserError for an
    address, such as gs://bucket/x, which would be taken for a folder of that name; for the home
    folder of an unknown user; for a variable of a shell; and for an empty string, which would be
    the current folder.
    """
    check_kind(str | os.PathLike, path, parameter or "path", "a path")
    text = os.fspath(path)
    if not text:
        raise UserError(f"{parameter and f'{parameter}= is '}an empty path; pass a file or folder.")
    told = f"{parameter}={text}" if parameter else text
    if re.match(r"[A-Za-z][\w+.-]*:/", text):
        raise UserError(
            f"{told} is an address; pass a path on this machine: copy or mount it here first."
        )
    if (variable := re.match(r"\$(\w+|\{\w+\})", text)) and not os.path.lexists(text):
        raise UserError(
            f"{told} begins with {variable[0]}, a shell variable "
            "that was not replaced; pass the path that it stands for."
        )
    try:
        return pathlib.Path(text).expanduser()
    except RuntimeError:
        raise UserError(
            f"{told} is in the home folder of a user who is not "
            "known here; pass the whole path, or ./~... for a folder of that name."
        ) from None


def unwritable(model_dir: str | os.PathLike, error: OSError) -> UserError:
    """What is to be raised for a model directory that `error` kept from being written."""
    return UserError(
        f"model_dir={model_dir} cannot be written ({error.strerror}); pass a folder that can."
    )


SUMS = "SHA256SUMS"  # the file that `sums` is kept in

# What we keep in folders: (what a folder is, the names in it by which it is known, others). If
# somebody wants to write one of the first, the rest of them tell what the folder is.
_MODEL_DIRECTORY = "a model directory"
_KEPT = (
    (
        _MODEL_DIRECTORY,
        {"settings.json", "checkpoints"},
        {"evaluation.json", "metrics.jsonl", "pictures.npz", ".lock"},
    ),
    ("a checkpoint", {"weights.npz", SUMS}, {"optimizer.npz", "state.json", "last.npz"}),
    (
        "stored features",
        {"key.json", SUMS},
        {"train.npy", "train_labels.npy", "evaluation.npy", "evaluation_labels.npy"},
    ),
    (
        "an export",
        {"manifest.json", SUMS},
        {"model.onnx", "model.keras", "model.safetensors", "labels.txt", "pictures.npz"}
        | {"README.md", "tf_serving_warmup_requests"},
    ),
    ("an export", {"saved_model.pb", "variables"}, {"fingerprint.pb", "README.md"}),
    (
        "an export",
        {"../saved_model.pb"},
        {"labels.txt", "variables.index", "variables.data-00000-of-00001"},
    ),
    (
        "a prepared data set",
        {"dataset_info.json", "features.json"},
        {"label.labels.txt", "statistics.json", "identities.npz", "mean_image.npy"},
    ),
)


def check_not_ours(
    path: str | os.PathLike, parameter: str, model_dirs: Iterable[str | os.PathLike] = ()
) -> None:
    """Raises UserError if `path`, where a file is to be written, is that of one of the own files of
    a model directory, an export or a data set that we stored, whether it exists already or not.
    `model_dirs` may become model directories.
    """
    place, begun = pathlib.Path(os.path.realpath(path)), set(map(os.path.realpath, model_dirs))
    for what, known_by, others in _KEPT:
        is_one = all((place.parent / name).exists() for name in known_by - {place.name})
        is_one |= what == _MODEL_DIRECTORY and str(place.parent) in begun
        if is_one and place.name in known_by | others:
            instead = pathlib.Path(path).with_name(f"my_{place.name}")
            raise UserError(
                f"{parameter}={path} is where {what} keeps a file of its own; pass another name,"
                f" such as {parameter}={instead}."
            )


def stream_at(path: str | os.PathLike) -> str | int | None:
    """What to pass to `open` if `path` is not a file that can be replaced: the path of a device or
    a pipe; or 1 or 2 if it is this process's standard output or error. These may be files, as
    behind /dev/stdout, but more will be printed there. None for all else.
    """
    try:
        found = os.stat(path)
    except OSError:
        return None
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):  # it may be closed
            if os.path.samestat(found, os.fstat(descriptor)):
                return descriptor
    is_stream = not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode))
    return os.fspath(path) if is_stream else None


def check_place(path: str | os.PathLike, parameter: str, device: bool = False) -> None:
    """Raises UserError unless a file may be written to `path`, the `parameter` of that name. Its
    folder has to exist, on a file system with locks, which `appearing` takes. What is there may be
    a file, but none that `check_not_ours` knows, or, with `device`, a device or a pipe.
    """
    if device and os.fspath(path) == "-":  # elsewhere the standard output, here a file of that name
        raise UserError(
            f"{parameter}=- is not a file; pass a path, or /dev/stdout, where it follows whatever"
            " else is printed."
        )
    stream = stream_at(path) if device else None
    place = pathlib.Path(os.path.realpath(path))  # where a link leads, as in `appearing`
    if stream is None:
        is_free = place.is_file() or not place.exists()
        is_writable = is_free and os.access(place.parent, os.R_OK | os.W_OK | os.X_OK)
    else:
        is_writable = isinstance(stream, int) or os.access(stream, os.W_OK)
    if not is_writable:
        raise UserError(
            f"{parameter}={path} cannot be written; name a file in a folder that exists."
        )
    if stream is None:
        check_not_ours(path, parameter)
        with _alone_in(place.parent):
            pass


def free_bytes(folder: str | os.PathLike) -> int:
    """Bytes that are free on the disk of `folder`, which need not exist yet."""
    folder = pathlib.Path(folder).absolute()
    return shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.is_dir())).free


def check_free_space(folder: str | os.PathLike, needed: float) -> None:
    """Raises UserError if `needed` bytes do not fit onto the disk of `folder`, which need not exist
    yet.
    """
    folder = pathlib.Path(folder).absolute()
    free = free_bytes(folder)
    if free < needed:
        raise UserError(
            f"{folder} needs {needed / 1e9:.1f} GB on a disk that has {free / 1e9:.1f} GB left;"
            " free some, or choose another disk."
        )


def is_version(name: str) -> bool:
    """Whether TensorFlow Serving takes it for the number of a version: an int64 of 0 or more."""
    is_short = len(name) < 20  # Python refuses to read 5,000 digits
    return is_short and name.isascii() and name.isdecimal() and int(name) < 2**63


def numbered(folder: str | os.PathLike) -> dict[int, pathlib.Path]:
    """The folders in `folder` whose names are numbers of versions, by number: {1: Path, ...}.

    Raises UserError where two are of one number, 1/ and 01/.
    """
    found: dict[int, pathlib.Path] = {}
    for path in sorted(pathlib.Path(folder).glob("*/")):
        if not is_version(path.name):
            continue
        if other := found.get(number := int(path.name)):
            raise UserError(
                f"{folder} holds {other.name}/ and {path.name}/, which are both version {number};"
                " remove one of them, or give it another number."
            )
        found[number] = path
    return found


def files_below(folder: str | os.PathLike) -> Iterator[pathlib.Path]:
    """The paths of all files in `folder` and below it, also behind links to folders."""
    for root, folders, names in os.walk(os.fspath(folder), followlinks=True):
        inside = os.path.join(os.path.realpath(root), "")
        # a link to where it lies in itself would lead round in circles
        folders[:] = [
            name
            for name in folders
            if not inside.startswith(os.path.join(os.path.realpath(os.path.join(root, name)), ""))
        ]
        yield from (path for name in names if (path := pathlib.Path(root, name)).is_file())


def regular(path: str | os.PathLike, flags: int) -> int:
    """An opener, open(path, opener=regular), which raises OSError for what is neither a regular
    file nor a folder, which `open` itself refuses: to open a pipe is to wait, perhaps for ever.
    """
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "Not a regular file", os.fspath(path))
    return descriptor


def read_bytes(path: str | os.PathLike) -> bytes:
    """All of a regular file. Raises OSError, also where something else lies there."""
    with open(path, "rb", opener=regular) as stream:
        return stream.read()


LFS = b"version https://git-lfs"  # how git LFS's pointers begin
OF_LFS = "git LFS's pointer to the file, which git lfs pull fetches"


def check_fetched(path: str | os.PathLike) -> None:
    """Raises UserError for a file that is empty, that is git LFS's pointer to the one that is
    meant, or that cannot be read.
    """
    try:
        with open(path, "rb", opener=regular) as stream:
            start = stream.read(len(LFS))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from None
    if not start:
        raise UserError(f"{path} is an empty file; copy it again.")
    if start == LFS:
        raise UserError(f"{path} is {OF_LFS}.")


def sums(folder: pathlib.Path, files: Iterable) -> str:
    """A line for each of `files`, paths relative to `folder`, with its sha256: as `sha256sum`
    prints and checks them.
    """
    lines = []
    for file in files:
        with open(folder / file, "rb", opener=regular) as stream:
            lines.append(f"{hashlib.file_digest(stream, 'sha256').hexdigest()}  {file}\n")
    return "".join(lines)


def check_sums(folder: pathlib.Path, files: Iterable) -> None:
    """Raises ValueError unless `files` in `folder` are those of its SUMS, bit for bit."""
    if read_bytes(folder / SUMS) != sums(folder, files).encode():
        raise ValueError(f"its files differ from {SUMS}")


def flush(path: str | os.PathLike) -> None:
    """Waits until the file or folder is on disk: a rename may otherwise survive a power cut that
    its content does not. Some file systems know no such thing of folders.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not os.path.isdir(path) or error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _lock(descriptor: int, operation: int, folder: str | os.PathLike) -> None:
    """flock, for what lies in `folder`. Raises UserError where the file system has no locks."""
    try:
        fcntl.flock(descriptor, operation)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK):
            raise
        raise UserError(
            f"{folder} is on a file system without locks ({error.strerror}); mount it with"
            " locks (Lustre: -o flock), or choose a folder on another."
        ) from None


_LOCK = ".lock"


@contextlib.contextmanager
def locked(
    folder: str | os.PathLike, parameter: str = "model_dir", at_work: str = "trained"
) -> Iterator[None]:
    """Keeps other processes out of `folder`, which it makes.

    Raises UserError, naming `parameter`, if one is at work there, or if there are no locks.
    """
    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    with open(pathlib.Path(folder) / _LOCK, "w") as lock:
        # the system takes it back when the process ends, however it ends
        _lock_alone(lock.fileno(), fcntl.LOCK_EX, folder, parameter, at_work)
        yield


def check_unlocked(
    folder: str | os.PathLike, parameter: str = "model_dir", at_work: str = "trained"
) -> None:
    """Raises UserError as `locked` would now. Writes nothing."""
    try:
        with open(pathlib.Path(folder) / _LOCK) as lock:
            # one that several may have at once: NFS gives no other where nothing is written
            _lock_alone(lock.fileno(), fcntl.LOCK_SH, folder, parameter, at_work)
    except FileNotFoundError:
        return


def _lock_alone(
    descriptor: int, operation: int, folder: str | os.PathLike, parameter: str, at_work: str
) -> None:
    try:
        _lock(descriptor, operation | fcntl.LOCK_NB, folder)
    except BlockingIOError:
        raise UserError(
            f"{parameter}={folder} is being {at_work} by another process; wait for it, or pass"
            " another."
        ) from None


@dataclasses.dataclass
class Appearing:
    """What is being written, or was."""

    path: pathlib.Path


@contextlib.contextmanager
def appearing(
    path: str | os.PathLike,
    folder: bool = False,
    next_free: Callable[[pathlib.Path], pathlib.Path] | None = None,
    make_way: Callable[[], None] = lambda: None,
) -> Iterator[Appearing]:
    """Gives an Appearing, with a `path` beside `path` to write to; what is there when the block
    ends gets the name `path`, and then Appearing.path is where it came to lie.

    So what carries the name `path` is whole and on disk, whatever happens in between, and a block
    that fails leaves nothing. The name is that of an empty file, or of an empty `folder`; it is
    hidden and ends in ".unfinished". What killed processes have left of the same `path` is removed,
    and where `next_free` finds numbers, what they have left of any number.
    A file that is there is replaced, and keeps its mode, and where a symbolic link leads to it, the
    link; a folder is not: OSError, unless `next_free(path)` gives another path to try, or
    `make_way()`, which is called when all is on disk, moves it. Raises OSError where `path` cannot
    be written, and for a device or a pipe in place of a file; UserError where there are no locks.
    """
    path = pathlib.Path(path).absolute()
    if not folder and path.is_symlink():
        path = pathlib.Path(os.path.realpath(path))
    mode = None if folder else _mode_of_file(path)
    names = "[0-9]*" if next_free and is_version(path.name) else glob.escape(path.name)
    unfinished, held = _begin(path, folder, names)
    appearing = Appearing(unfinished)
    try:
        yield appearing
        if mode is not None:
            unfinished.chmod(mode)
        for part in [*unfinished.rglob("*"), unfinished] if folder else [unfinished]:
            flush(part)
        make_way()
        while True:
            try:
                unfinished.rename(path)
                break
            except OSError as error:
                if not next_free or error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
                path = next_free(path)
        appearing.path = path
        flush(path.parent)
    finally:
        if folder:
            shutil.rmtree(unfinished, ignore_errors=True)
        else:
            unfinished.unlink(missing_ok=True)
        os.close(held)


def _mode_of_file(path: pathlib.Path) -> int | None:
    """Its permissions, None where nothing is. Raises OSError for what is no file."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return stat.S_IMODE(mode)


def remove_unfinished(path: str | os.PathLike) -> None:
    """Removes what killed processes have left of `path`, and nothing that is being written."""
    path = pathlib.Path(path).absolute()
    if path.parent.is_dir():
        with _alone_in(path.parent):
            _remove_left(path.parent, glob.escape(path.name))


def _begin(path: pathlib.Path, folder: bool, names: str) -> tuple[pathlib.Path, int]:
    """(a new name beside `path`, a descriptor whose lock says that somebody is writing there). What
    was left of `names`, a pattern, is removed.

    The system releases the lock when the process ends, however it ends: process numbers come again,
    in containers soon.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone_in(path.parent):  # between making a name and locking it nobody looks
        _remove_left(path.parent, names)
        unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.unfinished")
        unfinished.mkdir() if folder else unfinished.touch()
        held = _open_to_lock(unfinished)
        _lock(held, fcntl.LOCK_EX, path.parent)
    return unfinished, held


@contextlib.contextmanager
def _alone_in(folder: pathlib.Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _lock(descriptor, fcntl.LOCK_EX, folder)
        yield
    finally:
        os.close(descriptor)


def _remove_left(folder: pathlib.Path, names: str) -> None:
    for left in folder.glob(f".{names}.*.unfinished"):
        with contextlib.suppress(OSError):
            _remove_unless_held(left)


def _open_to_lock(path: pathlib.Path) -> int:
    """A descriptor. NFS locks a file for whoever has opened it for writing, and no one else."""
    return os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)


def _remove_unless_held(left: pathlib.Path) -> None:
    held = _open_to_lock(left)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    finally:
        os.close(held)


def replace_text(path: str | os.PathLike, text: str) -> None:
    """Writes a file whose name holds all of the old text or all of the new, whatever happens."""
    replace_bytes(path, text.encode())


def replace_bytes(path: str | os.PathLike, content: bytes) -> None:
    """`replace_text` for bytes."""
    with appearing(path) as unfinished:
        unfinished.path.write_bytes(content)


def write_out(path: str | os.PathLike, content: bytes) -> None:
    """`replace_bytes`, but what is a device, a pipe, or standard output gets `content` as it is.

    Raises OSError where it cannot be written.
    """
    stream = stream_at(path)
    if stream is None:
        replace_bytes(path, content)
        return
    with open(stream, "wb", closefd=not isinstance(stream, int)) as opened:
        opened.write(content)
