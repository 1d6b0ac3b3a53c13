"""Pictures at any paths, and the classes that the folders around them name."""

import os
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from alexnet_tf import console, picture_files
from alexnet_tf.data import pictures
from alexnet_tf.data.class_folders import place_finder
from alexnet_tf.data.splits import Split, split_of_files
from alexnet_tf.errors import UserError


def list_pictures(
    paths: Iterable[str | os.PathLike],
    class_names: Sequence[str] = (),
    note: Callable[[str], None] = console.note,
) -> tuple[Split, list[str]]:
    """Returns a Split of the pictures that are, or lie anywhere below, `paths`, and their file
    names, in sorted order.

    A picture's label is the place in `class_names` of the outermost folder around it that has a
    name there, as in a training, no further up than `paths`; -1 where there is none. One of `paths`
    itself that has a name there is not taken as a class if folders of several classes lie below
    it. A picture that lies below several of `paths` counts once. `note` tells what else lies there,
    and what a folder with classes below it is taken as. Raises UserError if there are no pictures,
    or if one is broken.
    """
    names: list[bytes] = []
    outermost: dict[str, str] = {}  # of `paths` around a picture, which may be below several
    for path in paths:
        there = os.path.abspath(path)
        top = there if os.path.isdir(path) else os.path.dirname(there)
        for name in picture_files.pictures_below(path, note):
            file = os.path.abspath(os.fsdecode(name))
            if file not in outermost:
                names.append(name)
            outermost[file] = min(outermost.get(file, top), top, key=len)
    files = list(map(os.fsdecode, names))
    _refuse_faults(names, pictures.examine(names)[1])
    identities, faults = pictures.know(names)
    _refuse_faults(names, faults)
    labels = np.array(_labels_around(outermost, class_names, note), np.int64)
    return (
        split_of_files("pictures", np.array(names, object), labels, identities),
        files,
    )


def _refuse_faults(names: Iterable[bytes], faults: Iterable[str | None]) -> None:
    for name, fault in zip(names, faults):
        if fault:
            raise UserError(
                f"{picture_files.shown(name)} cannot be read ({fault}); replace it or take it out."
            )


def _labels_around(
    outermost: dict[str, str], class_names: Sequence[str], note: Callable[[str], None]
) -> list[int]:
    """The label of each file: `outermost` has the folder to begin at, as list_pictures does."""
    place_of = place_finder(class_names)
    inner: dict[str, list[int]] = {top: [] for top in outermost.values()}
    for file, top in outermost.items():
        around = os.path.relpath(os.path.dirname(file), top).split(os.sep)
        places = (place_of(folder) for folder in around)
        inner[top].append(next((place for place in places if place is not None), -1))
    labels = {}
    for top, found in inner.items():
        place, below = place_of(os.path.basename(top)), set(found) - {-1}
        if place is not None and below - {place}:
            taken = "these are taken as classes, and it is not"
            if len(below) == 1:
                taken = f"its pictures are taken as {class_names[place]}"
            note(f"{top} is named after a class, and so are folders in it: {taken}.")
        if place is not None and len(below) < 2:
            found = [place] * len(found)
        labels[top] = iter(found)
    return [next(labels[top]) for top in outermost.values()]
