"""NumPy's files: .npz archives, and .npy files of a pickled dict."""

import io
import re
import struct

import numpy as np

from alexnet_tf import archives
from alexnet_tf.weights import pickles
from alexnet_tf.weights.contents import LARGEST_HEADER, Weights, once, view
from alexnet_tf.weights.pickles import Unsupported

# NumPy evaluates the text of a type that it does not know at once; it gets to see no other than
# these.
_NUMPY_TYPES = {
    "<f2",
    "<f4",
    "<f8",
    ">f2",
    ">f4",
    ">f8",
    "<i2",
    "<i4",
    "<i8",
    "<u2",
    "<u4",
    "<u8",
    "|i1",
    "|u1",
    "|b1",
    "|O",
}
# The header of a .npy file as NumPy writes it, Python 2's long integers included: dtype, order,
# shape.
_NPY_HEADER = re.compile(
    rb"\{'descr': '([<>|]\w{1,4})', 'fortran_order': (False|True), 'shape': \(([\d, L]*)\), \}\s*"
)


def read_npz(content: bytes) -> Weights:
    arrays, unreadable = {}, {}
    for name, member in zip_members(content).items():
        try:
            arrays[name.removesuffix(".npy")] = _npy(member)
        except Unsupported as error:
            unreadable[name.removesuffix(".npy")] = str(error)
    return Weights(".npz", arrays, unreadable=unreadable)


def zip_members(content: bytes) -> dict[str, bytes]:
    """{name: bytes} of an archive whose members are stored as they are; the checksum of each is
    compared. Raises ValueError for any other archive.
    """
    try:
        return archives.members(io.BytesIO(content))
    except archives.CompressedError:
        raise Unsupported(
            "is compressed, and might be of any size; write it with numpy.savez"
        ) from None


def _npy(content: bytes) -> np.ndarray:
    """The array of a .npy file. https://numpy.org/neps/nep-0001-npy-format.html"""
    begin, dtype, fortran, shape = _npy_header(content)
    if dtype.kind == "O" or 0 in shape:
        raise Unsupported("has no numbers" if 0 in shape else "holds Python objects, not numbers")
    return view(content[begin:], dtype, shape, "F" if fortran else "C")


def _npy_header(content: bytes) -> tuple[int, np.dtype, bool, tuple[int, ...]]:
    """(where the data begin, dtype, whether columns come first, shape)."""
    length = {b"\x93NUMPY\1": "<H", b"\x93NUMPY\2": "<I"}[content[:7]]
    begin = 8 + struct.calcsize(length)
    end = begin + struct.unpack_from(length, content, 8)[0]
    header = _NPY_HEADER.fullmatch(content[begin : min(end, LARGEST_HEADER)])
    if not header:
        raise ValueError("a header that NumPy would not write")
    shape = tuple(
        int(side) for side in header[3].decode().replace("L", "").split(",") if side.strip()
    )
    return end, _numpy_type(header[1].decode()), header[2] == b"True", shape


def _numpy_type(text: str) -> np.dtype:
    if text not in _NUMPY_TYPES:
        raise Unsupported(f"holds an array of the type {text[:10]!r}, which no weights have")
    return np.dtype(text)


def read_npy(content: bytes) -> Weights:
    begin, dtype, _, shape = _npy_header(content)
    if dtype.kind != "O" or shape:
        raise Unsupported("is one array, not a dict of layers")
    stream = io.BytesIO(content)
    stream.seek(begin)
    (layers,) = pickles.load(stream).data
    if not isinstance(layers, dict) or not all(
        isinstance(blobs, dict | list | tuple) for blobs in layers.values()
    ):
        raise Unsupported("is not a dict of layers, each a list or a dict of arrays")
    # {"conv1": [kernel, bias]} and {"conv1": {"weights": kernel, "biases": bias}}
    arrays = once(
        (f"{layer}.{part}", blob)
        for layer, blobs in layers.items()
        for part, blob in (blobs.items() if isinstance(blobs, dict) else enumerate(blobs))
    )
    if not all(isinstance(blob, pickles.Array) for blob in arrays.values()):
        raise Unsupported("holds layers that are not lists or dicts of arrays")
    if sum(len(blob.data) for blob in arrays.values()) > len(content):
        raise ValueError("arrays that share their data")
    return Weights(".npy", {name: unpickled(blob) for name, blob in arrays.items()})


def unpickled(blob: pickles.Array) -> np.ndarray:
    if 0 in blob.shape:
        raise Unsupported("has no numbers")
    data = blob.data.encode("latin-1") if isinstance(blob.data, str) else blob.data
    return view(
        data,
        _numpy_type(blob.dtype.order + blob.dtype.code),
        blob.shape,
        "F" if blob.fortran else "C",
    )
