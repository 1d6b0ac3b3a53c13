"""The layout of torchvision's AlexNet, of one tower, and of its convolutions alone in Flax."""

import os
import re
from collections.abc import Sequence

from alexnet_tf.errors import UserError
from alexnet_tf.network.model import VARIANTS, projection_name
from alexnet_tf.weights.converted import (
    Arrays,
    Converted,
    Layers,
    Stated,
    as_it_says,
    layers_of,
    levels,
    listed,
    order_of,
    pixels_of,
    settle,
    told_of_pixels,
)
from alexnet_tf.weights.formats import Weights
from alexnet_tf.weights.published import Published
from alexnet_tf.weights.state_dicts import choose, told_passed_over

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
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


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
    told: tuple = (_MEAN, _STD)
    if not known:
        told = told_of_pixels(weights, prefix, name, None in (stated.mean, stated.std))
        notes += as_it_says(told, name)
    mean, std = (
        settle(parameter, of_user, of_file and levels(of_file), name)
        for parameter, of_user, of_file in zip(("mean", "std"), (stated.mean, stated.std), told)
    )
    order = order_of(stated, "rgb", bool(known), name)
    if mean is None or std is None:
        usual = levels(_MEAN), levels(_STD)
        if order == "bgr":
            usual = usual[0][::-1], usual[1][::-1]
        mean, std = mean or usual[0], std or usual[1]
        notes.append(
            f"{name} does not say what its pixels are; assumed, as torchvision has them: "
            f"{order.upper()} less {listed(mean)} over {listed(std)}. Where that is wrong, pass "
            "mean=, std= or channel_order=."
        )
    resize = stated.resize or VARIANTS["one_weird_trick"]["resize"]
    kernel, pixels = pixels_of(
        "one_weird_trick",
        layers["conv1"][0],
        mean,
        std,
        resize,
        order,
        name,
    )
    layers["conv1"] = kernel, layers["conv1"][1]
    return Converted("one_weird_trick", _by_path(layers), pixels, notes=tuple(notes))


def from_flax(
    weights: Weights, arrays: Arrays, prefixes: list[str], name: str | os.PathLike, stated: Stated
) -> Converted:
    """The convolutions of torchvision's network as LPIPS uses them: they read normalised pixels."""
    for parameter in ("variant", "weights"):
        if given := getattr(stated, parameter):
            raise UserError(
                f"{parameter}={given}, but {name} holds torchvision's convolutions alone; leave "
                f"{parameter}= out."
            )
    prefix = prefixes[0]
    parts = {
        f"conv{number + 1}": [f"{prefix}Conv_{number}.{part}" for part in ("kernel", "bias")]
        for number in range(5)
    }
    shapes = {layer: _ONE_TOWER[layer] for layer in parts}
    layers = layers_of(arrays, parts, shapes, name, outputs_first=False)
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
            f"{', '.join(strange)[:200]}; no variant computes with it."
        )
    variant = "one_weird_trick_pool5"
    mean, std = (
        settle(flag, of_user, tuple(255 * level for level in usual), name)
        for flag, of_user, usual in (
            ("mean", stated.mean, _MEAN),
            ("std", stated.std, _STD),
        )
    )
    resize = stated.resize or VARIANTS[variant]["resize"]
    order = order_of(stated, "rgb", True, name)
    kernel, pixels = pixels_of(variant, layers["conv1"][0], mean, std, resize, order, name)
    layers["conv1"] = kernel, layers["conv1"][1]
    return Converted(variant, _by_path(layers), pixels, missing=(projection_name(variant),))


def _by_path(layers: Layers) -> Arrays:
    return {
        f"{layer}/{part}": array
        for layer, pair in layers.items()
        for part, array in zip(("kernel", "bias"), pair)
    }


def _parts(arrays: Arrays, prefix: str, name: str | os.PathLike) -> tuple[Layers, set[str]]:
    """({layer: (kernel, bias)}, the names of these arrays)."""
    classifier: Sequence[str] = sorted(
        {
            ".".join(key.removeprefix(prefix).split(".")[1:-1])
            for key in arrays
            if key.startswith(f"{prefix}classifier.")
        },
        key=_natural,
    )
    # A last layer that was put into a Sequential, as classifier.6.1, is one still.
    firsts = tuple(place.split(".")[0] for place in classifier)
    if len(firsts) < 3:
        classifier = _CLASSIFIERS[0]  # of which some are missing
    elif firsts not in _CLASSIFIERS or any("." in place for place in classifier[:2]):
        listed = ", ".join(f"classifier.{place}" for place in classifier[:5]) or "none"
        raise UserError(
            f"{name} has its fully connected layers in other places than an AlexNet of "
            f"torchvision (classifier.1, 4 and 6; or 0, 3 and 6): {listed}."
        )
    places = _NAMES | {
        layer: f"classifier.{place}" for layer, place in zip(("fc6", "fc7", "fc8"), classifier)
    }
    parts = {
        layer: [f"{prefix}{place}.{part}" for part in ("weight", "bias")]
        for layer, place in places.items()
    }
    return layers_of(arrays, parts, _ONE_TOWER, name), {
        key for pair in parts.values() for key in pair
    }


def _natural(key: str) -> list[tuple[bool, int | str]]:
    return [(part.isdecimal(), int(part) if part.isdecimal() else part) for part in key.split(".")]
