"""Archives from anywhere, damaged in the ways for which zipfile, zlib, bz2 and NumPy each raise
something else: always a ValueError.
"""

import errno
import io
import zipfile

import numpy as np
import pytest

from alexnet_tf import archives

ENTRY, END = b"PK\x01\x02", b"PK\x05\x06"


def npz(compression):
    stream, array = io.BytesIO(), io.BytesIO()
    np.save(array, np.arange(1000))
    with zipfile.ZipFile(stream, "w", compression) as archive:
        archive.writestr("numbers.npy", array.getvalue())
    return stream.getvalue()


def changed(content, at, new):
    return content[:at] + new + content[at + len(new) :]


@pytest.mark.parametrize(
    "compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_arrays_of_any_compression_are_read_whole_or_not_at_all(compression):
    content, refused = npz(compression), 0
    for at in range(30 + len("numbers.npy"), content.index(ENTRY), 7):
        try:
            found = archives.arrays(io.BytesIO(changed(content, at, bytes([content[at] ^ 0x55]))))
        except ValueError:
            refused += 1
        else:  # LZMA's dictionary may be larger than it has to be
            assert found["numbers"].tolist() == list(range(1000))
    assert refused > 10


@pytest.mark.parametrize(
    "place",
    [
        lambda content: content.index(END) + 12,  # how long the directory is
        lambda content: content.index(END) + 16,  # where it begins
        lambda content: content.index(ENTRY) + 42,  # where the member begins
        lambda content: content.index(ENTRY) + 8,  # flags: encrypted, patched
        lambda content: content.index(ENTRY) + 10,  # the kind of compression
    ],
)
@pytest.mark.parametrize("read", [archives.members, archives.arrays])
def test_a_damaged_directory(read, place, tmp_path):
    content = npz(zipfile.ZIP_STORED)
    path = tmp_path / "file.npz"
    path.write_bytes(changed(content, place(content), b"\xff\xff\xff\x7f"))
    with path.open("rb") as stream, pytest.raises(ValueError):
        read(stream)


def test_a_member_that_does_not_begin_as_an_array():
    content = npz(zipfile.ZIP_STORED)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("numbers.npy", b"Z" + content[content.index(b"NUMPY") :])
    with pytest.raises(ValueError, match="numbers.* is no array"):
        archives.arrays(io.BytesIO(stream.getvalue()))


def test_more_bytes_than_are_taken():
    with pytest.raises(ValueError, match="more than 1000 bytes"):
        archives.arrays(io.BytesIO(npz(zipfile.ZIP_DEFLATED)), most=1000)


def test_a_failing_disk_is_no_damage():
    class Failing(io.BytesIO):
        def read(self, *size):
            raise OSError(errno.EIO, "Input/output error")

    for read in (archives.members, archives.arrays):
        with pytest.raises(OSError, match="Input/output error"):
            read(Failing(npz(zipfile.ZIP_STORED)))
