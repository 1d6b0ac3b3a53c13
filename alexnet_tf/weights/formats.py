"""Weights files, ours and those of others: the bytes of a file in, {name: array} out.

Nothing in a file is run, no name in it is looked up, and no array is made that the file does not hold the bytes of. What does not
fit is a UserError. The format is told by the content, whatever the file is called:

    Caffe's .caffemodel  {"conv1.0": kernel, "conv1.1": bias, ...}, and the types of the layers in order
    NumPy's .npy         a pickled dict of lists of arrays, as Toronto's bvlc_alexnet.npy: {"conv1.0": ..., "conv1.1": ..., ...}
    NumPy's .npz         {name: array}
    PyTorch's .pth       a zip archive or the older chain of pickles; dicts in dicts are joined by dots: {"features.0.weight": ...}
    .safetensors         {name: array}
"""

import dataclasses
import io
import json
import math
import pathlib
import re
import struct
import zipfile

import numpy as np

from alexnet_tf.errors import UserError
from alexnet_tf.weights import pickles

_LARGEST_FILE = 2**30  # bytes; the published files have 0.24e9
_LARGEST_HEADER = 2**20  # bytes of names and shapes
_MOST_PARTS = 10_000  # members of an archive, fields of a message
_LONGEST_NAME = 200  # characters: one name may occur in thousands of arrays' names
_UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, EOFError, OverflowError, RecursionError, RuntimeError,
               struct.error, zipfile.BadZipFile)
# NumPy evaluates the text of a type that it does not know at once; it gets to see no other than these.
_NUMPY_TYPES = {"<f2", "<f4", "<f8", ">f2", ">f4", ">f8", "<i4", "<i8", "|u1", "|O"}
# The header of a .npy file as NumPy writes it, Python 2's long integers included: dtype, order, shape.
_NPY_HEADER = re.compile(rb"\{'descr': '([<>|]\w{1,4})', 'fortran_order': (False|True), 'shape': \(([\d, L]*)\), \}\s*")
_SAFETENSORS_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8"}
# V1LayerParameter.LayerType of caffe.proto, for the types that tell bvlc_alexnet from CaffeNet.
_V1_TYPES = {15: "LRN", 17: "Pooling"}


@dataclasses.dataclass(frozen=True)
class Weights:
    format: str  # the suffix that files of the format usually have
    arrays: dict  # name -> array of the file's dtype, a view of its bytes
    layer_types: tuple = ()  # of a caffemodel, in order: ("Convolution", "ReLU", "LRN", ...)


def read_content(path):
    """The bytes of a regular file of at most 1 GiB. Raises UserError for anything else."""
    path = pathlib.Path(path)
    try:
        if not path.is_file():
            raise UserError(f"{path} is {'a folder or a device' if path.exists() else 'not there'}; pass a file of weights.")
        if path.stat().st_size > _LARGEST_FILE:
            raise UserError(f"{path} has {path.stat().st_size:,} bytes; no file of AlexNet's weights is larger than 1 GiB.")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from None


def parse(content, name):
    """The `Weights` in the bytes of the file called `name`. Raises UserError if they are none, or are damaged."""
    kind, read = _recognise(content)
    if read is None:
        raise UserError(f"{name} is {kind}; pass a .caffemodel, .npy, .npz, .pth or .safetensors file of weights.")
    try:
        arrays, *layer_types = read(content)
        if not arrays:
            raise ValueError("no arrays")
        return Weights(kind, arrays, *layer_types)
    except _UNREADABLE as error:
        reason = " ".join((str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}").split())[:200]
        raise UserError(f"{name} is damaged, or asks for what a {kind} file of weights does not need ({reason}).") from None


def _recognise(content):
    """(format, the function that reads it), or (what the content is instead, None)."""
    if content[8:10] in (b'{"', b"{}"):  # first: the length before it may look like the start of anything
        return ".safetensors", _read_safetensors
    if content.startswith(b"PK\x03\x04"):
        torch = b"/data.pkl" in content[:_LARGEST_HEADER]  # written first
        return (".pth", _read_torch_archive) if torch else (".npz", _read_npz)
    for start, kind, read in (
            (b"\x93NUMPY", ".npy", _read_pickled_npy),
            (b"\x80", ".pth", _read_torch_pickles),
            (b"\x0a", ".caffemodel", _read_caffemodel),  # the tags of NetParameter's name, layers and layer
            (b"\x12", ".caffemodel", _read_caffemodel),
            (b"\xa2\x06", ".caffemodel", _read_caffemodel),
            (b"version https://git-lfs", "git LFS's pointer to a file (git lfs pull fetches the file)", None),
            (b"\x89HDF", "an HDF5 file", None),
            (b"<", "a page of HTML or XML, such as servers send instead of a file", None)):
        if content.startswith(start):
            return kind, read
    return ("in none of the formats known here" if content else "empty"), None


# NumPy


def _read_npz(content):
    return ({name.removesuffix(".npy"): _npy(member) for name, member in _zip_members(content).items()},)


def _zip_members(content):
    """{name: bytes} of an archive whose members are stored as they are; the checksum of each is compared."""
    if content.count(b"PK\x01\x02") > _MOST_PARTS:  # how every entry of a directory begins: zipfile makes an object of each
        raise ValueError(f"more than {_MOST_PARTS} members")
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
    """The array of a .npy file. https://numpy.org/neps/nep-0001-npy-format.html"""
    begin, dtype, fortran, shape = _npy_header(content)
    return _view(content[begin:], dtype, shape, "F" if fortran else "C")


def _npy_header(content):
    """(where the data begin, dtype, whether columns come first, shape)."""
    length = {b"\x93NUMPY\1": "<H", b"\x93NUMPY\2": "<I"}[content[:7]]
    begin = 8 + struct.calcsize(length)
    end = begin + struct.unpack_from(length, content, 8)[0]
    header = _NPY_HEADER.fullmatch(content[begin:min(end, _LARGEST_HEADER)])
    if not header:
        raise ValueError("a header that NumPy would not write")
    shape = tuple(int(side) for side in header[3].decode().replace("L", "").split(",") if side.strip())
    return end, _numpy_type(header[1].decode()), header[2] == b"True", shape


def _numpy_type(text):
    if text not in _NUMPY_TYPES:
        raise ValueError(f"numbers of the type {text[:10]!r}")
    return np.dtype(text)


def _read_pickled_npy(content):
    begin, dtype, _, shape = _npy_header(content)
    if dtype.kind != "O" or shape:
        raise ValueError("one array, and not a dict of layers")
    stream = io.BytesIO(content)
    stream.seek(begin)
    (layers,) = pickles.load(stream).data
    if not all(isinstance(blobs, list | tuple) for blobs in layers.values()):
        raise ValueError("layers that are no lists of arrays")
    arrays = {f"{layer}.{number}": blob for layer, blobs in layers.items() for number, blob in enumerate(blobs)}
    if sum(len(blob.data) for blob in arrays.values()) > len(content):
        raise ValueError("arrays that share their data")
    return ({name: _unpickled(blob) for name, blob in arrays.items()},)


def _unpickled(blob):
    data = blob.data.encode("latin-1") if isinstance(blob.data, str) else blob.data
    return _view(data, _numpy_type(blob.dtype.order + blob.dtype.code), blob.shape, "F" if blob.fortran else "C")


def _view(data, dtype, shape, order="C"):
    """An array over all of `data`."""
    if len(shape) > 8 or not all(_is_count(side) and side > 0 for side in shape) or dtype.kind not in "fiu":
        raise ValueError(f"an array of {dtype} with the shape {shape[:8]}")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"{len(data)} bytes for the shape {shape}")
    return np.frombuffer(data, dtype).reshape(shape, order=order)


def _is_count(number):
    return isinstance(number, int) and 0 <= number < 2**40  # products of huge ones take for ever


# PyTorch


def _read_torch_archive(content):
    """torch.save since 1.6: FOLDER/data.pkl, FOLDER/data/KEY for each storage, FOLDER/byteorder."""
    members, storages = _zip_members(content), {}
    (pickle,) = [name for name in members if name.endswith("/data.pkl")]
    folder = pickle.removesuffix("data.pkl")
    if members.get(f"{folder}byteorder", b"little") != b"little":
        raise ValueError("big-endian numbers")
    state = pickles.load(io.BytesIO(members[pickle]), storages)
    return (_torch_arrays(state, {key: members[f"{folder}data/{key}"] for key in storages}),)


def _read_torch_pickles(content):
    """torch.save before: pickles of a magic number, a version, the system, the state and the storages' keys, then the storages."""
    stream, storages = io.BytesIO(content), {}
    magic, version, _, state, keys = (pickles.load(stream, storages) for _ in range(5))
    if (magic, version) != (0x1950A86A20F9469CFC6C, 1001) or set(keys) != storages.keys():
        raise ValueError("pickles of something else than PyTorch's storages")
    data, begin = {}, stream.tell()
    for key in keys:
        end = begin + 8 + storages[key].numel * np.dtype(storages[key].dtype).itemsize
        if struct.unpack_from("<q", content, begin)[0] != storages[key].numel or end > len(content):
            raise ValueError("a storage of another length than the pickle says")
        data[key], begin = memoryview(content)[begin + 8:end], end
    return (_torch_arrays(state, data),)


def _torch_arrays(state, data):
    """{"features.0.weight": array}: the tensors in dicts within dicts; whatever else is there is left."""
    arrays, waiting, seen = {}, [("", state)], set()
    while waiting:
        path, value = waiting.pop()
        if len(path) > _LONGEST_NAME:
            raise ValueError("dicts in dicts without end")
        if isinstance(value, pickles.Tensor):
            arrays[path] = _torch_array(value, data[value.storage.key])
        elif isinstance(value, dict) and id(value) not in seen:  # a dict may hold itself
            seen.add(id(value))
            waiting += [(f"{path}.{key}" if path else str(key), inner) for key, inner in value.items()]
    return arrays


def _torch_array(tensor, data):
    dtype, numbers = np.dtype(tensor.storage.dtype), (tensor.offset, *tensor.size, *tensor.stride)
    if not all(map(_is_count, numbers)) or len(tensor.size) > 8 or 0 in tensor.size:
        raise ValueError(f"a tensor of the shape {tensor.size[:8]}")
    flat = np.frombuffer(data, dtype)
    last = tensor.offset + sum((side - 1) * step for side, step in zip(tensor.size, tensor.stride, strict=True))
    if flat.size != tensor.storage.numel or last >= flat.size or math.prod(tensor.size) > flat.size:
        raise ValueError(f"a tensor of the shape {tensor.size} that reaches out of its storage")
    steps = [step * dtype.itemsize for step in tensor.stride]
    return np.lib.stride_tricks.as_strided(flat[tensor.offset:], tensor.size, steps, writeable=False)


# safetensors


def _read_safetensors(content):
    """https://github.com/huggingface/safetensors: length of the header, header as JSON, data without gaps."""
    (length,) = struct.unpack_from("<Q", content)
    if length > min(_LARGEST_HEADER, len(content) - 8):
        raise ValueError(f"a header of {length} bytes")
    header, data = json.loads(content[8:8 + length]), memoryview(content)[8 + length:]
    header.pop("__metadata__", None)
    arrays, end = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, previous, end = entry["data_offsets"][0], end, entry["data_offsets"][1]
        if not (_is_count(begin) and _is_count(end) and begin == previous <= end <= len(data)):
            raise ValueError(f"{name[:80]!r} overlaps another tensor, leaves a gap or lies outside the file")
        arrays[name] = _view(data[begin:end], np.dtype(_SAFETENSORS_TYPES[entry["dtype"]]), tuple(entry["shape"]))
    if end != len(data):
        raise ValueError(f"{len(data) - end} bytes too many")
    return (arrays,)


# Caffe


def _read_caffemodel(content):
    """NetParameter of caffe.proto: `layer` (100) of today, or `layers` (2) of 2014, as in the published files."""
    _, net = _message(memoryview(content))
    if 2 in net and 100 in net:
        raise ValueError("layers of two versions of Caffe")
    arrays, types = {}, []
    for layer in net.get(100, net.get(2, ())):
        numbers, blocks = _message(layer)
        of_name, of_blobs = (1, 7) if 100 in net else (4, 6)
        if len(blocks[of_name][-1]) > _LONGEST_NAME:
            raise ValueError("a layer with such a long name")
        name = bytes(blocks[of_name][-1]).decode()
        types.append(bytes(blocks[2][-1]).decode() if 100 in net else _V1_TYPES.get(numbers[5][-1], "another"))
        for number, blob in enumerate(blocks.get(of_blobs, ())):
            if arrays.setdefault(f"{name}.{number}", array := _blob(blob)) is not array:
                raise ValueError(f"two layers of the name {name[:80]!r}")
    return arrays, tuple(types)


def _blob(message):
    """BlobProto: data (5) or double_data (8), packed; shape (7), or num, channels, height and width (1 to 4), as before 2015."""
    numbers, blocks = _message(message)
    dtype, data = ("<f4", blocks[5]) if 5 in blocks else ("<f8", blocks[8])
    if len(data) != 1:
        raise ValueError("an array in several pieces")
    if 7 in blocks:
        dimensions, shape, position = _message(blocks[7][-1])[1].get(1, [b""])[-1], [], 0
        while position < len(dimensions) and len(shape) < 9:  # eight are too many
            side, position = _varint(dimensions, position)
            shape.append(side)
    else:
        shape = [numbers.get(field, [0])[-1] for field in (1, 2, 3, 4)]
    return _view(data[0], np.dtype(dtype), tuple(shape))


def _message(data):
    """({field: [int, ...]}, {field: [bytes, ...]}) of a protobuf message. https://protobuf.dev/programming-guides/encoding/"""
    numbers, blocks, position, fields = {}, {}, 0, 0
    while position < len(data):
        tag, position = _varint(data, position)
        field, wire_type = tag >> 3, tag & 7
        fields += 1
        if wire_type == 0:
            value, position = _varint(data, position)
            numbers.setdefault(field, []).append(value)
        elif wire_type == 2:
            length, position = _varint(data, position)
            blocks.setdefault(field, []).append(data[position:position + length])
            position += length
        elif wire_type in (1, 5):  # numbers of fixed width, of which Caffe has none that matters
            position += 8 if wire_type == 1 else 4
        if wire_type in (3, 4, 6, 7) or position > len(data) or fields > _MOST_PARTS:
            raise ValueError("a message that ends early, has too many fields or a field of an unknown kind")
    return numbers, blocks


def _varint(data, position):
    """(value, where the next begins). IndexError at the end of `data`."""
    value = 0
    for shift in range(0, 64, 7):
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise ValueError("a number of more than 64 bits")
