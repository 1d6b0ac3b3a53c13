"""Arrays as their publishers lay them out, to ours: the order of their axes, and whether they are
whole, finite and trained.
"""

import dataclasses
import os

import numpy as np

from alexnet_tf.bounds import check_trained
from alexnet_tf.errors import UserError
from alexnet_tf.network.model import DROPOUT_RATE
from alexnet_tf.pixels import Preprocessing

Arrays = dict[str, np.ndarray]  # by name
Layers = dict[str, tuple[np.ndarray, np.ndarray]]  # kernel and bias of each
_LAST_MAP = (256, 6, 6)  # what fc6 reads, in the order of Caffe and PyTorch: channels first


@dataclasses.dataclass(frozen=True)
class Converted:
    """A network of others as one of our variants."""

    variant: str
    arrays: Arrays  # by variable path, float32
    preprocessing: Preprocessing
    dropout_rate: float = DROPOUT_RATE
    notes: tuple = ()  # lines that the user has to see: what was assumed, what was passed over
    missing: tuple = ()  # layers that there are no weights of: settings.Settings


def read_layers(
    arrays: Arrays,
    parts: dict[str, list[str]],
    shapes: dict[str, tuple],
    name: str | os.PathLike,
    outputs_first: bool = True,
) -> Layers:
    """{layer: (kernel [height, width, inputs, outputs] or [inputs, outputs], bias [outputs])},
    float32.

    `parts` names the arrays of each layer. Without `outputs_first` the kernels are laid out as ours
    are. Raises UserError that lists all that is missing, has another shape, or is not weights.
    """
    layers: Layers = {}
    wrong = []
    for layer, keys in parts.items():
        if missing := [key for key in keys if key not in arrays]:
            wrong.append(f"{layer} is missing ({', '.join(key[:80] for key in missing)})")
            continue
        kernel, bias = (
            _without_leading_ones(arrays[key], ndim)
            for key, ndim in zip(keys, (len(shapes[layer]), 1))
        )
        shape = (shapes[layer][0] or bias.size, *shapes[layer][1:])
        expected = shape if outputs_first else (*shape[2:], shape[1], shape[0])
        if kernel.shape != expected or bias.shape != shape[:1]:
            wrong.append(
                f"{layer} is {kernel.shape} and {bias.shape} instead of {expected} and {shape[:1]}"
            )
            continue
        if strange := [str(part.dtype) for part in (kernel, bias) if part.dtype.kind in "iub"]:
            wrong.append(f"{layer} is of {strange[0]}, but weights are floating-point numbers")
            continue
        with np.errstate(over="ignore"):  # of float64; it shows below
            kernel = np.asarray(_as_ours(layer, kernel) if outputs_first else kernel, np.float32)
            bias = np.asarray(bias, np.float32)
        layers[layer] = kernel, bias
        if not np.isfinite(kernel).all() or not np.isfinite(bias).all():
            wrong.append(f"{layer} has numbers that are not finite")
        else:
            try:
                check_trained(layer, kernel)
            except ValueError as error:
                wrong.append(str(error))
        if layer == "fc8" and bias.size < 2:
            wrong.append(f"it has {bias.size} output, but a classifier has two or more")
    if wrong:
        raise UserError(f"{name} is not an AlexNet as published: {'; '.join(wrong)}.")
    return layers


def _without_leading_ones(array: np.ndarray, ndim: int) -> np.ndarray:
    """`array` with `ndim` dimensions: until 2015 Caffe gave every array four."""
    return (
        array.reshape(array.shape[-ndim:])
        if array.shape[:-ndim] == (1,) * (array.ndim - ndim)
        else array
    )


def _as_ours(layer: str, kernel: np.ndarray) -> np.ndarray:
    """[outputs, inputs, height, width] to [height, width, inputs, outputs]; the inputs of fc6,
    which are a map, likewise.
    """
    if layer == "fc6":
        return kernel.reshape(-1, *_LAST_MAP).transpose(2, 3, 1, 0).reshape(kernel.shape[::-1])
    return kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel.T
