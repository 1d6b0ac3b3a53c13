"""What is said of a network besides its arrays, above all of its pixels: by users, in `Stated`, and
by the files themselves.

Our networks read RGB in 0..255, less a mean per channel, over one scalar. What other networks
expect instead is folded into the kernel of conv1, exactly: zeros that pad the input are zeros in
both.
"""

import dataclasses
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from alexnet_tf.bounds import LARGEST_RESIZE
from alexnet_tf.errors import UserError
from alexnet_tf.network.model import VARIANTS
from alexnet_tf.pixels import Preprocessing
from alexnet_tf.weights.contents import PIXEL_LEVELS, Weights
from alexnet_tf.weights.layouts import Layers


@dataclasses.dataclass(frozen=True)
class Stated:
    """What a user says of a file, which must not contradict it; None for what the file says."""

    variant: str | None = None  # "caffe" or "caffenet", which have the same arrays
    mean: tuple | None = None  # one level of 0..255 for all channels, or one each, as read there
    std: tuple | None = None  # likewise; the difference is divided by it
    resize: int | None = None  # the shorter side of a picture before cropping, in pixels
    channel_order: str | None = None  # "rgb" or "bgr", as the network reads its pixels
    weights: str | None = None  # "model", "ema", or the prefix of one of several networks

    def __post_init__(self) -> None:
        """Raises UserError for levels of 0..1, an easy mistake, and for impossible ones."""
        for name, values in (("mean", self.mean), ("std", self.std)):
            text = f"{name}={listed(values or ())}"
            if values is None:
                continue
            if len(values) not in (1, 3) or not all(abs(value) < 1e6 for value in values):
                raise no_levels(text)
            small = name == "std" and max(values) < 1 or name == "mean" and 0 < max(values) <= 1
            if small and min(values) >= 0:
                raise UserError(
                    f"{text}: give levels of 0..255, {listed(255 * v for v in values)} for these."
                )
            if name == "std" and min(values) <= 0:
                raise UserError(f"{text}: pixels are divided by it; give positive numbers.")


def no_levels(told: str) -> UserError:
    """What to raise for levels that were `told` as name=values, and are none."""
    return UserError(f"{told}: give one number, or three separated by commas.")


def listed(values: Iterable[float]) -> str:
    return ",".join(f"{value:.6g}" for value in values)


def levels(shares: Iterable[float]) -> tuple[float, ...]:
    """In 0..255, of numbers in 0..1."""
    return tuple(255 * share for share in shares)


def settle(
    parameter: str, stated: Any, told: Any, name: str | os.PathLike, default: Any = None
) -> Any:
    """What the user or the file says, or `default`. Raises UserError if they contradict."""
    if None not in (stated, told) and not np.allclose(stated, told, rtol=1e-4):
        said, tells = (listed(np.atleast_1d(value)) for value in (stated, told))
        raise UserError(f"{parameter}={said}, but {name} says {tells}; leave {parameter}= out.")
    return next((value for value in (stated, told) if value is not None), default)


def settle_order(stated: Stated, usual: str, is_known: bool, name: str | os.PathLike) -> str:
    """The order of the channels that a network reads: the `usual` one, which a file that `is_known`
    has, or what the user says. Raises UserError if they contradict.
    """
    if is_known and stated.channel_order not in (None, usual):
        raise UserError(
            f"channel_order={stated.channel_order}, but {name} reads {usual}; leave channel_order= "
            "out."
        )
    return stated.channel_order or usual


def told_of_pixels(weights: Weights, prefix: str, name: str | os.PathLike, needed: bool) -> tuple:
    """(mean, deviation) of pixels in 0..1, each a tuple of three, if a training's file states them
    beside the network; else (None, None).

    The file may state them for 0..255. Raises UserError if they fit neither range, or if it states
    several, and they are `needed`.
    """
    numbers = weights.triples | {
        key: tuple(array.astype(float).flat)
        for key, array in weights.arrays.items()
        if array.size == 3 and array.dtype.kind in "iuf"
    }
    beside = {
        key.lower(): triple
        for key, triple in numbers.items()
        if PIXEL_LEVELS.search(key) and not (prefix and key.startswith(prefix))
    }
    pairs = {
        (mean, beside[of_std])
        for key, mean in beside.items()
        if key.endswith("mean") and (of_std := f"{key.removesuffix('mean')}std") in beside
    }
    if len(pairs) > 1 and needed:
        means = " and ".join(f"({listed(mean)})" for mean, _ in sorted(pairs))
        raise UserError(
            f"{name} says in {len(pairs)} places what its pixels are, each time something else:"
            f" the means {means}; pass mean= and std=."
        )
    if len(pairs) != 1:
        return None, None
    ((mean, std),) = pairs
    most = 1
    if max(mean) > 1 or not any(mean) and max(std) > 1:  # less 0 over 255
        most = 255
    if 0 <= min(mean) <= max(mean) <= most and 0 < min(std) <= max(std) <= most:
        return tuple(tuple(number / most for number in numbers) for numbers in (mean, std))
    if not needed:
        return None, None
    raise UserError(
        f"{name} says that its pixels have the mean ({listed(mean)}) and the std ({listed(std)}), "
        "which fit neither 0..1 nor 0..255; pass mean= and std=."
    )


def as_it_says(told: tuple, name: str | os.PathLike) -> list[str]:
    """[a line on the mean and the deviation that a training's file says], or []."""
    if None in told:
        return []
    less, over = (", ".join(f"{share:g}" for share in shares) for shares in told)
    return [f"{name} says that its pixels, in 0..1, have the mean ({less}) and the std ({over})."]


def assumed(
    name: str | os.PathLike, whose: str, order: str, mean: Sequence[float], std: Sequence[float]
) -> str:
    """The line on pixels that are taken to be as in "Caffe's examples", in this order."""
    return (
        f"{name} does not say what its pixels are; assumed, as in {whose}: {order.upper()} minus "
        f"{listed(mean)}, divided by {listed(std)}. If that is wrong, pass mean=, std= or "
        "channel_order=."
    )


def fold_pixels(
    variant: str,
    layers: Layers,
    mean: Sequence[float],
    std: Sequence[float],
    resize: int,
    order: str,
    name: str | os.PathLike,
) -> tuple[Layers, Preprocessing]:
    """(the layers, with conv1 for RGB, Preprocessing) for a network that reads its channels in
    `order`, "rgb" or "bgr", less `mean` and over `std`, each one number or three.

    A deviation for each channel becomes the variant's one: conv1 takes the ratio.
    """
    row, (kernel, bias) = VARIANTS[variant], layers["conv1"]
    mean, std = (tuple(np.broadcast_to(np.array(values, float), 3)) for values in (mean, std))
    if order == "bgr":
        kernel, mean, std = kernel[:, :, ::-1], mean[::-1], std[::-1]
    if len(set(std)) > 1:
        kernel = (kernel * (row["std"] / np.array(std))[:, None]).astype(np.float32)
        std = (row["std"],)
    if not row["image_size"] <= resize <= LARGEST_RESIZE:
        raise UserError(
            f"resize={resize}: {name} reads {row['image_size']} x {row['image_size']} pixels; "
            f"give a number from {row['image_size']} to {LARGEST_RESIZE}."
        )
    pixels = Preprocessing(row["image_size"], resize, row["channels"], mean, float(std[0]))
    return layers | {"conv1": (kernel, bias)}, pixels
