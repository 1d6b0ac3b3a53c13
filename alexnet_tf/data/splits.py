"""A split of a data set: its pictures, in order or shuffled, as records.

A record is {"image": bytes of a picture file, "label": int64 in 0..classes-1, "picture": int64
number within its split}.
"""

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np
import tensorflow as tf

from alexnet_tf import picture_files
from alexnet_tf.data import pictures
from alexnet_tf.errors import UserError, first_few
from alexnet_tf.pixels import Preprocessing

Tensors = dict[str, tf.Tensor]  # a record, or a stub of one
OPEN_FILES = 16
# AutoGraph finds nothing to convert in our functions, takes half the time of building those of a
# tf.data.Dataset to do so, and leaves files in the temporary folder of a process that is killed.
as_it_is = tf.autograph.experimental.do_not_convert


def converted(function: Callable) -> tf.types.experimental.PolymorphicFunction:
    """`function`, which a user wrote, with its `if` and `for` of tensors made those of a graph."""

    def call(*arguments: Any) -> Any:
        return function(*arguments)

    return tf.function(call)


@dataclasses.dataclass(frozen=True)
class Split:
    """One split of `examples` pictures.

    `stubs(epoch_seed)` is a tf.data.Dataset of what `load` turns into records: cheap to skip, and
    without errors, whatever is wrong with the files. Without a seed (None) the order is fixed; with
    one (an int64 scalar tensor) it is a shuffle that depends on the seed alone. `load` raises a
    tf.errors.OpError for a picture that is gone or damaged in its record.
    """

    name: str
    examples: int
    stubs: Callable[[tf.Tensor | None], tf.data.Dataset]
    load: Callable[[Tensors], Tensors]
    stub_of: Callable[[tf.Tensor], tf.data.Dataset]  # picture number -> its stub alone
    name_of: Callable[[int], str]  # picture number -> what to call the picture in a message
    # uint64 [examples], by which a picture is known: record.py
    identities: np.ndarray | None = None
    # whether tf.data makes it faster by rewriting its graph: records in files, a user's own
    rewritten: bool = False
    # whether no two iterators may read it at once: what a user's own reads may have one position
    one_reader: bool = False
    # where all of it lies: a folder below data_dir (images/judge), or the split of TFDS; None where
    # it is a part of one, or of none
    place: str | None = None
    held_out: bool = False  # whether it is a part of training pictures that is kept from training
    # a line for each picture of `place`, or of what it is a part of, that is left out and has no
    # number, with its name and what is wrong with it
    bad_pictures: tuple = ()

    def read(self, epoch_seed: tf.Tensor | None) -> tf.data.Dataset:
        """A tf.data.Dataset of records, in the order of `stubs`."""
        return self.stubs(epoch_seed).map(as_it_is(self.load), num_parallel_calls=OPEN_FILES)

    def known(self) -> np.ndarray:
        """`identities`. Raises UserError where pictures are not known, as those of the user's own
        tf.data.
        """
        if self.identities is None:
            raise UserError(f"{self.name}: its pictures have no identities to compare them by.")
        return self.identities

    def cannot_be_read(self, count: int) -> str:
        """The beginning of a line on so many of its pictures."""
        return f"{count} of the {self.examples} pictures of {self.name} cannot be read"

    def describe_fault(self, picture: int) -> str:
        """The name of the picture of that number and what is wrong with it."""
        return (
            f"{self.name_of(picture)} ({self.fault_of(picture) or 'nothing is wrong with it now'})"
        )

    def refuse_unreadable(self, picture: int) -> NoReturn:
        """Raises UserError where no picture can be read: of that number, say."""
        raise UserError(
            f"No picture of {self.name} can be read, for example {self.describe_fault(picture)}."
        )

    def fault_of(self, picture: int) -> str | None:
        """What is wrong with the picture of that number, or None."""

        def image() -> tf.Tensor:
            return self.load(next(iter(self.stub_of(tf.constant(picture, tf.int64)))))["image"]

        return pictures.fault_of(image)


A_DATASET = "what open_dataset or from_tf_data gives"  # in messages


@dataclasses.dataclass(frozen=True)
class Dataset:
    """What a model is trained on, chosen by and judged on.

    `evaluation` is looked at while it is trained, so that it may choose: the best weights, the
    rate, the end. `test`, where there is one, is what is reported when all that is over; it is
    `evaluation` itself where nothing is chosen. A data set opened for evaluation has no `train`.
    """

    name: str
    class_names: tuple
    train: Split | None
    evaluation: Split
    fingerprint: str  # changes with the pictures, their order and the division
    notes: tuple = ()  # what a user should be told: a split made here, files passed over
    # {"mean": [3], "colour_pca": [3, 3]} of the training pixels, if stored with the data
    statistics: dict | None = None
    # training pictures per class; empty where that is not known without reading them
    class_counts: tuple = ()
    test: Split | None = None
    side: int | None = None  # of what alexnet prepare has stored, in pixels
    unused: tuple = ()  # a line for each file of a folder that is neither used nor bad
    # "dataset", "data_dir", "seed": with what open_dataset gives it again; no dataset for one of
    # the user's own.
    opened_with: dict = dataclasses.field(default_factory=dict)

    def to_train(self) -> Split:
        """`train`; raises UserError for a data set opened for evaluation, which has none."""
        if self.train is None:
            raise UserError(f"{self.name} was opened for evaluation; open it for training.")
        return self.train

    @property
    def bad_pictures(self) -> tuple:
        """Those of all its splits, each once: two may be parts of one folder."""
        splits = [*([self.train] if self.train else []), *self.evaluations()]
        return tuple(dict.fromkeys(line for split in splits for line in split.bad_pictures))

    def chose(self) -> bool:
        """Whether `test` is to be reported, and is not what is looked at while it is trained."""
        return self.test is not None and self.test is not self.evaluation

    def reported(self) -> Split:
        """The split whose figures are the result: `test`, or `evaluation` where that is all."""
        return self.evaluation if self.test is None else self.test

    def describe(self, chooses: bool = True) -> str:
        """How many pictures there are of each split, in a few words; `chooses` is whether anything
        is chosen by `evaluation` where `test` is another.
        """
        parts = [f"{self.evaluation.examples} to evaluate ({self.evaluation.name})"]
        if self.test is not None and self.chose():
            parts = [
                f"{self.evaluation.examples} {'to choose by' if chooses else 'only looked at'}"
                f" ({self.evaluation.name})",
                f"{self.test.examples} to report on ({self.test.name})",
            ]
        if self.train is not None:
            parts.insert(0, f"{self.train.examples} pictures to train")
        return ", ".join(parts)

    def evaluations(self) -> list[Split]:
        """`evaluation`, and `test` where that is another."""
        return [self.evaluation, *([self.test] if self.test and self.chose() else [])]

    def roles(self) -> dict[str, Split]:
        """The splits by the names that TFDS has for them."""
        chosen_by = None if self.evaluation is self.test else self.evaluation
        roles = {"train": self.train, "validation": chosen_by, "test": self.test}
        return {role: split for role, split in roles.items() if split}


def tell_of_side(dataset: Dataset, pixels: Preprocessing, note: Callable[[str], None]) -> None:
    """Notes where pictures were stored smaller than a network of `pixels` reads them."""
    if dataset.side and pixels.resize > dataset.side:
        note(
            f"{dataset.name} was stored at {dataset.side} x {dataset.side}, and is scaled up to"
            f" {pixels.resize}: the network sees no more detail than that; train on the original"
            " pictures for more."
        )


def not_evaluated(class_names: Sequence[str], labels: np.ndarray, name: str) -> list[str]:
    """A line on the classes without a picture in the split `name`, if there are any; `labels`,
    int64 [pictures], are those of its pictures.
    """
    there = set(labels.tolist())
    missing = [one for label, one in enumerate(class_names) if label not in there]
    if not missing:
        return []
    return [f"Not evaluated, for lack of pictures in {name}: {first_few(missing, 5)}."]


def tell_of_balance(dataset: Dataset, note: Callable[[str], None], weighted: bool = False) -> None:
    """Notes how many training pictures there are of each class, where that is known, and, unless
    they are `weighted`, whether that is much out of balance.
    """
    if dataset.class_counts:
        counts, *more = describe_balance(dataset.class_names, dataset.class_counts)
        for line in [counts, *([] if weighted else more)]:
            note(line)


def describe_balance(class_names: Sequence[str], counts: Sequence[int]) -> list[str]:
    """Lines for a user: how many training pictures there are of each class, and whether that is
    much out of balance.
    """
    if len(counts) <= 20:
        lines = [
            "training pictures: "
            + ", ".join(f"{name} {count}" for name, count in zip(class_names, counts))
        ]
    else:
        lines = [
            f"training pictures: {min(counts)} to {max(counts)} per class, {len(counts)} classes"
        ]
    fewest, most = int(np.argmin(counts)), int(np.argmax(counts))
    if counts[most] > 3 * counts[fewest]:
        lines.append(
            f"The classes are out of balance: {counts[most]} pictures of {class_names[most]},"
            f" {counts[fewest]} of {class_names[fewest]}. Rare classes will be guessed too seldom;"
            " add pictures of them."
        )
    return lines


def split_of_files(
    name: str, files: np.ndarray, labels: np.ndarray, identities: np.ndarray | None = None
) -> Split:
    """A Split of picture files: `files` names them as bytes, `labels` are int64; all are arrays."""
    # once, here: in the functions below they would be part of each function's graph
    with tf.device("CPU:0"):
        here = os.getcwdb()  # they are to be found again from any other folder
        absolute = [os.path.join(here, file) for file in files.tolist()]
        names, targets = tf.constant(absolute, tf.string), tf.constant(labels)

    @as_it_is
    def stub(picture: tf.Tensor) -> Tensors:
        return {"file": names[picture], "label": targets[picture], "picture": picture}

    def stubs(epoch_seed: tf.Tensor | None) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices(shuffled_range(len(files), epoch_seed)).map(stub)

    def load(stub: Tensors) -> Tensors:
        return {
            "image": tf.io.read_file(stub["file"]),
            "label": stub["label"],
            "picture": stub["picture"],
        }

    return Split(
        name,
        len(files),
        stubs,
        load,
        lambda picture: tf.data.Dataset.from_tensors(picture).map(stub),
        lambda picture: picture_files.shown(files[picture]),
        identities,
    )


def shuffled_range(
    size: int | tf.Tensor, epoch_seed: tf.Tensor | None, window: int | tf.Tensor = 0
) -> tf.Tensor:
    """0..size-1, int64, in an order that depends on the seeds alone; in place where `epoch_seed` is
    None.
    """
    numbers = tf.range(tf.cast(size, tf.int64))
    if epoch_seed is None:
        return numbers
    return tf.random.experimental.stateless_shuffle(numbers, seed=tf.stack([epoch_seed, window]))
