"""What a training makes smaller: the loss, weights of classes, smoothed labels, images of one's own
making.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from alexnet_tf.errors import UserError


@dataclasses.dataclass(frozen=True)
class Objective:
    """The default is the mean cross-entropy. Evaluation is of that, whatever a training is of.

    `loss(targets, logits)`: float32 [n, classes] both, targets being shares that sum to 1, to the
    losses, float32 [n]. `class_weights`: what a picture counts, by the number of its class (a
    sequence, one for each) or by name (a dict; 1 where a class is not in it); the mean is over the
    pictures, as Keras has it, not over their weights. `label_smoothing`: this share of each target
    is spread over all classes. `augment(images, targets, seed)`, float32 [n, s, s, c] in 0..255 and
    [n, classes] to others of the same shapes, on a replica's part of a batch; its randomness
    belongs to `seed`, int64 [2], as tf.random.stateless_uniform takes it: then a training that is
    started again goes on to the same bits.
    """

    loss: Callable | None = None
    class_weights: Any = None
    label_smoothing: float = 0.0
    augment: Callable | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise UserError(f"label_smoothing={self.label_smoothing}: a share from 0 to below 1.")

    @property
    def is_plain(self) -> bool:
        """Whether the loss is the cross-entropy of labels, which is ln(classes) for guessing."""
        return self.loss is None and self.class_weights is None

    def weights(self, class_names: tuple) -> tuple | None:
        """A weight for each class, or None. Raises UserError where they do not fit."""
        given = self.class_weights
        if given is None:
            return None
        if isinstance(given, Mapping):
            if strange := set(given) - set(class_names):
                raise UserError(
                    f"class_weights={given}: there is no class {min(strange, key=str)}; there are "
                    f"{', '.join(class_names[:10])}{', ...' * (len(class_names) > 10)}."
                )
            given = [given.get(name, 1.0) for name in class_names]
        found = tuple(float(weight) for weight in given)
        if len(found) != len(class_names) or not all(0 <= weight < math.inf for weight in found):
            raise UserError(
                f"class_weights={self.class_weights}: write a number, 0 or more, for each of the "
                f"{len(class_names)} classes, or a dict by name."
            )
        return found

    def judge(self, class_names: tuple) -> Callable:
        """A function of targets and logits, float32 [n, classes] both, to (losses float32 [n],
        whether each best answer is the largest target, bool [n]). Raises UserError as `weights`.
        """
        weights = self.weights(class_names)

        def judge(targets: tf.Tensor, logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            smooth = targets * (1 - self.label_smoothing) + self.label_smoothing / len(class_names)
            if self.loss is None:
                losses = tf.nn.softmax_cross_entropy_with_logits(smooth, logits)
            else:
                losses = tf.ensure_shape(
                    tf.cast(self.loss(smooth, logits), tf.float32), targets.shape[:1]
                )
            if weights is not None:
                losses *= tf.linalg.matvec(targets, tf.constant(weights, tf.float32))
            return losses, tf.argmax(logits, -1) == tf.argmax(targets, -1)

        return judge

    def describe(self) -> dict:
        """What is not as usual, for the settings of a model: JSON."""
        entries = {
            "loss": _name(self.loss),
            "label_smoothing": self.label_smoothing or None,
            "class_weights": (
                self.class_weights
                if self.class_weights is None or isinstance(self.class_weights, dict)
                else list(map(float, self.class_weights))
            ),
            "augment": _name(self.augment),
        }
        return {name: value for name, value in entries.items() if value is not None}


def judge_labels(labels: tf.Tensor, logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """As Objective().judge, of `labels`, int64 [n]: the same numbers without the detour."""
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    return losses, tf.argmax(logits, -1) == labels


def _name(function: Callable | None) -> str | None:
    if function is None:
        return None
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', function)}"
