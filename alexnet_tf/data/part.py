"""The pictures of one split of a folder, read: their classes, identities, and which are bad."""

import dataclasses
import hashlib
import os
import pathlib
import shlex
from collections.abc import Collection, Iterable, Sequence

import numpy as np

from alexnet_tf import picture_files
from alexnet_tf.bounds import plain
from alexnet_tf.data import pictures
from alexnet_tf.data.class_folders import (
    check_names,
    place_finder,
    places_of,
    subfolders,
)
from alexnet_tf.data.layout import UNLABELLED, Layout
from alexnet_tf.data.names import HELD_OUT_SPLIT, split_place
from alexnet_tf.data.splits import Split, split_of_files
from alexnet_tf.errors import UserError, first_few


@dataclasses.dataclass(frozen=True)
class Part:
    """The pictures of a split; `place`, `held_out` and `bad_pictures` as in Split."""

    name: str
    class_names: tuple
    files: np.ndarray
    labels: np.ndarray
    identities: np.ndarray
    place: str | None = None
    held_out: bool = False
    bad_pictures: tuple = ()

    def where(self, mask: np.ndarray) -> "Part":
        return dataclasses.replace(
            self, files=self.files[mask], labels=self.labels[mask], identities=self.identities[mask]
        )

    def kept_apart(self) -> "Part":
        return dataclasses.replace(self, name=HELD_OUT_SPLIT, place=None, held_out=True)

    def split(self) -> Split:
        return dataclasses.replace(
            split_of_files(self.name, self.files, self.labels, self.identities),
            place=self.place,
            held_out=self.held_out,
            bad_pictures=self.bad_pictures,
        )


def fingerprint(*parts: Part | None) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(
            b"".join((part.labels.tobytes(), b"|", part.identities.tobytes())) if part else b"-"
        )
    return digest.hexdigest()


def read_part(
    layout: Layout, folder: pathlib.Path, class_names: Sequence[str] | None = None
) -> Part:
    """The Part of a folder of class folders: `class_names` are those that it may have; None: its
    own, at least two.

    Raises UserError for other classes, and for one of its own without pictures.
    """
    classes = layout.classes_in(folder)
    if class_names is None:
        _check_several(layout, folder, list(filter(layout.holds_picture, classes)))
    if not classes:
        raise UserError(
            f"{folder} {UNLABELLED}."
            if layout.holds_picture(folder)
            else (
                f"{folder} holds no picture{_but_others(layout, folder)}; pass a folder of class"
                " folders."
            )
        )
    if class_names is not None:
        classes = _without_empty(layout, classes, class_names)
    check_names(folder, classes)
    own_names = tuple(plain(path.name) for path in classes)
    names = own_names if class_names is None else tuple(class_names)
    places = places_of(folder, classes, names)
    _note_astray(layout, classes, places, names)
    needed = classes if class_names is None else []
    files, labels = _pictures_in(layout, classes, places, needed)
    layout.add_beside(folder)
    identities, faults = _known(files, layout.suffixes)
    bad = [
        f"{picture_files.shown(file)} cannot be read ({fault})"
        for file, fault in zip(files, faults)
        if fault
    ]
    good = np.array([fault is None for fault in faults], bool)
    empty = set(range(len(needed))) - set(labels[good].tolist())
    if empty or not good.any():
        path = classes[min(empty)] if empty else folder
        within = picture_files.shown(os.fsencode(path))
        first = next(
            (f": {line}" for line in bad if line.startswith(within)), _but_others(layout, path)
        )
        raise UserError(f"{path} holds no picture that can be read{first}.")
    return Part(
        plain(folder.name),
        names,
        files[good],
        labels[good],
        identities,
        split_place(str(folder.relative_to(layout.root))),
        bad_pictures=tuple(bad),
    )


def _pictures_in(
    layout: Layout,
    classes: list[pathlib.Path],
    places: Iterable[int],
    needed: Collection[pathlib.Path],
) -> tuple[np.ndarray, np.ndarray]:
    """(files, labels) of the pictures in `classes`, which are at `places` among the names of the
    classes; what else lies there is noted. Raises UserError for one of those `needed` without any.
    """
    files: list[bytes] = []
    labels: list[int] = []
    for place, path in zip(places, classes):
        found, others = picture_files.walk(path, layout.suffixes)
        for file in others:
            layout.unused.add(file)
        if not found and path in needed:
            raise UserError(
                f"{path} holds no picture ({', '.join(layout.suffixes)})"
                f"{_but_others(layout, path)}; remove the folder or fill it."
            )
        files += found
        labels += [place] * len(found)
    return np.array(files, object), np.array(labels, np.int64)


def _known(files: np.ndarray, suffixes: Sequence[str]) -> tuple[np.ndarray, list[str | None]]:
    """(the identities of the files without a fault, the fault of each)."""
    by_pillow = set(suffixes) >= set(picture_files.READ_BY_PREPARE)
    _, faults = pictures.examine(files, by_pillow)
    sound = [place for place, fault in enumerate(faults) if fault is None]
    identities, of_headers = pictures.know(files[sound].tolist())
    for place, fault in zip(sound, of_headers):
        faults[place] = fault
    return identities[[fault is None for fault in of_headers]], faults


def _without_empty(
    layout: Layout, classes: list[pathlib.Path], class_names: Sequence[str]
) -> list[pathlib.Path]:
    """`classes` without the folders that hold no file and are named after none of `class_names`,
    which it notes; all of `classes` if nothing else would be left.
    """
    place_of = place_finder(class_names)
    empty = [
        path
        for path in classes
        if place_of(path.name) is None and not any(picture_files.walk(path, layout.suffixes))
    ]
    if not empty or empty == classes:
        return classes
    layout.told.append(
        f"{empty[0].parent}: skipped, as they are empty and not named after a class: "
        f"{first_few(path.name for path in empty)}."
    )
    return [path for path in classes if path not in empty]


def _check_several(layout: Layout, folder: pathlib.Path, classes: list[pathlib.Path]) -> None:
    """Raises UserError unless there are at least two `classes`, folders of pictures."""
    if len(classes) >= 2:
        return
    inner, todo = layout.innermost(folder), "sort the pictures into folders of their classes"
    if inner != folder and folder == layout.root:
        todo = f"pass data_dir={shlex.quote(str(inner))}, which holds more"
    elif inner != folder:
        todo = f"pass train_split={layout.shown(inner)}, which holds more"
    raise UserError(
        f"{folder} holds {len(classes)} folder{'s' * (len(classes) != 1)} of pictures"
        f"{f' ({classes[0].name}/)' if classes else ''}{_but_others(layout, folder)}; a classifier"
        f" needs at least 2 classes, one folder each: {todo}."
    )


def _but_others(layout: Layout, folder: pathlib.Path) -> str:
    """What there is in `folder` instead of pictures, for the end of a sentence."""
    others = picture_files.walk(folder, layout.suffixes)[1]
    there = picture_files.describe_unused(folder, others)
    return f", but {there}" if there else ""


def _note_astray(
    layout: Layout, classes: list[pathlib.Path], places: Iterable[int], class_names: Sequence[str]
) -> None:
    """Notes the folders that lie in one of `classes` and are named after another; `classes` are at
    `places` among `class_names`.
    """
    place_of = place_finder(class_names)
    astray = [
        (inner, path)
        for place, path in zip(places, classes)
        for inner in subfolders(path)
        if place_of(inner.name) not in (None, place) and layout.holds_picture(inner)
    ]
    if astray:
        inner, path = astray[0]
        several = len(astray) > 1
        layout.told.append(
            f"{len(astray)} folder{'s' * several} named after a class lie{'s' * (not several)} in"
            f" that of another, first {inner}: its pictures are taken as {plain(path.name)}; move"
            " it out if they are not."
        )
