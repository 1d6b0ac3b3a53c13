"""PyTorch's files, zip archives or the older chain of pickles; and pickles of arrays of NumPy, as
programs of Flax write them.
"""

import dataclasses
import io
import math
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from alexnet_tf.weights import pickles
from alexnet_tf.weights.contents import (
    CLASS_NAMES,
    LARGEST_HEADER,
    LONGEST_NAME,
    Buffer,
    Weights,
    is_count,
)
from alexnet_tf.weights.numpy_files import unpickled, zip_members
from alexnet_tf.weights.pickles import Unsupported


def read_torch_archive(content: bytes) -> Weights:
    """torch.save since 1.6: FOLDER/data.pkl, FOLDER/data/KEY for each storage, FOLDER/byteorder."""
    if (
        b"/constants.pkl" in content[-LARGEST_HEADER:]
    ):  # the directory, in which no tensor's file has such a name
        raise Unsupported(
            "is a TorchScript program; save model.state_dict() with torch.save instead"
        )
    members = zip_members(content)
    storages: dict[str, pickles.Storage] = {}
    (pickle,) = [name for name in members if name.endswith("/data.pkl")]
    folder = pickle.removesuffix("data.pkl")
    if members.get(f"{folder}byteorder", b"little") != b"little":
        raise Unsupported("holds big-endian numbers")
    state = pickles.load(io.BytesIO(members[pickle]), storages)
    return torch_weights(state, {key: members[f"{folder}data/{key}"] for key in storages})


def read_torch_pickles(content: bytes) -> Weights:
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
            "is a pickle that torch.save did not write; save the weights with "
            "torch.save or numpy.savez"
        )
    version, _, state, keys = (pickles.load(stream, storages) for _ in range(4))
    if version != 1001 or set(keys) != storages.keys():
        raise ValueError("pickles of something other than PyTorch's storages")
    if strange := [key for key in keys if storages[key].dtype is None]:
        raise Unsupported(
            f"holds {len(strange)} arrays of a type that cannot be read (quantised, complex); "
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
        if len(path) > LONGEST_NAME:
            unreadable[path[:LONGEST_NAME]] = "is nested too deeply"
        elif isinstance(value, pickles.Tensor | pickles.Array):
            if path in arrays:  # {"a": {"b": 1}, "a.b": 2}
                raise ValueError(f"two arrays of the name {path[:80]!r}")
            try:
                arrays[path] = (
                    _torch_array(value, data[value.storage.key])
                    if isinstance(value, pickles.Tensor)
                    else unpickled(value)
                )
            except Unsupported as error:
                unreadable[path] = str(error)
        elif isinstance(value, dict | list | tuple):
            if isinstance(value, list | tuple) and len(value) == 3:
                numbers = [float(one) for one in value if type(one) in (int, float)]  # no bool
                if len(numbers) == 3:
                    triples[path] = tuple(numbers)
            called = path.split(".")[-1]
            # A dict may hold itself; and one object may stand in several places, under other names.
            if (id(value), called in CLASS_NAMES) in seen:
                return
            seen.add((id(value), called in CLASS_NAMES))
            if called in CLASS_NAMES and (names := _in_order(value, called)):
                named.add(names)
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


def _in_order(told: dict | list | tuple, called: str) -> tuple[str, ...]:
    """The names that `told`, which is `called` as one of CLASS_NAMES, has, in their order; none of
    anything else, nor where names that are numbers, as those of folders may be, leave it open.
    """
    if not isinstance(told, dict):
        return tuple(told) if all(isinstance(name, str) for name in told) else ()
    found = []
    for numbers, names in ((told.values(), told.keys()), (told.keys(), told.values())):
        texts = list(map(str, numbers))
        if sorted(texts) == sorted(map(str, range(len(told)))):
            by_number = dict(zip(texts, names))
            in_order = [by_number[str(number)] for number in range(len(told))]
            if all(isinstance(name, str | int) for name in in_order):
                found.append(tuple(map(str, in_order)))
    if len(set(found)) > 1 and called not in ("class_to_idx", "idx_to_class"):
        return ()
    return found[-1 if called == "idx_to_class" else 0] if found else ()


def _dotted(name: str) -> str:
    """A name of a pickle, "torch._utils _rebuild_qtensor", as Python has it."""
    return " ".join(name[:LONGEST_NAME].split()).replace(" ", ".")


def _torch_array(tensor: pickles.Tensor, data: Buffer) -> np.ndarray:
    if tensor.storage.dtype is None or 0 in tensor.size:
        raise Unsupported(
            "has no numbers" if tensor.storage.dtype else "is of a type that cannot be read"
        )
    dtype, numbers = np.dtype(tensor.storage.dtype), (tensor.offset, *tensor.size, *tensor.stride)
    if not all(map(is_count, numbers)) or len(tensor.size) > 8:
        raise ValueError(f"a tensor of the shape {tensor.size[:8]}")
    flat = np.frombuffer(data, dtype)
    last = tensor.offset + sum(
        (side - 1) * step for side, step in zip(tensor.size, tensor.stride, strict=True)
    )
    if last < flat.size == tensor.storage.numel and math.prod(tensor.size) > flat.size:
        raise Unsupported("repeats the numbers of its storage, as after expand()")
    if flat.size != tensor.storage.numel or last >= flat.size or math.prod(tensor.size) > flat.size:
        raise ValueError(f"a tensor of the shape {tensor.size} that reaches beyond its storage")
    steps = [step * dtype.itemsize for step in tensor.stride]
    return np.lib.stride_tricks.as_strided(
        flat[tensor.offset :], tensor.size, steps, writeable=False
    )
