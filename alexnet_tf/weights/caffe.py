"""The networks of Caffe, bvlc_alexnet and bvlc_reference_caffenet, onto our variants: from its own
files, from Toronto's, and from any other of the same arrays.
"""

import os
from collections.abc import Sequence

import numpy as np

from alexnet_tf.errors import UserError
from alexnet_tf.network.model import DROPOUT_RATE, VARIANTS
from alexnet_tf.weights.caffe_description import read_description
from alexnet_tf.weights.contents import Weights
from alexnet_tf.weights.layouts import Arrays, Converted, Layers, read_layers
from alexnet_tf.weights.published import Published
from alexnet_tf.weights.statements import (
    Stated,
    as_it_says,
    assumed,
    fold_pixels,
    levels,
    listed,
    settle,
    settle_order,
    told_of_pixels,
)

# Kernels as they are stored: [outputs, inputs of a group, height, width] and [outputs, inputs].
_GROUPED = {
    "conv1": (96, 3, 11, 11),
    "conv2": (256, 48, 5, 5),
    "conv3": (384, 256, 3, 3),
    "conv4": (384, 192, 3, 3),
    "conv5": (256, 192, 3, 3),
    "fc6": (4096, 9216),
    "fc7": (4096, 4096),
    "fc8": (None, 4096),
}
KERNELS = {"0", "weights", "weight", "kernel", "W", "w"}
_BIASES = {"1", "biases", "bias", "b"}
# Channel means of the mean image that Caffe publishes (data/ilsvrc12/imagenet_mean.binaryproto), as
# RGB.
CAFFE_MEAN = (122.679, 116.669, 104.007)


def from_caffe(
    weights: Weights,
    arrays: Arrays,
    name: str | os.PathLike,
    stated: Stated,
    known: Published | None,
) -> Converted:
    pairs: dict[str, dict[int, str]] = {}  # the arrays of each layer of the file
    for key in arrays:
        layer, _, part = key.rpartition(".")
        which = 0 if part in KERNELS else 1 if part in _BIASES else None
        if which is None or which in pairs.setdefault(layer, {}):
            raise UserError(
                f"{name} holds {key[:80]} {arrays[key].shape}, which is neither the "
                "kernel nor the bias of a layer; no variant uses it."
            )
        pairs[layer][which] = key
    notes, dropout_rate, told_variant = [], DROPOUT_RATE, known and known.variant
    told: dict[str, tuple] = {}
    order: list[str] = []
    if weights.layers and not known:
        told_variant, order, told, rates = read_description(weights.layers, name)
        dropout_rate = rates.pop() if len(rates) == 1 else DROPOUT_RATE
        if rates:
            notes.append(
                f"{name} has different dropout rates in its layers; a training that goes on from"
                f" it uses {DROPOUT_RATE}. No answer depends on it."
            )
    if not told_variant or known:
        # Only names tell; the last layer has another one where other classes were trained.
        others = [layer for layer in pairs if layer not in _GROUPED]
        last = others[0] if "fc8" not in pairs and len(others) == 1 else "fc8"
        order = [*list(_GROUPED)[:-1], last]
    beside = [*(pairs.keys() - set(order)), *weights.unreadable]
    if beside:
        raise UserError(
            f"{name} holds more than an AlexNet of Caffe: {', '.join(sorted(beside))[:200]}; "
            "no variant uses it."
        )
    if order[-1] != "fc8":
        notes.append(f"{name}: {order[-1]} is taken as its last layer, fc8.")
    if told_variant and stated.variant not in (None, told_variant):
        raise UserError(
            f"variant={stated.variant}, but {name} has its pools and LRN in the order of "
            f"{told_variant}; omit variant=."
        )
    variant = told_variant or stated.variant
    if variant is None:
        raise UserError(
            f"{name} does not say whether it normalises before it pools, and answers "
            "depend on it; pass variant=caffe (as bvlc_alexnet: LRN, then pool) or "
            "variant=caffenet (as bvlc_reference_caffenet: pool, then LRN)."
        )
    parts = {
        ours: [pairs.get(theirs, {}).get(which, f"{theirs}.{which}") for which in (0, 1)]
        for ours, theirs in zip(_GROUPED, order)
    }
    # Toronto's file has kernels laid out as TensorFlow's; blobs saved by pycaffe are Caffe's.
    outputs_first = arrays.get(parts["conv1"][0], np.zeros(0)).shape != (11, 11, 3, 96)
    layers = read_layers(arrays, parts, _GROUPED, name, outputs_first)
    of_training = told_of_pixels(weights, "", name, None in (stated.mean, stated.std))
    if None not in of_training:
        if not stated.channel_order:
            raise UserError(
                f"{name} states the mean and the std of its pixels, but not whether its network, "
                "of Caffe's layers, reads RGB or BGR; pass channel_order=rgb, as most PyTorch "
                "programs read pictures, or channel_order=bgr."
            )
        notes += as_it_says(of_training, name)
        told |= dict(zip(("mean_value", "std"), map(levels, of_training)))
    channels = settle_order(stated, "bgr", bool(known), name)
    mean, std, resize = _pixels(told, variant, name, stated, channels, known, notes)
    layers, pixels = fold_pixels(variant, layers, mean, std, resize, channels, name)
    return Converted(variant, _towers(layers), pixels, dropout_rate, tuple(notes))


def _pixels(
    told: dict[str, tuple],
    variant: str,
    name: str | os.PathLike,
    stated: Stated,
    order: str,
    known: Published | None,
    notes: list[str],
) -> tuple[Sequence[float], Sequence[float], int]:
    """(mean, std, resize) as the file and the user say, the channels in `order`, rgb or bgr."""
    row = VARIANTS[variant]
    usual = CAFFE_MEAN if order == "rgb" else CAFFE_MEAN[::-1]
    scale = told["scale"][0] if "scale" in told else 1.0 if known else None
    of_scale = told.get("std") or (scale and (1 / scale,))
    std = settle("std", stated.std, of_scale, name, (row["std"],))
    of_file = usual if known else told.get("mean_value")
    nothing = (0.0,) if "reads" in told and "mean_file" not in told else None
    mean = settle("mean", stated.mean, of_file, name, nothing)
    if mean is None and "mean_file" in told:
        raise UserError(
            f"{name} subtracts the mean in {told['mean_file'][-1]!r}, a separate file; "
            "pass the mean of that file's channels as "
            f"mean={','.join(order.upper())} (ImageNet's: "
            f"mean={listed(usual)})."
        )
    if mean is None:
        mean = usual
        notes.append(assumed(name, "Caffe's examples", order, mean, std))
    resize = None
    sides = {told[side][-1] for side in ("new_height", "new_width") if side in told} - {0}
    if len(sides) > 1:
        raise UserError(
            f"{name} squeezes its pictures to {told['new_height'][-1]} x "
            f"{told['new_width'][-1]}, which is not supported here."
        )
    if sides:
        (resize,) = sides
    elif "reads" in told and not told.get("crop_size", (0,))[-1] and stated.resize is None:
        raise UserError(
            f"{name} states no crop_size, so its pictures were read as they were "
            "stored; pass resize=227 if that was at 227 x 227."
        )
    return mean, std, settle("resize", stated.resize, resize, name, row["resize"])


def _towers(layers: Layers) -> Arrays:
    """Groups become towers."""
    arrays = {}
    for layer, (kernel, bias) in layers.items():
        towers = "ab" if layer.startswith("conv") else ("",)
        for tower, *parts in zip(
            towers, np.split(kernel, len(towers), -1), np.split(bias, len(towers))
        ):
            arrays[f"{layer}{tower}/kernel"], arrays[f"{layer}{tower}/bias"] = parts
    return arrays
