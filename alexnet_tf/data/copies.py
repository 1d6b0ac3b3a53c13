"""Copies of one picture, in several classes or in several splits of a folder."""

from collections.abc import Callable

import numpy as np

from alexnet_tf import picture_files
from alexnet_tf.data.part import Part

SAYS_LITTLE = "correct answers on those say little"  # on pictures that were trained on


def also_in(count: int, total: int, split: str, other: str, first: str = "") -> str:
    """A line on `count` of the `total` pictures of a split that are also in another; `first` names
    one.
    """
    told = f", first {first}" if first else ""
    return f"{count} of the {total} pictures of {split} are also in {other}{told}: {SAYS_LITTLE}."


def in_several_classes(part: Part) -> list[str]:
    """A line on pictures of `part` that have copies in another class, if there are any."""

    def name_of(number: int) -> str:
        return picture_files.shown(part.files[number])

    return of_several_labels(part.name, part.labels, part.identities, name_of)


def of_several_labels(
    name: str, labels: np.ndarray, identities: np.ndarray, name_of: Callable[[int], str]
) -> list[str]:
    """The same of the pictures of the split `name`, of which `name_of` gives a picture's name."""
    order = np.lexsort((labels, identities))
    identities, labels = identities[order], labels[order]
    pairs = np.flatnonzero((identities[1:] == identities[:-1]) & (labels[1:] != labels[:-1]))
    if not len(pairs):
        return []
    count = np.isin(identities, identities[pairs]).sum()
    first, second = (name_of(order[pairs[0] + after]) for after in (0, 1))
    return [
        f"{count} pictures of {name} are in more than one class, first {first} and"
        f" {second}: keep each in only one."
    ]


def in_both(earlier: Part, part: Part) -> list[str]:
    """A line on pictures of `part` that are also in the `earlier` one, if there are any."""
    both = np.flatnonzero(np.isin(part.identities, earlier.identities))
    if not len(both):
        return []
    first = picture_files.shown(part.files[both[0]])
    return [also_in(len(both), len(part.files), part.name, earlier.name, first)]
