"""What a training makes smaller: the loss, weights of classes, smoothed labels, images of one's own
making.
"""

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf import bounds
from alexnet_tf.errors import UserError
from alexnet_tf.pixels import Preprocessing


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
        smoothing = bounds.number(self.label_smoothing, "label_smoothing", 1)
        object.__setattr__(self, "label_smoothing", smoothing)
        if isinstance(given := self.class_weights, Mapping):
            given = {name: bounds.number(given[name], "class_weights") for name in given}
        elif given is not None:
            if not np.ndim(given) or isinstance(given, Set):
                raise UserError(
                    f"class_weights={given}: pass a dict by name, or a list in their order."
                )
            given = tuple(bounds.number(weight, "class_weights") for weight in given)
        object.__setattr__(self, "class_weights", given)
        _check_loss(self.loss)

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
        if len(given) != len(class_names) or not any(given):
            raise UserError(
                f"class_weights={self.class_weights}: write a number, not 0 for all, for each of "
                f"the {len(class_names)} classes, or a dict by name."
            )
        return tuple(given)

    def check(self, rows: int, pixels: Preprocessing, class_names: tuple) -> None:
        """Raises UserError unless `augment` leaves the shapes of `rows` images and targets as they
        are, and `loss` gives a number for each. They are traced, and not run.
        """
        side, classes = pixels.image_size, len(class_names)
        images, targets = (rows, side, side, pixels.channels), (rows, classes)
        if self.augment:
            made = _traced("augment", self.augment, (images, targets), tf.TensorSpec([2], tf.int64))
            found = [tuple(getattr(new, "shape", ())) for new in tf.nest.flatten(made)]
            if found != [images, targets]:
                raise UserError(
                    f"augment= makes {' and '.join(map(str, found))} of {images} and {targets}; "
                    "images and targets have to keep their shapes."
                )
        if self.loss:
            made = _traced("loss", self.loss, (targets, targets))
            shape = tf.TensorShape(getattr(made, "shape", ()))
            if not shape.is_compatible_with([rows]):
                raise UserError(
                    f"loss= gives the shape {tuple(shape)} of targets and logits of {targets}; it "
                    f"has to give a number for each picture, {(rows,)}."
                )

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
            "class_weights": self.class_weights,
            "augment": _name(self.augment),
        }
        return {name: value for name, value in entries.items() if value is not None}


def _traced(name: str, function: Callable, shapes: Iterable[tuple], *others: Any) -> Any:
    """What `function` gives for float32 of these `shapes`. Raises UserError where it cannot."""
    given = [tf.TensorSpec(shape, tf.float32) for shape in shapes]
    traced = tf.function(lambda *arguments: function(*arguments))
    try:
        return traced.get_concrete_function(*given, *others).structured_outputs
    except Exception as error:  # of whoever wrote the function
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
        raise UserError(
            f"{name}= cannot be computed of {' and '.join(map(str, shapes))}: {reason[:200]}"
        ) from error


def judge_labels(labels: tf.Tensor, logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """As Objective().judge, of `labels`, int64 [n]: the same numbers without the detour."""
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    return losses, tf.argmax(logits, -1) == labels


def _check_loss(loss: Callable | None) -> None:
    """Raises UserError for a loss of Keras that is of probabilities, or gives one number for all
    pictures, as its defaults are, and for what is no function.
    """
    if loss is None:
        return
    if not callable(loss):
        raise UserError(f"loss={loss}: pass a function of targets and logits.")
    if isinstance(loss, keras.losses.Loss):
        told, how = loss.get_config() | {"reduction": loss.reduction}, "build it with"
    else:
        told = {}
        with contextlib.suppress(ValueError):  # of what is written in C
            told = {one.name: one.default for one in inspect.signature(loss).parameters.values()}
        how = "wrap it in functools.partial with"
    for name, wrong, wanted in (
        ("from_logits", (False,), "True"),
        ("reduction", ("sum", "mean", "sum_over_batch_size", "mean_with_sample_weight"), "'none'"),
    ):
        if told.get(name) in wrong:
            raise UserError(
                f"loss={getattr(loss, 'name', None) or _name(loss)} has {name}={told[name]!r}, and "
                f"it gets logits and is to give a number for each picture; {how} {name}={wanted}."
            )


def _name(function: Callable | None) -> str | None:
    if function is None:
        return None
    if isinstance(function, functools.partial):
        function = function.func
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', function)}"
