"""What a weights file holds, whatever its format: `Weights`, with arrays that are views of it."""

import dataclasses
import math
import re
from collections.abc import Iterable
from typing import Any, Literal

import ml_dtypes
import numpy as np

Buffer = bytes | memoryview
LARGEST_HEADER = 2**20  # bytes of names and shapes
LONGEST_NAME = 200  # characters: one name may occur in thousands of arrays' names
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


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
    # of a .pth: its keys at the top; of a .safetensors: those of its metadata
    entries: tuple[str, ...] = ()
    module: str | None = None  # of a .pth: the class of a pickled torch.nn.Module, if there is one
    # of a .safetensors: name -> text
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)
    # of a .pth: name -> three numbers of Python's, which may say of each channel what it is less
    triples: dict[str, tuple] = dataclasses.field(default_factory=dict)
    class_names: tuple[str, ...] = ()  # of a .pth: of its outputs in order, by one of CLASS_NAMES


# The names, by their last word, of three numbers beside a network: what its pixels are less, and
# divided by.
PIXEL_LEVELS = re.compile(r"(^|[._])(mean|std)$", re.IGNORECASE)
# What scripts of PyTorch store them as: {name: number}, as torchvision's ImageFolder has it,
# {number: name}, and lists of names.
CLASS_NAMES = "class_to_idx", "idx_to_class", "classes", "class_names"
# Its weights could be found only by running the code of whoever saved it.
WHOLE_MODULE = (
    "a whole object of the class {}, as torch.save(model, ...) writes it; save "
    "model.state_dict() instead"
)


def view(data: Buffer, dtype: np.dtype, shape: tuple, order: Literal["C", "F"] = "C") -> np.ndarray:
    """An array over all of `data`."""
    if (
        len(shape) > 8
        or not all(is_count(side) and side > 0 for side in shape)
        or dtype.kind not in "fiub"
        and dtype != BFLOAT16
    ):
        raise ValueError(f"an array of {dtype} with the shape {shape[:8]}")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"{len(data)} bytes for the shape {shape}")
    return np.frombuffer(data, dtype).reshape(shape, order=order)


def is_count(number: Any) -> bool:
    return isinstance(number, int) and 0 <= number < 2**40  # products of huge ones take for ever


def once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """A dict of `pairs`; dict() would silently take the later of two with the same name."""
    found = {}
    for name, value in pairs:
        if name in found:
            raise ValueError("two entries of the same name")
        found[name] = value
    return found
