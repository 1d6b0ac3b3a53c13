"""AlexNet of torchvision, the network of one tower, onto our variants; and its convolutions alone,
as programs of Flax store them.
"""

import os
import re
from collections.abc import Sequence

from alexnet_tf.errors import UserError
from alexnet_tf.network.model import VARIANTS, projection_name
from alexnet_tf.weights.contents import Weights
from alexnet_tf.weights.layouts import Arrays, Converted, Layers, read_layers
from alexnet_tf.weights.published import Published
from alexnet_tf.weights.state_dicts import choose, told_passed_over
from alexnet_tf.weights.statements import (
    Stated,
    as_it_says,
    assumed,
    fold_pixels,
    levels,
    settle,
    settle_order,
    told_of_pixels,
)

# Kernels as they are stored: [outputs, inputs, height, width] and [outputs, inputs].
_ONE_TOWER = {
    "conv1": (64, 3, 11, 11),
    "conv2": (192, 64, 5, 5),
    "conv3": (384, 192, 3, 3),
    "conv4": (256, 384, 3, 3),
    "conv5": (256, 256, 3, 3),
    "fc6": (4096, 9216),
    "fc7": (4096, 4096),
    "fc8": (None, 4096),
}
_NAMES = {
    "conv1": "features.0",
    "conv2": "features.3",
    "conv3": "features.6",
    "conv4": "features.8",
    "conv5": "features.10",
}
# Where the three projections stand among dropout, which has no weights, and ReLU.
_CLASSIFIERS = ("1", "4", "6"), ("0", "3", "6"), ("0", "2", "4")
# torchvision.transforms: Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]) of RGB in
# 0..1.
_PIXELS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def from_torchvision(
    weights: Weights,
    arrays: Arrays,
    prefixes: list[str],
    name: str | os.PathLike,
    stated: Stated,
    known: Published | None,
) -> Converted:
    prefix, notes = choose(prefixes, stated.weights, name)
    layers, parts = _parts(arrays, prefix, name)
    notes += told_passed_over(weights, arrays, parts, prefix, prefixes, name)
    told: tuple = _PIXELS
    if not known:
        told = told_of_pixels(weights, prefix, name, None in (stated.mean, stated.std))
        notes += as_it_says(told, name)
    mean, std = _settle_pixels(stated, told, name)
    order = settle_order(stated, "rgb", bool(known), name)
    if mean is None or std is None:
        usual = [levels(shares if order == "rgb" else shares[::-1]) for shares in _PIXELS]
        mean, std = mean or usual[0], std or usual[1]
        notes.append(assumed(name, "torchvision", order, mean, std))
    variant = "one_weird_trick" if "fc8" in layers else "one_weird_trick_pool5"
    missing = () if "fc8" in layers else (projection_name(variant),)
    resize = stated.resize or VARIANTS[variant]["resize"]
    layers, pixels = fold_pixels(variant, layers, mean, std, resize, order, name)
    return Converted(variant, _by_path(layers), pixels, notes=tuple(notes), missing=missing)


def _settle_pixels(stated: Stated, told: tuple, name: str | os.PathLike) -> list:
    """[mean, std] in 0..255, as the user says or as `told` of 0..1; None for what nobody says."""
    return [
        settle(parameter, getattr(stated, parameter), shares and levels(shares), name)
        for parameter, shares in zip(("mean", "std"), told)
    ]


def _parts(arrays: Arrays, prefix: str, name: str | os.PathLike) -> tuple[Layers, set[str]]:
    """({layer: (kernel, bias)}, the names of these arrays): of the convolutions alone, where the
    file has nothing else of the network.
    """
    classifier: Sequence[str] = sorted(
        {
            ".".join(key.removeprefix(prefix).split(".")[1:-1])
            for key in arrays
            if key.startswith(f"{prefix}classifier.")
        },
        key=_natural,
    )
    # A last layer that was put into a Sequential, as classifier.6.1, still is the last layer.
    firsts = tuple(place.split(".")[0] for place in classifier)
    if len(firsts) < 3:
        classifier = _CLASSIFIERS[0]  # of which some are missing
    elif firsts not in _CLASSIFIERS or any("." in place for place in classifier[:2]):
        there = ", ".join(f"classifier.{place}" for place in classifier[:5]) or "none"
        raise UserError(
            f"{name} has its fully connected layers in other places than an AlexNet of "
            f"torchvision (classifier.1, 4 and 6; or 0, 3 and 6): {there}."
        )
    places = dict(_NAMES)
    if firsts:
        places |= {
            layer: f"classifier.{place}" for layer, place in zip(("fc6", "fc7", "fc8"), classifier)
        }
    parts = {
        layer: [f"{prefix}{place}.{part}" for part in ("weight", "bias")]
        for layer, place in places.items()
    }
    return read_layers(arrays, parts, _ONE_TOWER, name), {
        key for pair in parts.values() for key in pair
    }


def _natural(key: str) -> list[tuple[bool, int | str]]:
    return [(part.isdecimal(), int(part) if part.isdecimal() else part) for part in key.split(".")]


def from_flax(
    weights: Weights, arrays: Arrays, prefixes: list[str], name: str | os.PathLike, stated: Stated
) -> Converted:
    """The convolutions of torchvision's network as LPIPS uses them: they read normalised pixels."""
    for parameter in ("variant", "weights"):
        if given := getattr(stated, parameter):
            raise UserError(
                f"{parameter}={given}, but {name} holds only torchvision's convolutions; leave "
                f"{parameter}= out."
            )
    prefix = prefixes[0]
    parts = {
        f"conv{number + 1}": [f"{prefix}Conv_{number}.{part}" for part in ("kernel", "bias")]
        for number in range(5)
    }
    shapes = {layer: _ONE_TOWER[layer] for layer in parts}
    layers = read_layers(arrays, parts, shapes, name, outputs_first=False)
    beside = arrays.keys() - {key for pair in parts.values() for key in pair}
    strange = sorted(
        key
        for key in [*beside, *weights.unreadable]
        # what LPIPS weighs their differences by
        if not re.match(r"NetLinLayer_\d\.", key)
    )
    if strange:
        raise UserError(
            f"{name} holds more than the convolutions of an AlexNet: "
            f"{', '.join(strange)[:200]}; no variant uses it."
        )
    variant = "one_weird_trick_pool5"
    mean, std = _settle_pixels(stated, _PIXELS, name)
    resize = stated.resize or VARIANTS[variant]["resize"]
    order = settle_order(stated, "rgb", True, name)
    layers, pixels = fold_pixels(variant, layers, mean, std, resize, order, name)
    return Converted(variant, _by_path(layers), pixels, missing=(projection_name(variant),))


def _by_path(layers: Layers) -> Arrays:
    return {
        f"{layer}/{part}": array
        for layer, pair in layers.items()
        for part, array in zip(("kernel", "bias"), pair)
    }
