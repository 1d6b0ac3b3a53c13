"""Classifiers of every kind seen alike, and how right their answers are."""

import collections
import contextlib
import dataclasses
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from alexnet_tf import bounds
from alexnet_tf.errors import UserError
from alexnet_tf.pixels import Preprocessing

TOP = 5  # classes in an answer
# A server pads a batch to the next of these: each is a shape that an export is warmed up for.
BATCH_SIZES = (1, 2, 4, 8, 16, 32)
LEAST_FLOAT = float(np.finfo(np.float32).tiny)  # the smallest that float32 holds in full
NONE = "none of these"  # what is answered where no class reaches a least probability


def check_probability(value: float) -> float:
    """`value`, a least probability, as a float. Raises UserError unless it is in 0..1."""
    with contextlib.suppress(TypeError, ValueError):
        if 0 <= (probability := float(value)) <= 1:
            return probability
    raise UserError(f"min_probability={value} is not a probability; pass one from 0 to 1.")


def refuse_class_none(class_names: Sequence[str], refused: str) -> None:
    """Raises UserError, which begins with what is `refused`, for a class whose name is that of the
    answer NONE.
    """
    if NONE in (bounds.plain(name).casefold() for name in class_names):
        raise UserError(
            f"{refused}: a class is called {NONE!r}, which is the answer if no class reaches"
            " min_probability; give it another name, such as other."
        )


def never_answers(min_probability: float, classes: int) -> str | None:
    """A line where a least probability never makes NONE the answer, else None."""
    if not 0 < min_probability <= 1 / classes:
        return None
    return (
        f"min_probability={min_probability:g}: one of {classes} classes is always that probable, so"
        f" {NONE!r} is never the answer; pass more than {1 / classes:.3g}"
    )


def best_classes(
    probabilities: np.ndarray, class_names: Sequence[str], min_probability: float = 0.0
) -> list[tuple[str, float]]:
    """[(name, probability), ...] of the TOP most probable classes, or all where there are fewer,
    best first.

    Where the best is below `min_probability`, NONE stands before it and the last goes: its
    probability is that of the best class being wrong. Raises UserError for one that is not in 0..1,
    and for probabilities that are NaN, among which none is the best.
    """
    least = np.float32(check_probability(min_probability))
    if np.isnan(probabilities).any():
        raise UserError(f"The network answers NaN: {bounds.NOT_FINITE}")
    order = np.argsort(-probabilities, kind="stable")[:TOP]
    best = [(class_names[index], float(probabilities[index])) for index in order]
    if probabilities[order[0]] < least:
        best = [(NONE, float(np.float32(1) - probabilities[order[0]])), *best[:-1]]
    return best


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A trained network: a Keras model, a SavedModel or a .tflite file."""

    name: str
    # uint8 images [n, image_size, image_size, channels] -> float [n, classes], inside a tf.function
    probabilities: Callable
    pixels: Preprocessing
    class_names: tuple
    trained_with: dict  # the flags of its training: which data set, from where, with which seed
    least: float = sys.float_info.min  # the smallest probability that its output can tell from 0
    # data.record.Record of the pictures that it was trained on; None: it has none
    record: Any = None


@dataclasses.dataclass(frozen=True)
class Answers:
    """What was said to pictures: a row for each."""

    labels: np.ndarray  # int64 [pictures], the classes that they are of
    losses: np.ndarray  # float64 [pictures], cross-entropy in nats
    # int32 [pictures, TOP, or all classes where there are fewer], the most probable classes, best
    # first; -1: none that has a probability
    best: np.ndarray
    bad_pictures: int = 0  # that could not be read, and have no row
    highest: np.ndarray | None = None  # float64 [pictures], the probability of the best, if kept

    def figures(self) -> dict:
        """{"examples", "bad_pictures", "loss", "top_1", "top_5"}: the mean loss, and shares of
        correct answers in 0..1; and, where one class is the answer to all pictures, those of other
        classes too, that class as "only_answer".
        """
        right = self.best == self.labels[:, None]
        figures = {
            "examples": len(self.labels),
            "bad_pictures": self.bad_pictures,
            "loss": float(self.losses.mean()),
            "top_1": float(right[:, 0].mean()),
            "top_5": float(right.any(1).mean()),
        }
        if len(set(self.best[:, 0])) == 1 and not right[:, 0].all():
            figures["only_answer"] = int(self.best[0, 0])
        return figures

    def tell_of_none(self, min_probability: float) -> str | None:
        """A line on the pictures of which no class reaches a least probability, where that is
        above 0 and `highest` is kept.
        """
        if not min_probability or self.highest is None:
            return None
        none = np.count_nonzero(self.highest.astype(np.float32) < np.float32(min_probability))
        return (
            f"{none} of {len(self.labels)} pictures are answered {NONE!r}"
            f" (min_probability={min_probability:g}); the figures count the best class all the"
            " same."
        )

    def by_class(self, class_names: Sequence[str]) -> list[dict]:
        """A dict for each class that has pictures, the worst by top-1 error first: class, pictures,
        top_1_error, top_5_error, and most_common_wrong (a class, or None where all answers are
        right) with the number of its pictures, wrong_pictures.
        """
        rows = []
        for label, name in enumerate(class_names):
            best = self.best[self.labels == label]
            wrong = collections.Counter(best[best[:, 0] != label, 0].tolist())
            if len(best):
                answer, count = min(
                    wrong.items(), key=lambda item: (-item[1], item[0]), default=(None, 0)
                )
                rows.append(
                    {
                        "class": name,
                        "pictures": len(best),
                        "top_1_error": wrong.total() / len(best),
                        "top_5_error": float((best != label).all(1).mean()),
                        "most_common_wrong": None if answer is None else class_names[answer],
                        "wrong_pictures": count,
                    }
                )
        return sorted(rows, key=lambda row: -row["top_1_error"])

    def confusions(self, class_names: Sequence[str]) -> list[tuple[str, str, int]]:
        """[(class, the wrong answer given, number of pictures), ...], the most frequent first."""
        wrong = self.best[:, 0] != self.labels
        pairs = collections.Counter(zip(self.labels[wrong].tolist(), self.best[wrong, 0].tolist()))
        return [
            (class_names[label], class_names[answer], count)
            for (label, answer), count in sorted(
                pairs.items(), key=lambda item: (-item[1], item[0])
            )
        ]
