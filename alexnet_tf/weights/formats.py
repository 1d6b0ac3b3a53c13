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

import dataclasses
import io
import json
import math
import os
import pathlib
import re
import struct
import zipfile
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import ml_dtypes
import numpy as np

from alexnet_tf import archives, disk
from alexnet_tf.errors import UserError
from alexnet_tf.weights import pickles
from alexnet_tf.weights.pickles import Unsupported

Buffer = bytes | memoryview
# What a message of protobuf holds, by the numbers of its fields.
Numbers = dict[int, list]
Blocks = dict[int, list[Buffer]]

_LARGEST_FILE = 2**30  # bytes; the published files have 0.24e9
_LARGEST_HEADER = 2**20  # bytes of names and shapes
_LARGEST_METADATA = 2**23  # bytes of them and of what a safetensors file says besides
_MOST_PARTS = 10_000  # fields of a message
_LONGEST_NAME = 200  # characters: one name may occur in thousands of arrays' names
_UNREADABLE = (
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
_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
_SAFETENSORS_TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": _BFLOAT16,
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "|u1",
    "BOOL": "|b1",
}


def _numbered(names: str) -> dict[int, str]:
    return dict(enumerate(names.split(), 1))


def _fields(names: str) -> dict[int, str | None]:
    """{1: "pool", 2: None, ...} of names in the order of their numbers; "-" is a field that no
    answer depends on: where pictures are, how training begins, what computes.
    """
    return {number: name.strip("-") or None for number, name in _numbered(names).items()}


# V1LayerParameter.LayerType of caffe.proto, by the names that LayerParameter has for them.
_V1_TYPES = _numbered("""
    Accuracy BNLL Concat Convolution Data Dropout EuclideanLoss Flatten HDF5Data HDF5Output Im2col
    ImageData InfogainLoss InnerProduct LRN MultinomialLogisticLoss Pooling ReLU Sigmoid Softmax
    SoftmaxWithLoss Split TanH WindowData Eltwise Power SigmoidCrossEntropyLoss HingeLoss MemoryData
    ArgMax Threshold DummyData Slice MVN AbsVal Silence ContrastiveLoss Exp Deconvolution""")
# The parameters of layers in caffe.proto: (field of the message in LayerParameter, in
# V1LayerParameter, the fields of the message itself from 1 on).
_TRANSFORM = (100, 36, _fields("scale - crop_size mean_file mean_value - force_gray"))
_PARAMETERS = {
    "Convolution": [
        (
            106,
            10,
            _fields(
                "- bias_term pad kernel_size group stride - - pad_h pad_w kernel_h kernel_w"
                " stride_h stride_w - axis - dilation"
            ),
        )
    ],
    "Pooling": [
        (
            121,
            19,
            _fields(
                "pool kernel_size stride pad kernel_h kernel_w stride_h stride_w pad_h pad_w - "
                "global_pooling"
            ),
        )
    ],
    "LRN": [(118, 18, _fields("local_size alpha beta norm_region k -"))],
    "InnerProduct": [(117, 17, _fields("- bias_term - - axis transpose"))],
    "ReLU": [(123, 30, _fields("negative_slope -"))],
    "Dropout": [(108, 12, _fields("dropout_ratio scale_train"))],
    "Data": [_TRANSFORM, (107, 11, _fields("- scale mean_file - crop_size - - - - -"))],
    "ImageData": [
        _TRANSFORM,
        (115, 15, _fields("- scale mean_file - crop_size - - - new_height new_width is_color -")),
    ],
    "MemoryData": [_TRANSFORM, (119, 22, _fields("- channels height width"))],
    "Input": [(143, 0, _fields("shape"))],
}


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer of a Caffe file, as it is described there. Names are those of a prototxt of today."""

    name: str
    type: str  # "Convolution", "ReLU", ...
    inputs: tuple = ()  # names of blobs
    outputs: tuple = ()
    parameters: dict = dataclasses.field(
        default_factory=dict
    )  # that the file states: {"stride": (4,), "mean_file": ("...",), ...}


@dataclasses.dataclass(frozen=True)
class Weights:
    """What a file holds: all of it, by name."""

    format: str  # the suffix that files of the format usually have
    arrays: dict[str, np.ndarray]  # name -> array of the file's dtype, a view of its bytes
    layers: tuple[Layer, ...] = ()  # of a caffemodel, in order
    # name -> why, of arrays in forms that are not read: quantised, sparse
    unreadable: dict[str, str] = dataclasses.field(default_factory=dict)
    entries: tuple[str, ...] = ()  # of a .pth: its keys at the top
    module: str | None = None  # of a .pth: the class of a pickled torch.nn.Module, if there is one
    # of a .safetensors: name -> text
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)
    # of a .pth: name -> three numbers of Python's, which may say of each channel what it is less
    triples: dict[str, tuple] = dataclasses.field(default_factory=dict)
    class_names: tuple[str, ...] = ()  # of a .pth: of its outputs in order, by one of CLASS_NAMES


# What scripts of PyTorch store them as: {name: number}, as torchvision's ImageFolder has it,
# {number: name}, and lists of names.
CLASS_NAMES = "class_to_idx", "idx_to_class", "classes", "class_names"

# Its weights could be found only by running the code of whoever saved it.
WHOLE_MODULE = (
    "a whole object of the class {}, as torch.save(model, ...) writes it; save "
    "model.state_dict() instead"
)


def read_content(path: str | os.PathLike) -> bytes:
    """The bytes of a regular file of at most 1 GiB. Raises UserError for anything else."""
    path = pathlib.Path(path)
    try:
        if not path.is_file():
            raise UserError(
                f"{path} is {'a folder or a device' if path.exists() else 'not there'}; pass a file"
                " of weights."
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
    except _UNREADABLE as error:
        reason = " ".join(
            (
                str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            ).split()
        )[:200]
        # A message of protobuf begins as many other things do.
        what = "is damaged" if kind != ".caffemodel" else "is damaged, or no file of Caffe"
        raise UserError(f"{name} {what} ({reason}).") from None


def _why_nothing(weights: Weights) -> str:
    if weights.module:
        return f"holds {WHOLE_MODULE.format(weights.module)}"
    if weights.unreadable:
        name, reason = next(iter(weights.unreadable.items()))
        return f"holds no array that is read: {name[:80]!r} {reason}"
    return "holds no arrays"


def _recognise(content: bytes) -> tuple[str, Callable[[bytes], Weights] | None]:
    """(format, the function that reads it), or (what the content is instead, None)."""
    # first: the length before it may look like the start of anything
    if content[8:10] in (b'{"', b"{}"):
        return ".safetensors", _read_safetensors
    if content.startswith(b"PK\x03\x04"):
        return _recognise_archive(content)
    for start, kind, read in (
        (b"\x93NUMPY", ".npy", _read_pickled_npy),
        (b"\x80", ".pth", _read_torch_pickles),
        # the tags of NetParameter's name, layers and layer
        (b"\x0a", ".caffemodel", _read_caffemodel),
        (b"\x12", ".caffemodel", _read_caffemodel),
        (b"\xa2\x06", ".caffemodel", _read_caffemodel),
        (disk.LFS, disk.OF_LFS, None),
        (b"\x89HDF", "an HDF5 file, as Keras writes", None),
        (b"MATLAB ", "a file of MATLAB", None),
        (b"\x1f\x8b", "compressed by gzip (gunzip or tar -x unpacks it)", None),
        (b"BZh", "compressed by bzip2 (bunzip2 or tar -x unpacks it)", None),
        (b"\xfd7zXZ", "compressed by xz (unxz or tar -x unpacks it)", None),
        (b"7z\xbc\xaf", "an archive of 7-Zip (unpack it, and pass what is in it)", None),
        (b"Rar!", "a RAR archive (unpack it, and pass what is in it)", None),
        (b"<", "a page of HTML or XML, such as servers send instead of a file", None),
        (b"{", "text of JSON, such as servers send and lists of parts are", None),
    ):
        if content.startswith(start):
            return kind, read
    for found, kind in (
        (content[257:262] == b"ustar", "a tar archive (tar -x unpacks it)"),
        (content[4:8] == b"TFL3", "a .tflite file, which holds no weights to train"),
        (content[:1] == b"\x08", "a message of another kind, such as an ONNX file or a mean"),
    ):
        if found:
            return kind, None
    return ("in none of the formats known here" if content else "empty"), None


def _recognise_archive(content: bytes) -> tuple[str, Callable[[bytes], Weights] | None]:
    """As _recognise, of a zip archive, by the names in its directory."""
    try:
        archives.check_count(io.BytesIO(content))
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
    except _UNREADABLE:  # the readers say how it is damaged
        torch = b"/data.pkl" in content[:_LARGEST_HEADER]  # written first
        return (".pth", _read_torch_archive) if torch else (".npz", _read_npz)
    if any(name.endswith("/data.pkl") for name in names):
        return ".pth", _read_torch_archive
    if all(name.endswith(".npy") for name in names):
        return ".npz", _read_npz
    if "model.weights.h5" in names:
        return "a .keras file", None
    if any(name.endswith("/archive_format") for name in names):
        return "a program of torch.export (save model.state_dict() by torch.save instead)", None
    return f"a zip archive of {names[0][:80]!r} and so on (unpack it, and pass one file)", None


# NumPy


def _read_npz(content: bytes) -> Weights:
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
        raise Unsupported("has no number" if 0 in shape else "holds Python's objects, not numbers")
    return _view(content[begin:], dtype, shape, "F" if fortran else "C")


def _npy_header(content: bytes) -> tuple[int, np.dtype, bool, tuple[int, ...]]:
    """(where the data begin, dtype, whether columns come first, shape)."""
    length = {b"\x93NUMPY\1": "<H", b"\x93NUMPY\2": "<I"}[content[:7]]
    begin = 8 + struct.calcsize(length)
    end = begin + struct.unpack_from(length, content, 8)[0]
    header = _NPY_HEADER.fullmatch(content[begin : min(end, _LARGEST_HEADER)])
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


def _read_pickled_npy(content: bytes) -> Weights:
    begin, dtype, _, shape = _npy_header(content)
    if dtype.kind != "O" or shape:
        raise Unsupported("is one array, and not a dict of layers")
    stream = io.BytesIO(content)
    stream.seek(begin)
    (layers,) = pickles.load(stream).data
    if not isinstance(layers, dict) or not all(
        isinstance(blobs, dict | list | tuple) for blobs in layers.values()
    ):
        raise Unsupported("is no dict of layers, each a list or a dict of arrays")
    # {"conv1": [kernel, bias]} and {"conv1": {"weights": kernel, "biases": bias}}
    arrays = _once(
        (f"{layer}.{part}", blob)
        for layer, blobs in layers.items()
        for part, blob in (blobs.items() if isinstance(blobs, dict) else enumerate(blobs))
    )
    if not all(isinstance(blob, pickles.Array) for blob in arrays.values()):
        raise Unsupported("holds layers that are no lists or dicts of arrays")
    if sum(len(blob.data) for blob in arrays.values()) > len(content):
        raise ValueError("arrays that share their data")
    return Weights(".npy", {name: _unpickled(blob) for name, blob in arrays.items()})


def _unpickled(blob: pickles.Array) -> np.ndarray:
    if 0 in blob.shape:
        raise Unsupported("has no number")
    data = blob.data.encode("latin-1") if isinstance(blob.data, str) else blob.data
    return _view(
        data,
        _numpy_type(blob.dtype.order + blob.dtype.code),
        blob.shape,
        "F" if blob.fortran else "C",
    )


def _view(
    data: Buffer, dtype: np.dtype, shape: tuple, order: Literal["C", "F"] = "C"
) -> np.ndarray:
    """An array over all of `data`."""
    if (
        len(shape) > 8
        or not all(_is_count(side) and side > 0 for side in shape)
        or dtype.kind not in "fiub"
        and dtype != _BFLOAT16
    ):
        raise ValueError(f"an array of {dtype} with the shape {shape[:8]}")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"{len(data)} bytes for the shape {shape}")
    return np.frombuffer(data, dtype).reshape(shape, order=order)


def _is_count(number: Any) -> bool:
    return isinstance(number, int) and 0 <= number < 2**40  # products of huge ones take for ever


# PyTorch


def _read_torch_archive(content: bytes) -> Weights:
    """torch.save since 1.6: FOLDER/data.pkl, FOLDER/data/KEY for each storage, FOLDER/byteorder."""
    if (
        b"/constants.pkl" in content[-_LARGEST_HEADER:]
    ):  # the directory, in which no tensor's file has such a name
        raise Unsupported(
            "is a program of TorchScript; save model.state_dict() by torch.save instead"
        )
    members = zip_members(content)
    storages: dict[str, pickles.Storage] = {}
    (pickle,) = [name for name in members if name.endswith("/data.pkl")]
    folder = pickle.removesuffix("data.pkl")
    if members.get(f"{folder}byteorder", b"little") != b"little":
        raise Unsupported("holds big-endian numbers")
    state = pickles.load(io.BytesIO(members[pickle]), storages)
    return torch_weights(state, {key: members[f"{folder}data/{key}"] for key in storages})


def _read_torch_pickles(content: bytes) -> Weights:
    """torch.save before: pickles of a magic number, a version, the system, the state and the
    storages' keys, then the storages.
    """
    stream = io.BytesIO(content)
    storages: dict[str, pickles.Storage] = {}
    first = pickles.load(stream)
    if isinstance(first, dict) and not isinstance(first, pickles.Opaque) and not stream.read(1):
        return _read_pickled_dicts(first, len(content))
    if first != 0x1950A86A20F9469CFC6C:
        raise Unsupported(
            "is a pickle that torch.save did not write; save the weights by "
            "torch.save, or by numpy.savez"
        )
    version, _, state, keys = (pickles.load(stream, storages) for _ in range(4))
    if version != 1001 or set(keys) != storages.keys():
        raise ValueError("pickles of something else than PyTorch's storages")
    if strange := [key for key in keys if storages[key].dtype is None]:
        raise Unsupported(
            f"holds {len(strange)} arrays of a type that is not read (quantised, complex); "
            "save float32"
        )
    data, begin = {}, stream.tell()
    for key in keys:
        end = (
            begin + 8 + storages[key].numel * np.dtype(storages[key].dtype).itemsize
        )  # bfloat16 is a name of ml_dtypes
        if struct.unpack_from("<q", content, begin)[0] != storages[key].numel or end > len(content):
            raise ValueError("a storage of another length than the pickle says")
        data[key], begin = memoryview(content)[begin + 8 : end], end
    return torch_weights(state, data)


def _read_pickled_dicts(state: dict, length: int) -> Weights:
    """Dicts of arrays of NumPy, as programs of Flax write them, in a file of so many bytes."""
    weights = torch_weights(state, {})
    if sum(array.nbytes for array in weights.arrays.values()) > length:
        raise ValueError("arrays that share their data")
    return dataclasses.replace(weights, format=".ckpt", entries=())


def torch_weights(state: Any, data: Mapping[str, Buffer]) -> Weights:
    """The Weights of what a pickle has built: its tensors and arrays, in dicts and lists within one
    another, by their paths.
    """
    arrays, unreadable, triples, modules, named, seen = {}, {}, {}, [], set(), set()

    def visit(path: str, value: Any) -> None:
        if len(path) > _LONGEST_NAME:
            unreadable[path[:_LONGEST_NAME]] = "dicts in dicts without end"
        elif isinstance(value, pickles.Tensor | pickles.Array):
            if path in arrays:  # {"a": {"b": 1}, "a.b": 2}
                raise ValueError(f"two arrays of the name {path[:80]!r}")
            try:
                arrays[path] = (
                    _torch_array(value, data[value.storage.key])
                    if isinstance(value, pickles.Tensor)
                    else _unpickled(value)
                )
            except Unsupported as error:
                unreadable[path] = str(error)
        elif (
            isinstance(value, dict | list | tuple) and id(value) not in seen
        ):  # a dict may hold itself
            seen.add(id(value))
            if path.split(".")[-1] in CLASS_NAMES and (names := _in_order(value)):
                named.add(names)
            if isinstance(value, list | tuple) and len(value) == 3:
                numbers = [float(one) for one in value if type(one) in (int, float)]  # no bool
                if len(numbers) == 3:
                    triples[path] = tuple(numbers)
            if isinstance(value, pickles.Opaque):
                modules.extend([_dotted(value.name)] * value.is_module())
                if value.name.startswith(
                    "torch._utils _rebuild"
                ):  # a tensor of a kind that is not read
                    unreadable[path] = f"is made by {_dotted(value.name)}"
            for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
                if isinstance(inner, pickles.Tensor | pickles.Array | dict | list | tuple):
                    visit(f"{path}.{key}" if path else str(key), inner)

    visit("", state)
    entries = tuple(map(str, state)) if isinstance(state, dict) else ()
    return Weights(
        ".pth",
        arrays,
        unreadable=unreadable,
        entries=entries,
        module=next(iter(modules), None),
        triples=triples,
        class_names=named.pop() if len(named) == 1 else (),
    )


def _in_order(told: dict | list | tuple) -> tuple[str, ...]:
    """The names that `told`, one of CLASS_NAMES, has, in their order; none of anything else."""
    if not isinstance(told, dict):
        return tuple(told) if all(isinstance(name, str) for name in told) else ()
    for numbers, names in ((told.values(), told.keys()), (told.keys(), told.values())):
        texts = list(map(str, numbers))
        if sorted(texts) == sorted(map(str, range(len(told)))):
            by_number = dict(zip(texts, names))
            found = tuple(by_number[str(number)] for number in range(len(told)))
            return (
                tuple(map(str, found)) if all(isinstance(one, str | int) for one in found) else ()
            )
    return ()


def _dotted(name: str) -> str:
    """A name of a pickle, "torch._utils _rebuild_qtensor", as Python has it."""
    return " ".join(name[:_LONGEST_NAME].split()).replace(" ", ".")


def _torch_array(tensor: pickles.Tensor, data: Buffer) -> np.ndarray:
    if tensor.storage.dtype is None or 0 in tensor.size:
        raise Unsupported(
            "has no number" if tensor.storage.dtype else "is of a type that is not read"
        )
    dtype, numbers = np.dtype(tensor.storage.dtype), (tensor.offset, *tensor.size, *tensor.stride)
    if not all(map(_is_count, numbers)) or len(tensor.size) > 8:
        raise ValueError(f"a tensor of the shape {tensor.size[:8]}")
    flat = np.frombuffer(data, dtype)
    last = tensor.offset + sum(
        (side - 1) * step for side, step in zip(tensor.size, tensor.stride, strict=True)
    )
    if last < flat.size == tensor.storage.numel and math.prod(tensor.size) > flat.size:
        raise Unsupported("repeats the numbers of its storage, as expand() makes it")
    if flat.size != tensor.storage.numel or last >= flat.size or math.prod(tensor.size) > flat.size:
        raise ValueError(f"a tensor of the shape {tensor.size} that reaches out of its storage")
    steps = [step * dtype.itemsize for step in tensor.stride]
    return np.lib.stride_tricks.as_strided(
        flat[tensor.offset :], tensor.size, steps, writeable=False
    )


# safetensors


def _read_safetensors(content: bytes) -> Weights:
    """https://github.com/huggingface/safetensors: length of the header, header as JSON, data
    without gaps.
    """
    (length,) = struct.unpack_from("<Q", content)
    if length > min(_LARGEST_METADATA, len(content) - 8):
        raise ValueError(f"a header of {length} bytes")
    header, data = (
        json.loads(content[8 : 8 + length], object_pairs_hook=_once),
        memoryview(content)[8 + length :],
    )
    metadata = header.pop("__metadata__", {})
    if not all(isinstance(text, str) for text in metadata.values()):
        raise ValueError("metadata that are no texts")
    arrays, unreadable, end = {}, {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, previous, end = entry["data_offsets"][0], end, entry["data_offsets"][1]
        if not (_is_count(begin) and _is_count(end) and begin == previous <= end <= len(data)):
            raise ValueError(
                f"{name[:80]!r} overlaps another tensor, leaves a gap or lies outside the file"
            )
        if entry["dtype"] in _SAFETENSORS_TYPES and 0 not in entry["shape"]:
            arrays[name] = _view(
                data[begin:end], np.dtype(_SAFETENSORS_TYPES[entry["dtype"]]), tuple(entry["shape"])
            )
        else:
            unreadable[name] = (
                f"is of the type {str(entry['dtype'])[:10]!r} and the shape {entry['shape'][:8]}"
            )
    if end != len(data):
        raise ValueError(f"{len(data) - end} bytes too many")
    return Weights(".safetensors", arrays, unreadable=unreadable, metadata=metadata)


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """A dict of `pairs`, in which the later of two of one name would silently be taken."""
    found = {}
    for name, value in pairs:
        if name in found:
            raise ValueError("two entries of one name")
        found[name] = value
    return found


# Caffe


def _read_caffemodel(content: bytes) -> Weights:
    """NetParameter of caffe.proto: `layer` (100) of today, or `layers` (2) of 2014, as in the
    published files.
    """
    numbers, net = _message(memoryview(content))
    if 2 in net and 100 in net:
        raise ValueError("layers of two versions of Caffe")
    arrays: dict[str, np.ndarray] = {}
    layers = []
    # Inputs of the net itself: `input` (3), and `input_shape` (8) or four `input_dim` (4) for each.
    shapes = [_dimensions(shape) for shape in net.get(8, ())] or [tuple(numbers.get(4, ()))[:4]]
    for blob, shape in zip(net.get(3, ()), shapes):
        layers.append(Layer("input", "Input", (), (_text(blob),), {"shape": shape}))
    for message in net.get(100, net.get(2, ())):
        numbers, blocks = _message(message)
        of_name, of_blobs, of_inputs = (1, 7, 3) if 100 in net else (4, 6, 2)
        if 100 not in net and 1 in blocks:  # V0LayerParameter
            raise Unsupported(
                "holds layers as Caffe wrote them before 2014; its upgrade_net_proto_binary renews"
                " them"
            )
        name = _text(blocks[of_name][-1])
        kind = (
            _text(blocks[2][-1])
            if 100 in net
            else _V1_TYPES.get(numbers[5][-1], f"layer of type {numbers[5][-1]}")
        )
        inputs, outputs = (
            tuple(map(_text, blocks.get(field, ()))) for field in (of_inputs, of_inputs + 1)
        )
        layers.append(
            Layer(name, kind, inputs, outputs, _parameters(kind, blocks, 0 if 100 in net else 1))
        )
        for number, blob in enumerate(blocks.get(of_blobs, ())):
            if arrays.setdefault(f"{name}.{number}", array := _blob(blob)) is not array:
                raise ValueError(f"two layers of the name {name[:80]!r}")
    return Weights(".caffemodel", arrays, tuple(layers))


def _parameters(kind: str, blocks: Blocks, version: int) -> dict[str, tuple]:
    """{name: numbers, or text} of what a layer's messages state; fields that are unknown here are
    called by their numbers.
    """
    stated: dict[str, tuple] = {}
    for *fields, names in _PARAMETERS.get(kind, ()):
        for content in blocks.get(fields[version], ()):
            numbers, texts = _message(content)
            for field, stored in (numbers | texts).items():
                name = names.get(field, f"field {field}")
                if not name:
                    continue
                values: Iterable = stored
                if name == "mean_file":
                    values = map(_text, stored)
                elif name == "shape":
                    values = _dimensions(stored[-1])
                elif field in texts:  # packed
                    values = (
                        number
                        for packed in stored
                        for number in _packed(packed, name == "mean_value")
                    )
                stated[name] = (*stated.get(name, ()), *values)[:16]  # there are three at most
    return stated


def _packed(content: Buffer, floats: bool) -> list:
    if floats:
        return np.frombuffer(content, "<f4").tolist()
    numbers: list[int] = []
    position = 0
    while position < len(content) and len(numbers) < 16:
        number, position = _varint(content, position)
        numbers.append(number)
    return numbers


def _text(content: Buffer) -> str:
    """Text of a file, of which one may be named in thousands of arrays' names."""
    if len(content) > _LONGEST_NAME:
        raise ValueError("such a long name")
    return bytes(content).decode()


def _blob(message: Buffer) -> np.ndarray:
    """BlobProto: data (5) or double_data (8), packed, or, by NVIDIA's Caffe, raw_data (12) of a
    raw_data_type (10); shape (7), or num, channels, height and width (1 to 4), as before 2015.
    """
    numbers, blocks = _message(message)
    if 12 in blocks:
        dtype, data = ("<f8", "<f4", "<f2")[numbers.get(10, [0])[-1]], blocks[12]
    else:
        dtype, data = ("<f4", blocks[5]) if 5 in blocks else ("<f8", blocks[8])
    if len(data) != 1:
        raise ValueError("an array in several pieces")
    old_shape = tuple(numbers.get(field, [0])[-1] for field in (1, 2, 3, 4))
    return _view(data[0], np.dtype(dtype), _dimensions(blocks[7][-1]) if 7 in blocks else old_shape)


def _dimensions(message: Buffer) -> tuple[int, ...]:
    """BlobShape: packed dim (1)."""
    return tuple(_packed(_message(message)[1].get(1, [b""])[-1], floats=False))


def _message(data: Buffer) -> tuple[Numbers, Blocks]:
    """({field: [number, ...]}, {field: [bytes, ...]}) of a protobuf message.

    https://protobuf.dev/programming-guides/encoding/
    """
    numbers: Numbers = {}
    blocks: Blocks = {}
    position = fields = 0
    while position < len(data):
        tag, position = _varint(data, position)
        field, wire_type = tag >> 3, tag & 7
        fields += 1
        if wire_type == 0:
            value, position = _varint(data, position)
            numbers.setdefault(field, []).append(value)
        elif wire_type == 2:
            length, position = _varint(data, position)
            blocks.setdefault(field, []).append(data[position : position + length])
            position += length
        elif wire_type in (1, 5):
            kind, width = ("<d", 8) if wire_type == 1 else ("<f", 4)
            numbers.setdefault(field, []).append(struct.unpack_from(kind, data, position)[0])
            position += width
        if wire_type in (3, 4, 6, 7) or position > len(data) or fields > _MOST_PARTS:
            raise ValueError(
                "a message that ends early, has too many fields or a field of an unknown kind"
            )
    return numbers, blocks


def _varint(data: Buffer, position: int) -> tuple[int, int]:
    """(value, where the next begins). IndexError at the end of `data`."""
    value = 0
    for shift in range(0, 64, 7):
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise ValueError("a number of more than 64 bits")
