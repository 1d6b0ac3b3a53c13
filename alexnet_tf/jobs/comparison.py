"""The pictures that exports and .tflite files are compared and calibrated on."""

import dataclasses
import functools
import hashlib
import math
import os
from collections.abc import Callable

import numpy as np

from alexnet_tf import disk
from alexnet_tf.data import bad_pictures, datasets, listing, names, own, record, shapes
from alexnet_tf.data.splits import Dataset, Split
from alexnet_tf.errors import UserError
from alexnet_tf.exports import tflite
from alexnet_tf.manifest import Manifest

_DRAWN = 200  # pictures to compare on where there are no others


@dataclasses.dataclass(frozen=True)
class Compared:
    """The pictures to compare on."""

    given: Split | None = None  # None: drawn ones
    digest: str = "drawn"  # they are always the same
    labelled: bool = False  # whether their labels are the network's
    dataset: Dataset | None = None  # that they are of

    @functools.cached_property
    def split(self) -> Split:
        return self.given or drawn_pictures(_DRAWN)  # which takes seconds


def choose(
    pictures: Dataset | Split | None,
    calibration: Dataset | Split | None,
    manifest: Manifest,
    seen: record.Record | None,
    note: Callable[[str], None],
) -> Compared:
    """The pictures that were passed, or else the available ones most like the network's own."""
    told_of = ""
    if pictures is None:
        try:
            pictures = _trained_on(manifest, seen)
        except UserError as error:
            at_hand = f"those that the network was trained on are not available ({error})"
            if calibration is None:
                note(f"Compared on drawn pictures: {at_hand}")
                return Compared()
            split = to_calibrate(calibration)
            note(f"Compared on {split.name}: {at_hand}")
            return Compared(split, digest(calibration))
        if folder := manifest.settings.flags.get("data_dir"):  # nobody has named it here
            told_of = f" of {folder}"
    if not isinstance(pictures, Dataset):
        labels = np.array([stub["label"] for stub in pictures.stubs(None).as_numpy_iterator()])
        if not manifest.labels or labels.min() < 0:
            if manifest.labels and labels.max() >= 0:
                note(
                    f"{(labels < 0).sum()} of the {len(labels)} pictures of {pictures.name} are "
                    f"in no folder named after a class of the network: {tflite.NOT_ACCURACY}"
                )
            return Compared(pictures, digest(pictures))
        classes = hashlib.sha256(labels.tobytes()).hexdigest()
        return Compared(pictures, f"{digest(pictures)} {classes}", True)
    bad_pictures.tell_of_opening(pictures, math.inf, note)
    split = pictures.reported()
    # by its name too: a data set with several splits is the same whichever of them judges
    key, name = f"{digest(pictures)} {split.name}", split.name + told_of
    labelled = tuple(pictures.class_names) == manifest.labels
    if manifest.labels and not labelled:
        note(f"{pictures.name} has other classes than the network: {tflite.NOT_ACCURACY}")
    if not labelled:
        name = f"{pictures.name}, {name}"
    return Compared(dataclasses.replace(split, name=name), key, labelled, pictures)


def _trained_on(manifest: Manifest, seen: record.Record | None) -> Dataset:
    """What the network was trained on. Raises UserError where it is not at hand."""
    flags = manifest.settings.flags
    if flags.get("dataset") is None:
        raise UserError("the network does not say what it was trained on")
    return datasets.open_dataset(
        flags["dataset"],
        flags.get("data_dir"),
        flags.get("seed") or 0,
        names.of_flags(flags),
        seen=seen,
    )


def calibrating(
    compared: Dataset | None,
    manifest: Manifest,
    seen: record.Record | None,
    note: Callable[[str], None],
) -> Dataset:
    """The data set whose training pictures calibrate int8, where nobody has passed others."""
    if compared and compared.train:
        return compared
    try:
        found = _trained_on(manifest, seen)
    except UserError as error:
        raise UserError(
            "int8 needs pictures to find the range of each activation, and the training pictures "
            f"are not available ({error}); pass calibration=FOLDER with a few hundred pictures "
            "like those that the network will see."
        ) from None
    place = manifest.settings.flags.get("data_dir") or found.name
    note(
        f"Calibrated on {found.to_train().name} of {place}, which the network was trained on: the "
        "pictures to compare on come without training pictures"
    )
    return found


def to_calibrate(pictures: Dataset | Split) -> Split:
    return pictures.to_train() if isinstance(pictures, Dataset) else pictures


def digest(pictures: Dataset | Split) -> str:
    """A digest that is the same for the same pictures."""
    if isinstance(pictures, Dataset):
        return pictures.fingerprint
    return hashlib.sha256(pictures.known().tobytes()).hexdigest()


def opened(
    pictures: Dataset | Split | str | os.PathLike | None, class_names: tuple = ()
) -> Dataset | Split | None:
    if pictures is None or isinstance(pictures, Dataset | Split):
        return pictures
    return split_of(pictures, class_names)


def split_of(pictures: str | os.PathLike, class_names: tuple = ()) -> Split:
    """The pictures in a folder and anywhere below it, labelled by those of `class_names` that the
    folders around them have, or -1. Raises UserError if there are none.
    """
    split, _ = listing.list_pictures([os.fspath(disk.local(pictures))], class_names)
    return dataclasses.replace(split, name=os.fspath(pictures))


def drawn_pictures(count: int) -> Split:
    """The first `count` test pictures of the embedded data set, drawn anew."""
    return own.split_of_contents(
        "drawn pictures", [shapes.draw_jpeg("test", number) for number in range(count)]
    )
