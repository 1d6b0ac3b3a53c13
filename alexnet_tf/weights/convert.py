"""Weights of others onto our variants: all of a file finds its place, or the file is refused."""

import dataclasses
import os
import re

from alexnet_tf.errors import UserError
from alexnet_tf.weights import caffe, state_dicts, torchvision
from alexnet_tf.weights.converted import Converted, Stated
from alexnet_tf.weights.formats import WHOLE_MODULE, Weights
from alexnet_tf.weights.published import Published


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
    arrays = state_dicts.without_wrappers(weights.arrays, name)
    prefixes = [
        key.removesuffix("features.0.weight")
        for key in arrays
        if re.search(r"(^|\.)features\.0\.weight$", key)
    ]
    if prefixes:
        if stated.variant:
            raise UserError(
                f"variant={stated.variant}, but {name} holds torchvision's network of one tower; "
                "leave variant= out."
            )
        return torchvision.from_torchvision(weights, arrays, prefixes, name, stated, known)
    if prefixes := [
        key.removesuffix("Conv_0.kernel")
        for key in arrays
        if re.search(r"(^|\.)AlexNet_\d+\.Conv_0\.kernel$", key)
    ]:
        return torchvision.from_flax(weights, arrays, prefixes, name, stated)
    prefixes = [
        key.removesuffix(found[0].lstrip("."))
        for key in arrays
        if (found := re.search(rf"(^|\.)conv1\.({'|'.join(sorted(caffe.KERNELS))})$", key))
    ]
    if prefixes or weights.layers:
        if stated.weights and not any(prefixes):
            raise UserError(
                f"weights={stated.weights}, but {name} holds one network; leave weights= out."
            )
        notes: list[str] = []
        if any(prefixes):
            weights, arrays, notes = state_dicts.unwrapped(
                weights, arrays, prefixes, stated.weights, name
            )
        converted = caffe.from_caffe(weights, arrays, name, stated, known)
        return dataclasses.replace(converted, notes=(*notes, *converted.notes))
    if weights.module:
        raise UserError(f"{name} holds {WHOLE_MODULE.format(weights.module)}.")
    first = ", ".join(repr(key[:40]) for key in list(arrays)[:3]) or "nothing"
    raise UserError(
        f"{name} holds neither an AlexNet of Caffe (conv1 to fc8) nor one of torchvision"
        f" (features.0.weight to classifier.6.bias), but {first}{' and so on' * (len(arrays) > 3)}."
    )
