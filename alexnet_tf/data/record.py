"""What a model has been trained on and what was held out from it, picture by picture.

    MODEL_DIR/pictures.npz       also assets.extra/pictures.npz of an export, pictures.npz in a
    .tflite
        trained, held_out        uint64, sorted, each once; as differences, which compress well
        trunk_trained, trunk_held_out  likewise, of a projection that was trained alone: what the
                                 layers below it were trained on, and what was held out from that

A picture is known by its identity, 64 bits: of a file, a digest of its bytes, whatever it is called
and wherever it lies; of a record of TFDS, its place in the data set; of a record that
`alexnet prepare` stored, that of the picture that it was made of.
"""

import dataclasses
import functools
import io
import os
import pathlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from alexnet_tf import archives, disk
from alexnet_tf.errors import UserError, one_line

if TYPE_CHECKING:
    from alexnet_tf.data.splits import Dataset

FILE = "pictures.npz"
_LARGEST = 2**28  # bytes: more pictures than any data set has
_NONE = np.zeros(0, np.uint64)
_NAMES, _TRUNK = ("trained", "held_out"), "trunk_"


@dataclasses.dataclass(frozen=True)
class Record:
    """Identities, uint64, sorted and each once. A picture that is in both has been trained on."""

    trained: np.ndarray = dataclasses.field(default_factory=lambda: _NONE)
    held_out: np.ndarray = dataclasses.field(default_factory=lambda: _NONE)
    trunk: "Record | None" = None  # of the layers below the projection; None: this one

    def below(self) -> "Record":
        """The Record of a network with these layers and a new projection."""
        return self.trunk or self

    def __or__(self, other: "Record") -> "Record":
        return Record(
            np.union1d(self.trained, other.trained), np.union1d(self.held_out, other.held_out)
        )

    def has_seen(self, identities: np.ndarray) -> np.ndarray:
        """Mask of those of `identities` that were trained on."""
        return np.isin(identities, self.trained)

    def keeps_apart(self, identities: np.ndarray) -> np.ndarray:
        """Mask of those of `identities` that were held out, and never trained on."""
        return np.isin(identities, self.held_out) & ~self.has_seen(identities)

    def to_bytes(self) -> bytes:
        stream, stored = io.BytesIO(), {name: getattr(self, name) for name in _NAMES}
        if self.trunk:
            stored |= {f"{_TRUNK}{name}": getattr(self.trunk, name) for name in _NAMES}
        np.savez_compressed(
            stream,
            **{
                name: np.diff(identities, prepend=np.uint64(0))
                for name, identities in stored.items()
            },
        )
        return stream.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes, path: str | os.PathLike) -> "Record":
        """Raises UserError, naming `path`, if `content` is no record."""
        try:
            arrays = archives.arrays(io.BytesIO(content), _LARGEST)
            names = [*_NAMES, *(name for name in arrays if name.startswith(_TRUNK))]
            stored = {name: arrays[name] for name in names}
            if any(array.dtype != np.uint64 or array.ndim != 1 for array in stored.values()):
                raise ValueError("other arrays")
            known = {name: np.cumsum(array, dtype=np.uint64) for name, array in stored.items()}
            below = None
            if len(known) > len(_NAMES):
                below = cls(known[f"{_TRUNK}trained"], known[f"{_TRUNK}held_out"])
            return cls(known["trained"], known["held_out"], below)
        except (ValueError, KeyError, MemoryError) as error:
            raise UserError(
                f"{path}, the record of the pictures that were trained on, cannot be read "
                f"({one_line(error, 160)}); restore it from a copy."
            ) from None


def stored(content: bytes | None, path: str | os.PathLike) -> Record | None:
    """The Record that `path` has among its members as `content`; None where it has none. Raises
    UserError if it is damaged.
    """
    return None if content is None else Record.from_bytes(content, path)


def of(dataset: "Dataset") -> Record | None:
    """The Record of a training on a splits.Dataset; None where its pictures have no identities."""
    train, judging = dataset.to_train(), dataset.evaluations()
    if any(split.identities is None for split in (train, *judging)):
        return None
    held_out = np.concatenate([split.known() for split in judging])
    return Record(np.unique(train.known()), np.unique(held_out))


def union(records: Iterable[Record | None]) -> Record:
    """That of several models together, as of one that was trained whole; None stands for one that
    has no record.
    """
    return functools.reduce(Record.__or__, filter(None, records), Record())


def read(model_dir: str | os.PathLike) -> Record | None:
    """The Record in a model directory, or None. Raises UserError if it is damaged."""
    path = pathlib.Path(model_dir) / FILE
    return Record.from_bytes(path.read_bytes(), path) if path.is_file() else None


def write(model_dir: str | os.PathLike, record: Record) -> None:
    """Writes `record` into a model directory. Raises UserError if it cannot be written."""
    path = pathlib.Path(model_dir) / FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        disk.replace_bytes(path, record.to_bytes())
    except OSError as error:
        raise disk.unwritable(model_dir, error) from None


def check_goes_on(
    model_dir: str | os.PathLike,
    record: Record | None,
    dataset: "Dataset",
    seen_before: Record | None = None,
    anew: bool = False,
) -> str | None:
    """What has changed of the pictures of `dataset` since the training in `model_dir` began, as a
    line for the user, or None. `record` is that of the training; None: it was begun without one.
    `seen_before`, that of the network that was fine-tuned, is part of it and not of the data set.

    Raises UserError where it cannot go on, as pictures that it was trained on are to judge it now,
    or none of them is left; unless all that it trains is trained `anew`.
    """
    here = of(dataset)
    if here is None:
        return None
    if record is None:
        if not anew and any(split.held_out for split in dataset.evaluations()):
            raise UserError(
                f"model_dir={model_dir} has no {FILE}, the record of the pictures that were held "
                "out when its training began; restore it from a copy, or pass another model_dir= "
                "to start over."
            )
        return None
    for split in () if anew else dataset.evaluations():
        # a copy that was on both sides from the beginning is told, wherever it judges
        copies = np.isin(split.known(), np.intersect1d(record.held_out, here.trained))
        trained_on = record.has_seen(split.known()) & ~copies
        if seen_before:  # which is told wherever it judges
            trained_on &= ~seen_before.has_seen(split.known())
        moved = np.flatnonzero(trained_on)
        if len(moved):
            raise UserError(
                f"model_dir={model_dir}: {len(moved)} of the pictures of {split.name}, first "
                f"{split.name_of(moved[0])}, are ones that this model was trained on; move them "
                "back, or pass another model_dir= to start over."
            )
    if not anew and not record.has_seen(here.trained).any():
        raise UserError(
            f"model_dir={model_dir} was trained on {len(record.trained)} pictures, and none "
            f"of them is among the {len(here.trained)} to train on now; pass the data set that it "
            "was trained on, or another model_dir=."
        )
    both, known = (
        np.union1d(here.trained, here.held_out),
        np.union1d(record.trained, record.held_out),
    )
    if seen_before:
        others = np.union1d(seen_before.trained, seen_before.held_out)
        known = np.setdiff1d(known, np.setdiff1d(others, both))
    gone, new = len(np.setdiff1d(known, both)), len(np.setdiff1d(both, known))
    if not gone and not new:
        return None
    return (
        f"{model_dir}: since this training began, {gone} of its {len(known)} pictures are gone and "
        f"{new} are new; it trains on {dataset.to_train().examples}."
        + " What was held out stays held out."
        * (not anew)
    )


def divide(
    labels: np.ndarray,
    identities: np.ndarray,
    share: float,
    seed: int,
    record: Record | None = None,
) -> np.ndarray:
    """Mask of the pictures to hold out: of each class about `share`, and one where it has two.

    What `record` knows stays where it was. Any other picture is drawn by its own identity and
    `seed`, so that which others there are decides nothing, and copies of a picture stay together,
    in several classes too; but for classes of few pictures, of which none, or all, would be drawn.
    The only picture of a class is trained on, in all classes that have it.
    """
    record = record or Record()
    seen = record.has_seen(identities)
    known = record.keeps_apart(identities)
    lots = _lots(identities, seed)
    classes = [labels == label for label in np.unique(labels)]
    kinds = [np.unique(identities[of_class]) for of_class in classes]
    alone = np.isin(identities, [only[0] for only in kinds if len(only) == 1])
    free = ~seen & ~known & ~alone
    held = known | (free & (lots < share))
    for of_class in classes:
        ours = of_class & free
        if ours.any() and not held[of_class].any():
            held |= identities == identities[ours][np.argmin(lots[ours])]
    for of_class in classes:  # last, as a copy may have been drawn for another class
        ours = of_class & free
        if ours.any() and held[of_class].all():
            held &= identities != identities[ours][np.argmax(lots[ours])]
    return held


def _lots(identities: np.ndarray, seed: int) -> np.ndarray:
    """A number in 0..1 for each, float64: that of the mixer of SplitMix64, by which all bits of the
    seed count.
    """
    mixed = identities.astype(np.uint64) + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return (mixed ^ (mixed >> np.uint64(31))) / 2.0**64
