"""Weights files, ours and those of others: the bytes of a file in, {name: array} out.

Nothing in a file is run, no name in it is looked up, and no array is made that the file does not hold the bytes of.
"""

import io
import math
import pathlib
import re
import struct
import zipfile

import numpy as np

from alexnet_tf.errors import UserError

_LARGEST_FILE = 2**30  # bytes; the published files have 0.24e9
_MOST_MEMBERS = 10_000  # of a zip archive
_UNREADABLE = (ValueError, TypeError, LookupError, EOFError, OverflowError, RecursionError, RuntimeError, NotImplementedError,
               struct.error, zipfile.BadZipFile)
# The header of a .npy file as NumPy writes it, Python 2's long integers included: (dtype, order, shape).
_NPY_HEADER = re.compile(rb"\{'descr': '([<>|]\w{1,4})', 'fortran_order': (False|True), 'shape': \(([\d, L]*)\), \}\s*")


def read_content(path):
    """The bytes of a regular file of at most 1 GiB. Raises UserError for anything else."""
    path = pathlib.Path(path)
    try:
        if not path.is_file():
            raise UserError(f"{path} is not a file.")
        if path.stat().st_size > _LARGEST_FILE:
            raise UserError(f"{path} has {path.stat().st_size:,} bytes; no file of AlexNet's weights is larger than 1 GiB.")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from None


def read_npz(content, name):
    """{name: array} of a .npz file as numpy.savez writes it. Raises UserError if `content` is none, or is damaged."""
    try:
        return {member.removesuffix(".npy"): _npy(data) for member, data in _zip_members(content).items()}
    except _UNREADABLE as error:
        raise UserError(f"{name} is damaged, or is no .npz file of plain arrays ({_reason(error)}).") from None


def _reason(error):
    return " ".join(str(error).split())[:200] or type(error).__name__


def _zip_members(content):
    """{name: bytes} of an archive whose members are stored as they are; the checksum of each is compared."""
    # Before zipfile makes an object of each: every entry of a directory begins so.
    if content.count(b"PK\x01\x02") > _MOST_MEMBERS:
        raise ValueError(f"more than {_MOST_MEMBERS} members")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("compressed members")
        if len({member.filename for member in members}) < len(members):
            raise ValueError("two members of one name")
        if sum(member.file_size for member in members) > len(content):
            raise ValueError("members that overlap")
        return {member.filename: archive.read(member) for member in members}


def _npy(content):
    """The array of a .npy file, as a view of `content`. numpy.org/neps/nep-0001-npy-format.html"""
    begin, dtype, fortran, shape = _npy_header(content)
    if begin + math.prod(shape) * dtype.itemsize != len(content):
        raise ValueError(f"{len(content) - begin} bytes of data for shape {shape}")
    return _view(content, begin, dtype, shape, "F" if fortran else "C")


def _npy_header(content):
    """(where the data begin, dtype, whether columns come first, shape)."""
    size = {b"\x93NUMPY\1": "<H", b"\x93NUMPY\2": "<I"}[content[:7]]
    begin = 8 + struct.calcsize(size)
    end = begin + struct.unpack_from(size, content, 8)[0]
    header = _NPY_HEADER.fullmatch(content[begin:end])
    if not header:
        raise ValueError("a header that NumPy would not write")
    shape = tuple(int(length) for length in header[3].decode().replace("L", "").split(",") if length.strip())
    return end, np.dtype(header[1].decode()), header[2] == b"True", shape


def _view(content, begin, dtype, shape, order="C"):
    """An array of `shape` over the bytes of `content` from `begin` on."""
    count = math.prod(shape)
    if len(shape) > 8 or count < 1 or dtype.kind not in "fiu":
        raise ValueError(f"an array of {dtype}, shape {shape[:9]}")
    if begin < 0 or begin + count * dtype.itemsize > len(content):
        raise ValueError(f"shape {shape} does not fit into the file")
    return np.frombuffer(content, dtype, count, begin).reshape(shape, order=order)
