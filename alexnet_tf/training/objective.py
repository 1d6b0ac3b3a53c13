"""What a training makes smaller: the loss, weights of classes, smoothed labels, images of one's own
making.
"""

import collections
import contextlib
import dataclasses
import functools
import inspect
import json
import pickle
import random
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any, NoReturn

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf import bounds
from alexnet_tf.data.splits import converted
from alexnet_tf.errors import UserError, first_few, one_line
from alexnet_tf.network import surgery
from alexnet_tf.pixels import Preprocessing

# Below it is the highest number of a picture of all levels that was divided by 255, or by its
# deviation.
_LOWEST_HIGH = 4


_HINGES = keras.losses.hinge, keras.losses.squared_hinge
_SOFTMAX = "targets, tf.nn.softmax(logits)"
# Losses of Keras that say by no argument what they are of, which is not logits and targets from 0
# to 1: most of them train all the same, and something else. What they want, and how to give it.
_OF_OTHERS = (
    (keras.losses.kl_divergence, "probabilities", _SOFTMAX),
    (keras.losses.poisson, "probabilities", _SOFTMAX),
    (keras.losses.mean_squared_logarithmic_error, "probabilities", _SOFTMAX),
    (keras.losses.dice, "probabilities", f"{_SOFTMAX}, axis=1"),
    (keras.losses.tversky, "probabilities", f"{_SOFTMAX}, axis=1"),
    (
        keras.losses.categorical_generalized_cross_entropy,
        "labels and probabilities",
        "tf.argmax(targets, 1), tf.nn.softmax(logits), 0.5",
    ),
    *((hinge, "targets of -1 and 1", "2 * targets - 1, logits") for hinge in _HINGES),
    (keras.losses.mean_absolute_percentage_error, "targets that are not 0", ""),
    (keras.losses.circle, "embeddings", ""),
    (keras.losses.sparse_categorical_crossentropy, "labels", ""),
)


@dataclasses.dataclass(frozen=True)
class Objective:
    """The default is the mean cross-entropy. Evaluation is of that, whatever a training is of.

    `loss(targets, logits)`: float32 [n, classes] both, targets being shares that sum to 1, to the
    losses, float32 [n]. `class_weights`: what a picture counts, by the number of its class (a
    sequence, one for each) or by name or number (a dict; 1 where a class is not in it); the mean is
    over the pictures, as Keras has it, not over their weights. `label_smoothing`: this share of
    each target is spread over all classes. `augment(images, targets, seed)`, float32 [n, s, s, c]
    in 0..255 and [n, classes] to others of the same shapes, on a replica's part of a batch; its
    randomness belongs to `seed`, int64 [2], as tf.random.stateless_uniform takes it: then a
    training that is started again goes on to the same bits.
    """

    loss: Callable | None = None
    class_weights: Any = None
    label_smoothing: float = 0.0
    augment: Callable | None = None

    def __post_init__(self) -> None:
        smoothing = bounds.number(self.label_smoothing, "label_smoothing", 1)
        object.__setattr__(self, "label_smoothing", smoothing)
        if hasattr(given := self.class_weights, "keys"):  # a Series of pandas is no Mapping
            given = {
                name.item() if isinstance(name, np.generic) else name: bounds.number(
                    weight, "class_weights"
                )
                for name, weight in given.items()
            }
        elif given is not None:
            if not np.ndim(given) or isinstance(given, Set):
                raise UserError(
                    f"class_weights={given}: pass a dict by class name, or a list in the order of "
                    "the classes."
                )
            given = tuple(bounds.number(weight, "class_weights") for weight in given)
        object.__setattr__(self, "class_weights", given)
        _check_loss(self.loss, is_soft=bool(smoothing or self.augment))

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
            by_name = {_class_of(key, class_names): weight for key, weight in given.items()}
            if strange := by_name.keys() - set(class_names):
                raise UserError(
                    f"class_weights={given}: there is no class {min(strange, key=str)!r}; there are"
                    f" {first_few(map(repr, class_names), 10)}."
                )
            if len(by_name) < len(given):
                raise UserError(f"class_weights={given} has two numbers for one class; pass one.")
            given = [by_name.get(name, 1.0) for name in class_names]
        if len(given) != len(class_names) or not any(given):
            raise UserError(
                f"class_weights={self.class_weights}: pass a number for each of the "
                f"{len(class_names)} classes, not all 0, or a dict by name."
            )
        return tuple(given)

    def check(self, rows: int, pixels: Preprocessing, class_names: tuple) -> None:
        """Raises UserError unless `augment` leaves the shapes of `rows` images and targets as they
        are, and `loss` gives a number for each, with a gradient by the logits. They are traced, and
        not run: of shapes that only a run tells, `try_out` does.
        """
        images, targets = _shapes(rows, pixels, class_names)
        if self.augment:
            made = _traced("augment", self.augment, (images, targets), tf.TensorSpec([2], tf.int64))
            _check_augmented(made, images, targets)
        if self.loss:
            made, gradient = _traced("loss", _with_gradient(self.loss), (targets, targets))
            _check_losses(made, targets)
            if gradient is None:
                raise UserError(
                    "loss= has no gradient with respect to the logits, so nothing would be "
                    "learnt; compute it with what TensorFlow can differentiate, without argmax, "
                    "bare comparisons or tf.numpy_function."
                )

    def try_out(self, rows: int, pixels: Preprocessing, class_names: tuple) -> None:
        """Raises UserError if `augment` cannot be computed of `rows` images of all levels, or makes
        others of them than 0..255: evaluation is of those; and if `loss` cannot be computed, or
        does not fall where the logits of the right classes rise from -1, as one of probabilities.
        """
        images, targets = _shapes(rows, pixels, class_names)
        labels = tf.one_hot(tf.range(rows) % targets[-1], targets[-1])
        if self.augment:
            levels = tf.constant(_all_levels(images), tf.float32)
            made = _computed(
                "augment", self.augment, "pictures", levels, labels, tf.zeros([2], tf.int64)
            )
            _check_augmented(made, images, targets)
            _check_levels("augment", tf.nest.flatten(made)[0])
        if self.loss:
            logits = -tf.ones(targets)  # which no probabilities are
            with tf.GradientTape() as tape:
                tape.watch(logits)
                made = _computed("loss", self.loss, "logits", labels, logits)
            _check_losses(made, targets)
            if not tf.reduce_sum(labels * tape.gradient(made, logits)) < 0:  # NaN is not either
                raise UserError(
                    f"loss={name_of(self.loss)} does not fall where the logits of the right classes"
                    " rise from -1; if it is a loss of probabilities, pass lambda targets, logits: "
                    "LOSS(targets, tf.nn.softmax(logits)), with it as LOSS."
                )

    def judge(self, class_names: tuple) -> Callable:
        """A function of targets and logits, float32 [n, classes] both, to (losses float32 [n],
        whether each best answer is the largest target, bool [n]). Raises UserError as `weights`.
        """
        weights = self.weights(class_names)

        def judge(targets: tf.Tensor, logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            logits = tf.cast(logits, tf.float32)  # of a mixed policy's half precision
            smooth = targets * (1 - self.label_smoothing) + self.label_smoothing / len(class_names)
            if self.loss is None:
                losses = tf.nn.softmax_cross_entropy_with_logits(smooth, logits)
            else:
                losses = tf.ensure_shape(
                    tf.cast(converted(self.loss)(smooth, logits), tf.float32), targets.shape[:1]
                )
            if weights is not None:
                losses *= tf.linalg.matvec(targets, tf.constant(weights, tf.float32))
            return losses, tf.argmax(logits, -1) == tf.argmax(targets, -1)

        return judge

    def describe(self) -> dict:
        """What is not as usual, for the settings of a model: JSON."""
        entries = {
            "loss": name_of(self.loss),
            "label_smoothing": self.label_smoothing or None,
            "class_weights": self.class_weights,
            "augment": name_of(self.augment),
        }
        return {name: value for name, value in entries.items() if value is not None}


def _class_of(key: Any, class_names: tuple) -> Any:
    """The name of the class that `key` of class_weights is of: a number is its place, as Keras has
    it, but where it is the name of a class at another place.
    """
    if not isinstance(key, int | np.integer) or not 0 <= key < len(class_names):
        return key
    return key if str(key) in class_names and class_names[key] != str(key) else class_names[key]


def _shapes(rows: int, pixels: Preprocessing, class_names: tuple) -> tuple[tuple, tuple]:
    """Those of `rows` images and of their targets."""
    side = pixels.image_size
    return (rows, side, side, pixels.channels), (rows, len(class_names))


def _shape_of(made: Any) -> tf.TensorShape:
    return tf.TensorShape(getattr(made, "shape", ()))


def _check_augmented(made: Any, images: tuple, targets: tuple) -> None:
    """Raises UserError where `augment` has made what cannot have the shapes that it got."""
    if not isinstance(made, list | tuple) or any(map(tf.nest.is_nested, made)):
        shapes = tf.nest.map_structure(lambda one: str(_shape_of(one)), made)
        raise UserError(f"augment= returns {one_line(shapes)}; it has to return (images, targets).")
    found = list(map(_shape_of, made))
    if len(found) != 2 or not all(map(tf.TensorShape.is_compatible_with, found, (images, targets))):
        raise UserError(
            f"augment= makes {' and '.join(map(str, found))} of {images} and {targets}; images and"
            " targets have to keep their shapes."
        )


def _check_losses(made: Any, targets: tuple) -> None:
    """Raises UserError where `loss` has given what cannot be a number for each picture."""
    if not (shape := _shape_of(made)).is_compatible_with(targets[:1]):
        raise UserError(
            f"loss= returns the shape {shape} for targets and logits of {targets}; it has to "
            f"return a number for each picture, {targets[:1]}."
        )


def _with_gradient(loss: Callable) -> Callable:
    """`loss`, and its gradient by the logits, or None, as a training takes it."""

    def with_gradient(targets: tf.Tensor, logits: tf.Tensor) -> tuple:
        made = converted(loss)(targets, logits)
        return made, tf.gradients(tf.cast(made, tf.float32), logits)[0]

    return with_gradient


def _traced(name: str, function: Callable, shapes: Iterable[tuple], *others: Any) -> Any:
    """What `function` gives for float32 of these `shapes`. Raises UserError as `_graph_of`."""
    given = [tf.TensorSpec(shape, tf.float32) for shape in shapes]
    of = " and ".join(map(str, shapes))
    return _graph_of(name, function, of, *given, *others).structured_outputs


def _graph_of(name: str, function: Callable, of: str, *specs: Any) -> Any:
    """`function` as TensorFlow traces it for `specs`, which `of` describes. Raises UserError where
    it cannot, and where Python or NumPy draw numbers meanwhile: they would be the same in all
    steps. Keras draws a seed the first time that it is asked, so a second graph is looked at.
    """
    try:
        first = converted(function).get_concrete_function(*specs)
        with surgery.drawing_apart():  # another thread's training draws too
            before = _random_state()
            second = converted(function).get_concrete_function(*specs)
            is_drawn = before != _random_state()
    except Exception as error:  # of whoever wrote the function
        raise _cannot(name, of, error) from error
    if is_drawn or _constants(first) != _constants(second):
        raise UserError(
            f"{name}= draws with Python or NumPy, once for the whole training: all steps would "
            "get the same numbers; draw with tf.random.stateless_uniform and `seed`, or inside "
            "tf.numpy_function."
        )
    return first


def _random_state() -> bytes:
    return pickle.dumps((random.getstate(), np.random.get_state()))


def _constants(graph: Any) -> collections.Counter:
    """The constants of a function that was traced, and of those that it calls."""
    told = graph.graph.as_graph_def()
    nodes = [*told.node, *(node for one in told.library.function for node in one.node_def)]
    return collections.Counter(
        node.attr["value"].SerializeToString() for node in nodes if node.op == "Const"
    )


def _computed(name: str, function: Callable, of: str, *arguments: Any) -> Any:
    """What `function` gives. Raises UserError where it cannot be computed."""
    try:
        return converted(function)(*arguments)
    except Exception as error:  # of whoever wrote the function
        raise _cannot(name, of, error) from error


def _cannot(name: str, of: str, error: Exception) -> UserError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
    return UserError(f"{name}= cannot be computed for {of}: {reason[:200]}")


def _all_levels(shape: tuple) -> np.ndarray:
    """uint8 of all levels, as 97 has no divisor in common with 256."""
    return (np.arange(np.prod(shape)) * 97 % 256).astype(np.uint8).reshape(shape)


def _check_levels(name: str, image: Any) -> None:
    """Raises UserError for what was made of _all_levels and cannot be levels of 0..255: divided by
    255, or normalised.
    """
    low, high = (float(reduce(tf.cast(image, tf.float32))) for reduce in (np.min, np.max))
    if high < _LOWEST_HIGH:
        raise UserError(
            f"{name}= makes numbers from {low:.4g} to {high:.4g} out of levels from 0 to 255; "
            "keep them in 0..255: the mean is subtracted afterwards, and evaluation uses such "
            "levels."
        )


def check_crop(crop: Callable, pixels: Preprocessing) -> None:
    """Raises UserError unless `crop(image, pixels, seed)` gives uint8 [image_size, image_size,
    channels] for uint8 [height, width, 3], of levels of 0..255.
    """
    wanted = (pixels.image_size, pixels.image_size, pixels.channels)
    of = "uint8 [height, width, 3]"

    def cut(image: tf.Tensor, seed: tf.Tensor) -> Any:
        return crop(image, pixels, seed)

    specs = tf.TensorSpec([None, None, 3], tf.uint8), tf.TensorSpec([2], tf.int64)
    graph = _graph_of("crop", cut, of, *specs)
    made = graph.structured_outputs
    shape, kind = _shape_of(made), getattr(made, "dtype", None)
    if kind != tf.uint8:
        raise UserError(
            f"crop= returns {kind.name if kind else type(made).__name__} for {of}; it has to "
            "return levels in 0..255 as uint8: tf.cast(tf.round(image), tf.uint8), for an image "
            "in 0..255."
        )
    _check_cropped(shape, of, wanted)
    # Of a picture that is large enough for most crops; odd, so that no row is as the one before.
    side = 2 * max(pixels.resize, 128) + 1
    with contextlib.suppress(tf.errors.OpError):  # else the first picture that it is told of
        image = tf.constant(_all_levels((side, side, 3)))
        made = graph(image, tf.zeros([2], tf.int64))
        _check_cropped(_shape_of(made), of, wanted)
        _check_levels("crop", made)


def _check_cropped(shape: tf.TensorShape, of: str, wanted: tuple) -> None:
    if not shape.is_compatible_with(wanted):
        raise UserError(
            f"crop= returns the shape {shape} for {of}; it has to return {wanted}, as "
            "preprocessing= says."
        )


def judge_labels(labels: tf.Tensor, logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """As Objective().judge, of `labels`, int64 [n]: the same numbers without the detour."""
    logits = tf.cast(logits, tf.float32)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    return losses, tf.argmax(logits, -1) == labels


def _check_loss(loss: Callable | None, is_soft: bool) -> None:
    """Raises UserError for a loss of Keras that is not of targets and logits, or gives one number
    for all pictures, as its defaults are, and for what is no function. `is_soft`: targets may be
    others than 0 and 1.
    """
    if loss is None:
        return
    if not callable(loss):
        raise UserError(f"loss={loss}: pass a function of targets and logits.")
    if isinstance(loss, type):
        _refuse_class(loss)
    called = getattr(loss, "name", None) or name_of(loss)
    function = _function_of(loss)
    for of_others, wanted, arguments in _OF_OTHERS:
        # Keras makes -1 and 1 of 0 and 1 by itself, and of nothing between.
        if function is of_others and (is_soft or of_others not in _HINGES):
            call = f"lambda targets, logits: keras.losses.{of_others.__name__}({arguments})"
            raise UserError(
                f"loss={called} wants {wanted}, but it gets targets from 0 to 1 and logits; pass "
                f"{call if arguments else 'another, or none for the cross-entropy'}."
            )
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
                f"loss={called} has {name}={told[name]!r}, but it gets logits and has to return a "
                f"number for each picture; {how} {name}={wanted}."
            )


def _refuse_class(loss: type) -> NoReturn:
    """Raises UserError, with what makes a loss of a class."""
    wanted = {"from_logits": "True", "reduction": '"none"'}
    known = inspect.signature(loss).parameters if issubclass(loss, keras.losses.Loss) else {}
    given = ", ".join(f"{name}={value}" for name, value in wanted.items() if name in known)
    raise UserError(f"loss={loss.__name__} is a class; pass an instance, {loss.__name__}({given}).")


def _function_of(loss: Callable) -> Any:
    """The function of Keras that `loss` computes, if it is one, a partial one or a class of it."""
    while isinstance(loss, functools.partial):
        loss = loss.func
    if type(loss).__module__.startswith("keras."):  # and not what a user has made of one of these
        return getattr(loss, "fn", loss)
    return loss


def name_of(function: Any) -> str | None:
    """The name of a function, or of the class of another object, with its configuration if it is
    one of Keras: the same in every process.
    """
    if function is None:
        return None
    if isinstance(function, functools.partial):
        return name_of(function.func)
    if not hasattr(function, "__qualname__"):
        told = f"{type(function).__module__}.{type(function).__qualname__}"
        if not hasattr(function, "get_config"):
            return told
        # Keras gives names anew to each one of a process.
        config = {key: value for key, value in function.get_config().items() if key != "name"}
        return f"{told}({json.dumps(config, sort_keys=True, default=_in_config)})"
    return f"{getattr(function, '__module__', '')}.{function.__qualname__}"


def _in_config(value: Any) -> Any:
    """A `value` in the configuration of an object of Keras that JSON has no word for."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else name_of(value)
