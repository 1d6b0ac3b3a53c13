"""Pictures that cannot be read: each told and counted once, and how many are too many."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import tensorflow as tf

from alexnet_tf.data.splits import Dataset, Split
from alexnet_tf.errors import UserError

_MOST_TOLD = 20  # bad pictures, at a time: a damaged file of records may lose thousands


def refuse_bad_pictures(count: int, most: float, faults: Sequence[str]) -> None:
    """Raises UserError if more than `most` pictures cannot be read; `faults` describe some."""
    if count > most:
        raise UserError(
            f"{count} pictures cannot be read, more than max_bad_pictures={most}:"
            f" {', '.join(faults[:3])}. Replace them or take them out, or allow more."
        )


def tell_bad_pictures(
    split: Split, numbers: Sequence[int], note: Callable[[str], None]
) -> list[str]:
    """Tells of the first of the pictures of those `numbers`; returns what it says of each."""
    faults = [split.describe_fault(number) for number in numbers[:_MOST_TOLD]]
    for fault in faults:
        note(f"passed over, as it cannot be read: {fault}")
    _tell_of_more(len(numbers), note)
    return faults


def _tell_of_more(count: int, note: Callable[[str], None]) -> None:
    """Notes how many of `count` bad pictures are not named."""
    if count > _MOST_TOLD:
        note(f"and {count - _MOST_TOLD:,} more that cannot be read")


def tell_of_opening(dataset: Dataset, most: float, note: Callable[[str], None]) -> None:
    """Tells what was found when `dataset` was opened.

    Raises UserError if more than `most` of its pictures cannot be read.
    """
    refuse_bad_pictures(len(dataset.bad_pictures), most, dataset.bad_pictures)
    for line in (*dataset.notes, *dataset.bad_pictures[:_MOST_TOLD]):
        note(line)
    _tell_of_more(len(dataset.bad_pictures), note)


class BadPictures:
    """Pictures that cannot be read, each told and counted once, those that were left out at the
    start included.
    """

    def __init__(
        self,
        dataset: Dataset,
        most: float,
        numbers: Iterable[int],
        note: Callable[[str], None],
        union: Callable[[set[int]], set[int]],
    ) -> None:
        """`numbers` are those of the training pictures that have been told already; `union` joins
        the sets of all workers.

        Raises UserError for more than `most`.
        """
        self._dataset, self._most, self._note, self._union = dataset, most, note, union
        self._numbers = set(numbers)
        self._unread: list[tf.Tensor] = []
        refuse_bad_pictures(len(self), most, dataset.bad_pictures)

    def __len__(self) -> int:
        return len(self._dataset.bad_pictures) + len(self._numbers)

    def in_line(self) -> str:
        """For the end of the progress line."""
        return f", {len(self)} bad pictures" if len(self) else ""

    def add(self, numbers: Sequence[tf.Tensor]) -> None:
        """Remembers "bad" of a batch of pipeline.training_batches, a list of tensors; none is read
        from its device yet.
        """
        self._unread += numbers

    def check(self) -> None:
        """Tells of new ones in what was added, all workers at the same step.

        Raises UserError when there are too many.
        """
        numbers = (
            set(np.concatenate(self._unread).tolist()) - {-1} - self._numbers
            if self._unread
            else set()
        )
        self._unread = []
        new = self._union(numbers)
        self._numbers |= new
        faults = tell_bad_pictures(self._dataset.to_train(), sorted(new), self._note)
        refuse_bad_pictures(len(self), self._most, [*self._dataset.bad_pictures, *faults])

    def numbers(self) -> list[int]:
        return sorted(self._numbers)
