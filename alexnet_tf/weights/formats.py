"""Weights files, ours and those of others: the bytes of a file in, {name: array} out.

Nothing in a file is run, no name in it is looked up, and no array is made that the file does not
hold the bytes of. What does not fit is a UserError. The format is told by the content, whatever the
file is called:

    Caffe's .caffemodel  {"conv1.0": kernel, "conv1.1": bias, ...}, and its description of the
                         layers
    NumPy's .npy         a pickled dict of lists or dicts of arrays, as Toronto's bvlc_alexnet.npy:
                         {"conv1.0": ..., "conv1.1": ...}
    NumPy's .npz         {name: array}
    a pickle of dicts    of arrays of NumPy, as programs of Flax write it:
                         {"AlexNet_0.Conv_0.kernel": ...}
    PyTorch's .pth       a zip archive or the older chain of pickles; dicts in dicts are joined by
                         dots: {"features.0.weight": ...}
    .safetensors         {name: array}

Whatever else a file holds is named in `Weights`, so that nothing of it is passed over unseen.
"""

import io
import os
import pathlib
import struct
import zipfile
from collections.abc import Callable

from alexnet_tf import archives, disk
from alexnet_tf.errors import UserError
from alexnet_tf.weights.caffemodel import read_caffemodel
from alexnet_tf.weights.contents import LARGEST_HEADER, WHOLE_MODULE, Weights
from alexnet_tf.weights.numpy_files import read_npy, read_npz
from alexnet_tf.weights.pickles import Unsupported
from alexnet_tf.weights.pytorch import read_torch_archive, read_torch_pickles
from alexnet_tf.weights.safetensors import read_safetensors

_LARGEST_FILE = 2**30  # bytes; the published files have 0.24e9
# What the readers raise for damaged bytes.
UNREADABLE = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    EOFError,
    OverflowError,
    RecursionError,
    RuntimeError,
    struct.error,
    zipfile.BadZipFile,
)


def read_content(path: str | os.PathLike) -> bytes:
    """The bytes of a regular file of at most 1 GiB. Raises UserError for anything else."""
    path = pathlib.Path(path)
    try:
        if not path.is_file():
            raise UserError(
                f"{path} {'is a folder or a device' if path.exists() else 'does not exist'}; pass a"
                " file of weights."
            )
        if path.stat().st_size > _LARGEST_FILE:
            raise UserError(
                f"{path} has {path.stat().st_size:,} bytes; no file of AlexNet's weights is larger"
                " than 1 GiB."
            )
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from None


def parse(
    content: bytes,
    name: str | os.PathLike,
    wanted: str = "a .caffemodel, .npy, .npz, .pth or .safetensors file of weights",
) -> Weights:
    """The `Weights` in the bytes of the file called `name`.

    Raises UserError if they are none, which says what is `wanted`, or are damaged.
    """
    kind, read = _recognise(content)
    if read is None:
        raise UserError(f"{name} is {kind}; pass {wanted}.")
    try:
        weights = read(content)
        if not weights.arrays:
            raise Unsupported(_why_nothing(weights))
        return weights
    except Unsupported as error:
        raise UserError(f"{name} {error}.") from None
    except UNREADABLE as error:
        reason = " ".join(
            (
                str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            ).split()
        )[:200]
        # A message of protobuf begins as many other things do.
        what = "is damaged" if kind != ".caffemodel" else "is damaged, or not a Caffe file"
        raise UserError(f"{name} {what} ({reason}).") from None


def _why_nothing(weights: Weights) -> str:
    if weights.module:
        return f"holds {WHOLE_MODULE.format(weights.module)}"
    if weights.unreadable:
        name, reason = next(iter(weights.unreadable.items()))
        return f"holds no array that can be read: {name[:80]!r} {reason}"
    return "holds no arrays"


def _recognise(content: bytes) -> tuple[str, Callable[[bytes], Weights] | None]:
    """(format, the function that reads it), or (what the content is instead, None)."""
    # first: the length before it may look like the start of anything
    if content[8:10] in (b'{"', b"{}"):
        return ".safetensors", read_safetensors
    if content.startswith(b"PK\x03\x04"):
        return _recognise_archive(content)
    for start, kind, read in (
        (b"\x93NUMPY", ".npy", read_npy),
        (b"\x80", ".pth", read_torch_pickles),
        # the tags of NetParameter's name, layers and layer
        (b"\x0a", ".caffemodel", read_caffemodel),
        (b"\x12", ".caffemodel", read_caffemodel),
        (b"\xa2\x06", ".caffemodel", read_caffemodel),
        (disk.LFS, disk.OF_LFS, None),
        (b"\x89HDF", "an HDF5 file, as Keras writes", None),
        (b"MATLAB ", "a MATLAB file", None),
        (b"\x1f\x8b", "compressed by gzip (gunzip or tar -x unpacks it)", None),
        (b"BZh", "compressed by bzip2 (bunzip2 or tar -x unpacks it)", None),
        (b"\xfd7zXZ", "compressed by xz (unxz or tar -x unpacks it)", None),
        (b"7z\xbc\xaf", "a 7-Zip archive (unpack it, and pass what is in it)", None),
        (b"Rar!", "a RAR archive (unpack it, and pass what is in it)", None),
        (b"<", "a page of HTML or XML, such as servers send instead of a file", None),
        (b"{", "JSON, such as an answer of a server or a list of parts", None),
    ):
        if content.startswith(start):
            return kind, read
    for found, kind in (
        (content[257:262] == b"ustar", "a tar archive (tar -x unpacks it)"),
        (content[4:8] == b"TFL3", "a .tflite file, which holds no weights to train"),
        (content[:1] == b"\x08", "of another kind, such as an ONNX file or a mean of Caffe"),
    ):
        if found:
            return kind, None
    return ("in none of the formats known here" if content else "empty"), None


def _recognise_archive(content: bytes) -> tuple[str, Callable[[bytes], Weights] | None]:
    """As _recognise, for a zip archive, by the names in its directory."""
    try:
        archives.check_count(io.BytesIO(content))
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
    except UNREADABLE:  # the readers say how it is damaged
        torch = b"/data.pkl" in content[:LARGEST_HEADER]  # written first
        return (".pth", read_torch_archive) if torch else (".npz", read_npz)
    if any(name.endswith("/data.pkl") for name in names):
        return ".pth", read_torch_archive
    if all(name.endswith(".npy") for name in names):
        return ".npz", read_npz
    if "model.weights.h5" in names:
        return "a .keras file", None
    if any(name.endswith("/archive_format") for name in names):
        return "a program of torch.export (save model.state_dict() with torch.save instead)", None
    return f"a zip archive of {names[0][:80]!r} and so on (unpack it, and pass one file)", None
