"""What a Caffe file says of its layers, compared with our variants."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from alexnet_tf.errors import UserError
from alexnet_tf.network.layers import BETA
from alexnet_tf.weights.contents import Layer
from alexnet_tf.weights.statements import listed

_COMPUTE = {"Convolution", "ReLU", "LRN", "Pooling", "InnerProduct"}
_CHANGE_NOTHING = {"Dropout", "Flatten"}  # of an answer
_READ_PICTURES = {"Data", "ImageData", "MemoryData", "HDF5Data", "DummyData", "Input"}
_AFTER_THE_ANSWER = {
    "Softmax",
    "SoftmaxWithLoss",
    "Accuracy",
    "ArgMax",
    "Silence",
    "MultinomialLogisticLoss",
    "InfogainLoss",
}
_NORM_FIRST = ("Convolution", "ReLU", "LRN", "Pooling") * 2
_POOL_FIRST = ("Convolution", "ReLU", "Pooling", "LRN") * 2
_UPPER = (*("Convolution", "ReLU") * 3, "Pooling", *("InnerProduct", "ReLU") * 2, "InnerProduct")
_CHAINS = {"caffe": _NORM_FIRST + _UPPER, "caffenet": _POOL_FIRST + _UPPER}
_PLACES = {
    "conv1": (11, 4, 0, 1),
    "conv2": (5, 1, 2, 2),
    "conv3": (3, 1, 1, 1),
    "conv4": (3, 1, 1, 2),
    "conv5": (3, 1, 1, 2),
}  # kernel, stride, pad, group


def read_description(
    layers: Sequence[Layer], name: str | os.PathLike
) -> tuple[str | None, list[str], dict[str, tuple], set[float]]:
    """(the variant, or None where the file has only layers with weights; the names of these
    layers in order; {parameter of its pictures: values}; its dropout rates, a set).

    Raises UserError, with all that differs, for a network that is none of the variants.
    """
    chain, wrong = _chain(layers)
    kinds = tuple(layer.type for layer in chain if layer.type not in _CHANGE_NOTHING)
    of_weights = [layer for layer in chain if layer.type in ("Convolution", "InnerProduct")]
    variant = next((variant for variant, kinds_of in _CHAINS.items() if kinds_of == kinds), None)
    if variant is None and not wrong and len(of_weights) < len(kinds):
        wrong.append(
            _first_difference([layer for layer in chain if layer.type not in _CHANGE_NOTHING])
        )
    numbers = dict.fromkeys(_COMPUTE, 0)
    for layer in chain:
        if layer.type in numbers:
            numbers[layer.type] += 1
        wrong += _differences(layer, numbers.get(layer.type))
    first = set(chain[0].inputs) if chain else set()
    sources = [
        layer
        for layer in layers
        if layer.type in _READ_PICTURES
        and (not first or not layer.outputs or first & set(layer.outputs))
    ]
    told, strange = _told_of_pictures(sources)
    wrong += strange
    if wrong:
        raise UserError(
            f"{name} is a network that fits no variant: {'; '.join(wrong[:6])}"
            f"{'; and more' * (len(wrong) > 6)}."
        )
    rates = {round(_dropout_ratio(layer), 6) for layer in chain if layer.type == "Dropout"}
    return variant, [layer.name for layer in of_weights], told, rates


def _chain(layers: Sequence[Layer]) -> tuple[list[Layer], list[str]]:
    """(the layers from the picture to the answer, what is wrong with the others)."""
    chain, wrong, blobs = [], [], set()
    for layer in layers:
        if layer.type in _READ_PICTURES:
            blobs |= set(layer.outputs)
        elif layer.type == "Split":
            blobs |= set(layer.outputs) if set(layer.inputs) & blobs else set()
        elif layer.type in _COMPUTE | _CHANGE_NOTHING:
            if len(layer.inputs) > 1 or (layer.inputs and blobs and not set(layer.inputs) & blobs):
                wrong.append(
                    f"{layer.name} reads {', '.join(layer.inputs)[:80]}, not what precedes it"
                )
            chain.append(layer)
            blobs = set(layer.outputs)
        elif layer.type not in _AFTER_THE_ANSWER:
            wrong.append(f"{layer.name} is a layer of the type {layer.type}")
    return chain, wrong


def _first_difference(chain: list[Layer]) -> str:
    if not any(layer.type == "LRN" for layer in chain):
        return "it has no LRN, which caffe and caffenet have"

    def same(expected: Sequence[str]) -> int:
        pairs = zip([*(layer.type for layer in chain), "nothing"], [*expected, "nothing"])
        return next(index for index, (one, other) in enumerate(pairs) if one != other)

    variant = max(_CHAINS, key=lambda variant: same(_CHAINS[variant]))
    place, expected = same(_CHAINS[variant]), [*_CHAINS[variant], "nothing"]
    there = f"{chain[place].name} ({chain[place].type})" if place < len(chain) else "nothing"
    position = f"after {chain[place - 1].name}" if place else "first"
    return f"{there} comes {position}, where {variant} has {expected[place]}"


def _one(layer: Layer, name: str, default: Any) -> Any:
    values = set(layer.parameters.get(name, ()))
    return values.pop() if len(values) == 1 else ("several numbers" if values else default)


def _dropout_ratio(layer: Layer) -> Any:
    return _one(layer, "dropout_ratio", 0.5)  # Caffe's default


def _differences(layer: Layer, number: int | None) -> list[str]:
    """How the description of the `number`-th layer of its type differs from our variants."""
    stated = layer.parameters
    if layer.type == "Convolution" and f"conv{number}" not in _PLACES:
        return []  # there are too many
    expected: dict[str, tuple[float, float | None]]  # ours, and what none stated is
    if layer.type == "LRN":
        expected = {
            "local_size": (5, 5),
            "alpha": (1e-4, 1.0),
            "beta": (BETA, 0.75),
            "norm_region": (0, 0),
            "k": (1.0, 1.0),
        }
    elif layer.type == "ReLU":
        expected = {"negative_slope": (0.0, 0.0)}
    elif layer.type == "Dropout":
        expected = {
            "scale_train": (1, 1),
            "dropout_ratio": (_dropout_ratio(layer),) * 2,
        }
    elif layer.type == "InnerProduct":
        expected = {"bias_term": (1, 1), "axis": (1, 1), "transpose": (0, 0)}
    elif layer.type in ("Convolution", "Pooling") and stated:  # a size has no default there
        pool = layer.type == "Pooling"
        kernel, stride, pad, group = (3, 2, 0, 1) if pool else _PLACES[f"conv{number}"]
        expected = (
            {"pool": (0, 0), "global_pooling": (0, 0)}
            if pool
            else {"group": (group, 1), "bias_term": (1, 1), "axis": (1, 1), "dilation": (1, 1)}
        )
        for name, value, default in (
            ("kernel", kernel, None),
            ("stride", stride, 1),
            ("pad", pad, 0),
        ):
            whole = "kernel_size" if name == "kernel" else name
            for one in [f"{name}_h", f"{name}_w"] if f"{name}_h" in stated else [whole]:
                expected[one] = value, default
    else:
        return []
    wrong = [
        f"{layer.name} has a {name.replace('field', 'parameter')} that is not known here"
        for name in stated
        if name.startswith("field")
    ]
    stray = stated.keys() - expected.keys() - {name for name in stated if name.startswith("field")}
    wrong += [f"{layer.name} also has {name}" for name in sorted(stray)]
    for name, (ours, usual) in expected.items():
        found = _one(layer, name, usual)
        same = isinstance(found, int | float) and np.isclose(found, ours, rtol=1e-5)
        if not same:
            shown = "none" if found is None else found if isinstance(found, str) else f"{found:.6g}"
            wrong.append(f"{layer.name} has {name} {shown} instead of {ours:g}")
    return wrong


def _told_of_pictures(sources: Sequence[Layer]) -> tuple[dict[str, tuple], list[str]]:
    """({parameter: values}, what is wrong) of the layers that read pictures, which must agree."""
    told: dict[str, tuple] = {}
    wrong = []
    for layer in sources:
        for name, values in layer.parameters.items():
            if not values and name != "shape":
                wrong.append(f"{layer.name} has {name} without a number")
            elif (
                name.startswith("field")
                or name in ("force_gray", "is_color")
                and values[-1] != (name == "is_color")
            ):
                wrong.append(f"{layer.name} has {name.replace('field', 'parameter')} {values[-1]}")
            elif told.setdefault(name, values) != values:
                wrong.append(f"{layer.name} has {name} {values}, but another layer {told[name]}")
    if any(layer.type in ("Data", "ImageData", "MemoryData") for layer in sources):
        told["reads"] = ()  # as Caffe does: what is not stated is 1 and 0
    for name, expected in (("channels", 3), ("height", 227), ("width", 227)):
        if name in told and told[name][-1] != expected:
            wrong.append(f"its pictures have {name} {told[name][-1]} instead of {expected}")
    if "shape" in told and told["shape"] and told["shape"][1:] != (3, 227, 227):
        wrong.append(f"its input is {told['shape']} instead of (N, 3, 227, 227)")
    scale = told.get("scale", (1.0,))
    if len(set(scale)) > 1 or not 1e-6 < scale[0] < 1e6:
        wrong.append(f"its pixels are multiplied by {listed(scale)}")
    if len(told.get("mean_value", (0.0,))) not in (1, 3) or not all(
        abs(level) < 1e6 for level in told.get("mean_value", ())
    ):
        wrong.append(f"it has {len(told['mean_value'])} mean values for 3 channels")
    if told.get("crop_size", (0,))[-1] not in (0, 227):
        wrong.append(f"crop_size is {told['crop_size'][-1]} instead of 227")
    return told, wrong
