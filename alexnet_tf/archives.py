"""Zip archives that may come from anywhere: to read one costs no more than its own bytes."""

import contextlib
import errno
import hashlib
import zipfile
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

# The entry of a .tflite file's manifest with the digest of what stands before its archive, as
# sha256_before has it; files of earlier versions have none.
FLATBUFFER = "flatbuffer_sha256"
_MOST_MEMBERS = 10_000
_ENTRY = b"PK\x01\x02"  # how each entry of a directory begins; zipfile makes an object of it
_BLOCK = 2**20  # bytes that are looked through at once


class CompressedError(ValueError):
    """A member is compressed, and might be of any size."""


def members(stream: BinaryIO) -> dict[str, bytes]:
    """{name: bytes} of an archive, or of one behind other data, whose members are stored as they
    are; the checksum of each is compared.

    Raises CompressedError where one is compressed, ValueError for any other archive.
    """
    check_count(stream)
    with _damage_told(), zipfile.ZipFile(stream) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise CompressedError("a member is compressed, and might be of any size")
        if len({entry.filename for entry in entries}) < len(entries):
            raise ValueError("two members of one name")
        if sum(entry.file_size for entry in entries) > stream.seek(0, 2):
            raise ValueError("members that overlap")
        return {entry.filename: archive.read(entry) for entry in entries}


def arrays(stream: BinaryIO, most: int | None = None) -> dict[str, np.ndarray]:
    """{name: array} of an .npz that NumPy wrote; of one from anywhere, if it has at most `most`
    bytes. Raises ValueError for a larger or damaged one, and for anything else.
    """
    with _damage_told():
        if most is not None:
            check_count(stream)
            with zipfile.ZipFile(stream) as archive:
                if sum(entry.file_size for entry in archive.infolist()) > most:
                    raise ValueError(f"more than {most} bytes")
        with np.load(stream, allow_pickle=False) as found:
            read = {name: found[name] for name in found.files}
    # NumPy hands out the bytes of what does not begin as an array.
    if others := [name for name, member in read.items() if not isinstance(member, np.ndarray)]:
        raise ValueError(f"{others[0]} is no array")
    return read


@contextlib.contextmanager
def _damage_told() -> Iterator[None]:
    """Raises ValueError for what zipfile, zlib, bz2 and NumPy raise for damage: a dozen kinds, some
    of their own.
    """
    try:
        yield
    except (ValueError, MemoryError):
        raise
    except Exception as error:
        # EINVAL is a place before the file's beginning; all others are of the disk.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise ValueError(str(error)) from None


def sha256_before(stream: BinaryIO) -> str:
    """The digest of the data that an archive stands behind, of which it has no checksum."""
    with zipfile.ZipFile(stream) as archive:
        left = min((entry.header_offset for entry in archive.infolist()), default=0)
    digest = hashlib.sha256()
    stream.seek(0)
    while block := stream.read(min(_BLOCK, left)):
        digest.update(block)
        left -= len(block)
    return digest.hexdigest()


def check_count(stream: BinaryIO) -> None:
    """Raises ValueError for more members than any honest archive has."""
    stream.seek(0)
    count, before = 0, b""
    while block := stream.read(_BLOCK):
        block = before + block
        count += block.count(_ENTRY)
        if count > _MOST_MEMBERS:
            raise ValueError(f"more than {_MOST_MEMBERS} members")
        before = block[1 - len(_ENTRY) :]  # half an entry's beginning may end the block
