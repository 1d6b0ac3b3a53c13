"""The weights of others onto our variants, whichever program trained them.

What their layers are described as is compared with our variants. What no file says, `Stated` does.
"""

import dataclasses
import os
import re
from collections.abc import Iterable

from alexnet_tf.errors import UserError
from alexnet_tf.weights.caffe import KERNELS, from_caffe
from alexnet_tf.weights.contents import WHOLE_MODULE, Weights
from alexnet_tf.weights.layouts import Converted
from alexnet_tf.weights.published import Published
from alexnet_tf.weights.state_dicts import unwrapped, without_wrappers
from alexnet_tf.weights.statements import Stated
from alexnet_tf.weights.torchvision import from_flax, from_torchvision


def convert(
    weights: Weights,
    name: str | os.PathLike,
    stated: Stated | None = None,
    known: Published | None = None,
) -> Converted:
    """The `Converted` network in `weights`, those of a file called `name`.

    `stated` is what the user says of it. A file that is `known` by its digest is what was
    published, and is not compared with anything. Raises UserError for weights that are not those
    of one of our AlexNets, whole, finite and alone, and for a description that differs from ours.
    """
    stated = stated or Stated()
    arrays = without_wrappers(weights.arrays, name)
    if prefixes := _prefixes(arrays, r"(|.*\.)features\.0\.weight"):
        if stated.variant:
            raise UserError(
                f"variant={stated.variant}, but {name} holds torchvision's network of one tower; "
                "omit variant=."
            )
        return from_torchvision(weights, arrays, prefixes, name, stated, known)
    if prefixes := _prefixes(arrays, r"((?:|.*\.)AlexNet_\d+\.)Conv_0\.kernel"):
        return from_flax(weights, arrays, prefixes, name, stated)
    prefixes = _prefixes(arrays, rf"(|.*\.)conv1\.(?:{'|'.join(sorted(KERNELS))})")
    if prefixes or weights.layers:
        if stated.weights and not any(prefixes):
            raise UserError(
                f"weights={stated.weights}, but {name} holds one network; omit weights=."
            )
        notes: list[str] = []
        if any(prefixes):
            weights, arrays, notes = unwrapped(weights, arrays, prefixes, stated.weights, name)
        converted = from_caffe(weights, arrays, name, stated, known)
        return dataclasses.replace(converted, notes=(*notes, *converted.notes))
    if weights.module:
        raise UserError(f"{name} holds {WHOLE_MODULE.format(weights.module)}.")
    first = ", ".join(repr(key[:40]) for key in list(arrays)[:3]) or "nothing"
    raise UserError(
        f"{name} holds neither an AlexNet of Caffe (conv1 to fc8) nor one of torchvision"
        f" (features.0.weight to classifier.6.bias), but {first}{' and so on' * (len(arrays) > 3)}."
    )


def _prefixes(names: Iterable[str], pattern: str) -> list[str]:
    """What the first group of `pattern` is in each of `names` that it fits as a whole."""
    return [found[1] for name in names if (found := re.fullmatch(pattern, name, re.DOTALL))]
