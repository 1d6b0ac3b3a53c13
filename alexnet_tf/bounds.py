"""What is checked of texts that may come from anywhere, settings and manifests, and of arguments
from Python, before anything is built or opened because of them: without TensorFlow and Keras.
"""

import dataclasses
import json
import math
import numbers
import operator
import re
import reprlib
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np

from alexnet_tf.errors import UserError, one_line
from alexnet_tf.pixels import Preprocessing

# What tells of a network beside its weights, in each format that it is exported in.
MANIFEST, LABELS = "manifest.json", "labels.txt"
LARGEST_WHOLE = 2**31 - 1  # of a number that is counted, and of a seed: an int32
LARGEST_RESIZE = 8192  # pixels: a longer shorter side than any picture that is read has
_LARGEST_TEXT = 2**23  # bytes
_LONGEST_NAME = 255  # characters
_LARGEST_NUMBER = 1e6  # of a mean or a deviation
GO_BACK = "go back to a checkpoint from before, or train again with a lower learning_rate."
NOT_FINITE = f"a layer's output is not finite; {GO_BACK}"
# Categories of Unicode that end a line of LABELS, act on a terminal, or cannot be written.
_NOT_IN_NAMES = {"Cc", "Cs", "Zl", "Zp"}


def is_one_line(name: str) -> bool:
    """Whether `name` can be written as a line of its own. A non-breaking space may be in it, and
    what joins or parts letters, as Persian and Hindi need it.
    """
    return all(unicodedata.category(character) not in _NOT_IN_NAMES for character in name)


def plain(name: str) -> str:
    """The name of a class or a split as names are compared: one Unicode form (NFC), no byte-order
    mark, no blanks around it.
    """
    return unicodedata.normalize("NFC", name.replace("\ufeff", "")).strip()


def check_class_names(names: Sequence[str]) -> None:
    """Raises ValueError unless `names` are two or more different names, each of one line that can
    be written.
    """
    if len(names) < 2:
        raise ValueError(f"{len(names)} class names: a classifier needs two classes or more")
    places: dict[str, int] = {}
    for place, name in enumerate(names):
        expect(str, name, "a class name")
        if not plain(name) or len(name) > _LONGEST_NAME:
            raise ValueError(
                f"the class name {shown(name)} is empty or longer than {_LONGEST_NAME} characters"
            )
        if not is_one_line(name):
            raise ValueError(
                f"the class name {shown(name)} holds a control character or a line break"
            )
        if (first := places.setdefault(plain(name), place)) != place:
            raise ValueError(
                f"the class name {shown(name)} is given to two outputs, {first} and {place}; give"
                " each a name of its own"
            )


def parse(text: bytes | str) -> Any:
    """What the JSON `text` of anybody's file holds. Raises ValueError for other text, and for more
    than settings ever need.
    """
    if len(text) > _LARGEST_TEXT:
        raise ValueError(
            f"{len(text):,} bytes of settings; more than {_LARGEST_TEXT:,} are never needed"
        )
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("settings that are nested too deeply") from None


def preprocessing(value: Any) -> Preprocessing:
    """The Preprocessing that is stored as `value`; `check_pixels` is to be told what network it is
    for. Raises ValueError for what is none.
    """
    expect(dict, value, "preprocessing")
    fields = {field.name: field for field in dataclasses.fields(Preprocessing)}
    for name in value.keys() - fields.keys():
        raise ValueError(f"preprocessing has no entry {shown(name)}")
    for name, field in fields.items():
        if name not in value and field.default is dataclasses.MISSING:
            raise ValueError(f"preprocessing lacks {name}")
    check_numbers(value["mean"], "mean")
    pca = value.get("colour_pca")
    if pca is not None:
        for row in expect(list | tuple, pca, "colour_pca"):
            check_numbers(row, "a row of colour_pca")
    return Preprocessing(**value)


def check_pixels(pixels: Preprocessing, channels: int | None = None, smallest: int = 1) -> None:
    """Raises ValueError unless `pixels` make sense for a network of so many `channels`, None: 1 or
    3, whose `smallest` image has that many pixels a side.
    """
    if channels is None:  # decoded pictures are grey or RGB
        channels = 1 if pixels.channels == 1 else 3
    for name, least, most in (
        ("image_size", smallest, LARGEST_RESIZE),
        ("channels", channels, channels),
    ):
        check_integer(getattr(pixels, name), name, least, most)
    check_integer(pixels.resize, "resize", pixels.image_size, LARGEST_RESIZE)
    if len(pixels.mean) != channels:
        raise ValueError(f"mean has {len(pixels.mean)} numbers for {channels} channels")
    check_numbers(pixels.mean, "mean")
    if not is_number(pixels.std) or not 1 / _LARGEST_NUMBER <= pixels.std <= _LARGEST_NUMBER:
        raise ValueError(f"std is {shown(pixels.std)}, not a positive number")
    expect(bool, pixels.noise_divides, "noise_divides")
    if pixels.colour_pca is not None:
        if [len(row) for row in pixels.colour_pca] != [channels] * channels:
            raise ValueError(f"colour_pca is not {channels} rows of {channels} numbers")
        for row in pixels.colour_pca:
            check_numbers(row, "a row of colour_pca")


def check_integer(value: Any, name: str, least: int, most: int) -> None:
    """Raises ValueError unless it is a whole number in least..most."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        bounds = f"{least}" if least == most else f"a whole number from {least} to {most}"
        raise ValueError(f"{name} is {shown(value)}, not {bounds}")


def check_numbers(values: Any, name: str) -> None:
    """Raises ValueError unless it is a list of numbers that pixels may need."""
    for number in expect(list | tuple, values, name):
        if not is_number(number) or abs(number) > _LARGEST_NUMBER:
            raise ValueError(f"{name} holds {shown(number)}, which is impossible for pixels")


def is_number(value: Any) -> bool:
    """Whether it is a finite number; True and False are not."""
    return (
        isinstance(value, float)
        and math.isfinite(value)
        or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63)
    )


def expect(kind: Any, value: Any, name: str) -> Any:
    """`value`. Raises ValueError unless it is of the type `kind`."""
    if not isinstance(value, kind):
        raise ValueError(f"{name} is {shown(value)}, of the type {type(value).__name__}")
    return value


def shown(value: Any) -> str:
    """A value of any size and kind in a few characters of one line."""
    if isinstance(value, dict | list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, int) and abs(value) >= 2**63:
        return "a huge number"
    return ascii(value[:40] if isinstance(value, str) else value)


def address(text: str) -> tuple[str, int]:
    """(host, port) of host:port or [IPv6]:port. Raises ValueError for other text: systems turn an
    impossible port into another one.
    """
    form = re.fullmatch(r"(\[[0-9A-Fa-f:.%]+\]|[\w.-]+):([0-9]{1,5})", text)
    if not form or not 0 < int(form[2]) < 2**16:
        raise ValueError(
            f"{shown(text)} is not host:port or [IPv6]:port, with a port from 1 to 65535"
        )
    return form[1].strip("[]"), int(form[2])


def check_share(value: Any, name: str) -> None:
    """Raises ValueError unless it is a number in 0..1."""
    if not is_number(value) or not 0 <= value <= 1:
        raise ValueError(f"{name} is {shown(value)}, not in 0..1")


# Arguments from Python: UserError, with the name of the argument. NumPy's numbers are numbers.


def check_one_of(value: Any, name: str, known: Collection[str]) -> None:
    """Raises UserError unless `value` is one of those that are `known`."""
    if not isinstance(value, str) or value not in known:
        raise UserError(f"{name}={value} is unknown; use one of {', '.join(known)}.")


def whole(value: Any, name: str, least: int = 0, most: int = LARGEST_WHOLE) -> int:
    """`value` as an int. Raises UserError unless it is a whole number in least..most."""
    try:
        found = least - 1 if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        found = least - 1
    if not least <= found <= most:
        bounded = most < LARGEST_WHOLE or found > most
        bounds = f"from {least} to {most}" if bounded else f"of {least} or more"
        raise UserError(f"{name}={reprlib.repr(value)}: pass a whole number {bounds}.")
    return found


def check_number(value: float, name: str) -> None:
    """Raises UserError for NaN and infinity."""
    if not math.isfinite(value):
        raise UserError(f"{name}={value} is not a finite number; pass one, or omit it.")


def number(value: Any, name: str, below: float = math.inf) -> float:
    """`value` as a float. Raises UserError unless it is finite, 0 or more, and less than
    `below`.
    """
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise UserError(f"{name}={reprlib.repr(value)}: pass a number.")
    found = float(value)
    check_number(found, name)
    if not 0 <= found < below:
        range_of = "of 0 or more" if below == math.inf else f"from 0 to below {below:g}"
        raise UserError(f"{name}={value}: pass a number {range_of}.")
    return found


def in_order(values: Any, name: str) -> tuple:
    """`values`, one for each class, as a tuple. Raises UserError for a set or a dict, whose order
    need not be that of the classes, and for a string, which is one value.
    """
    if isinstance(values, str | bytes):
        raise UserError(f"{name}={values!r} is one string; pass a list.")
    if isinstance(values, Set | Mapping):
        raise UserError(f"{name}= is a {type(values).__name__}, but the order counts; pass a list.")
    return tuple(values)


def check_finite(weights: Iterable[tuple[str, Any]]) -> None:
    """Raises UserError if one of `weights`, arrays or variables with their names, several of which
    may be the same, holds a number that is not finite. A network of such weights would answer
    nevertheless, because a pool takes NaN for the smallest of all numbers.
    """
    for name, weight in weights:
        if not np.isfinite(np.asarray(weight)).all():
            raise UserError(f"{name} holds a number that is not finite; {GO_BACK}")


def check_single_precision(weights: Mapping[str, Any]) -> None:
    """Raises UserError for one of `weights`, variables, in float64: what is exported computes in
    float32.
    """
    for name, weight in weights.items():
        if "float64" in str(weight.dtype):
            raise UserError(
                f"{name} is in float64, but exports compute in float32; open or build the network"
                " again after keras.config.set_floatx('float32')."
            )


def check_trained(name: str, weight: np.ndarray) -> None:
    """Raises ValueError for a kernel, of two dimensions or more, all of whose numbers are one."""
    if weight.ndim > 1 and weight.min() == weight.max():
        raise ValueError(f"all of {name} is {weight.flat[0]:g}: it was never trained")


def array(value: Any, name: str) -> np.ndarray:
    """`value` as an array. Raises UserError for rows of several lengths, which are none."""
    try:
        return np.asarray(value)
    except ValueError as error:
        raise UserError(f"{name}= is not an array ({one_line(error)}).") from None


def check_images(images: np.ndarray, pixels: Preprocessing) -> None:
    """Raises UserError unless `images` are [n, image_size, image_size, channels], one or more, of
    levels of 0..255; NaN and infinity may be among them.
    """
    shape = (pixels.image_size, pixels.image_size, pixels.channels)
    if images.ndim != 4 or images.shape[1:] != shape or not len(images):
        raise UserError(
            f"The images have the shape {images.shape}; pass (n, {', '.join(map(str, shape))}), "
            "as prepare makes them; for one image, image[None]."
        )
    if images.dtype.kind not in "uif":
        raise UserError(f"The images are of {images.dtype}; pass levels of 0..255, such as uint8.")
    if strange := strange_levels(images):
        raise UserError(
            f"The images hold {strange}; pass levels of 0..255, as prepare makes them: the network "
            "subtracts its mean itself."
        )


def strange_levels(images: np.ndarray) -> str:
    """The numbers of the first of `images` [n, s, s, c], one or more, in words, that cannot be
    levels of 0..255, as of one of which a mean was subtracted or that was divided by 255; else "".

    Levels of 0..1 that are whole, in floating point, are those of a picture that is nearly black
    where another of the images has more than 1. What holds NaN or infinity is not judged.
    """
    if images.dtype == np.uint8:  # holds nothing else
        return ""
    rows = images.reshape(len(images), -1)
    low, high = rows.min(1), rows.max(1)  # NaN where there is one
    finite = np.isfinite(low) & np.isfinite(high)
    strange = finite & ((low < 0) | (high > 255))
    if images.dtype.kind == "f":
        dim = finite & (low >= 0) & (high > 0) & (high <= 1)
        whole = np.array([not (row % 1).any() for row in images[dim]], bool)
        strange[dim] = ~whole | (high[finite] <= 1).all()
    if not strange.any():
        return ""
    first = int(strange.argmax())
    where = f" in image {first}" if len(images) > 1 else ""
    return f"numbers from {low[first]:.4g} to {high[first]:.4g}{where}"
