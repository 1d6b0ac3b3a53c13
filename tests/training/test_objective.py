"""What a training may be of: what a loss of Keras and a function of one's own have to be, and that
nothing else is taken for it.
"""

import concurrent.futures
import functools
import random
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import losses

from alexnet_tf.errors import UserError
from alexnet_tf.network import surgery
from alexnet_tf.preprocessing import Preprocessing
from alexnet_tf.training import objective
from alexnet_tf.training.objective import Objective

PIXELS = Preprocessing(image_size=12, resize=14, channels=1, mean=(120.0,), std=64.0)
NAMES = ("a", "b", "c")


def check(**parts):
    made = Objective(**parts)
    made.check(6, PIXELS, NAMES)
    made.try_out(6, PIXELS, NAMES)


@pytest.mark.parametrize(
    "loss",
    [
        losses.KLDivergence(reduction="none"),
        losses.KLDivergence(),
        losses.kl_divergence,
        functools.partial(losses.kl_divergence),
        losses.Poisson(reduction="none"),
        losses.MeanSquaredLogarithmicError(reduction="none"),
        losses.Dice(reduction="none", axis=(1,)),
        functools.partial(losses.tversky, axis=1),
        losses.CategoricalGeneralizedCrossEntropy(reduction="none"),
    ],
)
def test_a_loss_of_probabilities_is_refused_with_one_that_learns(loss):
    with pytest.raises(UserError, match="wants (labels and )?probabilities, but it gets") as error:
        Objective(loss)
    assert "\n" not in str(error.value)
    instead = eval(
        re.search(r"pass (lambda .*)\.$", str(error.value))[1], {"keras": keras, "tf": tf}
    )
    check(loss=instead)
    logits = tf.Variable(tf.zeros([4, 3]))
    targets = tf.one_hot([0, 1, 2, 1], 3)
    for _ in range(20):
        with tf.GradientTape() as tape:
            loss_now = tf.reduce_sum(instead(targets, logits))
        logits.assign_sub(tape.gradient(loss_now, logits))
    assert tf.argmax(logits, 1).numpy().tolist() == [0, 1, 2, 1]


@pytest.mark.parametrize(
    "loss,message",
    [
        (
            losses.MeanAbsolutePercentageError(reduction="none"),
            "targets that are not 0, .* another",
        ),
        (losses.circle, "wants embeddings, .* pass another"),
        (losses.SparseCategoricalCrossentropy(True), "wants labels, .* another, or none for the"),
        (losses.sparse_categorical_crossentropy, "wants labels"),
    ],
)
def test_a_loss_of_something_else_is_refused(loss, message):
    with pytest.raises(UserError, match=message):
        Objective(loss)


@pytest.mark.parametrize(
    "make,told",
    [
        (
            lambda *both: {"images": both[0], "labels": both[1]},
            r"{'images': '\(6, 12, 12, 1\)', .*",
        ),
        (lambda *both: [both[0], [both[1]]], r"\[.*, \['\(6, 3\)'\]\]"),
        (lambda *both: both[0], r"\(6, 12, 12, 1\)"),
    ],
)
def test_an_augmentation_gives_a_pair(make, told):
    with pytest.raises(UserError, match=f"returns {told}; it has to return .images, targets."):
        check(augment=lambda images, targets, seed: make(images, targets))
    check(augment=lambda images, targets, seed: [images, targets])


def test_a_class_is_refused_with_what_is_taken():
    with pytest.raises(UserError, match="is a class; pass an instance") as error:
        Objective(losses.CategoricalCrossentropy)
    instead = re.search(r"instance, (.*)\.$", str(error.value))[1]
    check(loss=eval(instead, {"CategoricalCrossentropy": losses.CategoricalCrossentropy}))
    with pytest.raises(UserError, match=r"instance, Huber\(reduction=.none.\)"):
        Objective(losses.Huber)


@pytest.mark.parametrize(
    "loss",
    [
        losses.CategoricalHinge(reduction="none"),
        losses.CosineSimilarity(reduction="none"),
        losses.mean_squared_error,
        losses.Huber(reduction="none"),
        losses.log_cosh,
        functools.partial(losses.binary_focal_crossentropy, from_logits=True),
    ],
)
def test_a_loss_of_scores_is_taken(loss):
    check(loss=loss, label_smoothing=0.1, class_weights=[1, 2, 3])


def _focal(targets, probabilities):
    shares = probabilities / tf.reduce_sum(probabilities, 1, keepdims=True)
    shares = tf.clip_by_value(shares, 1e-7, 1 - 1e-7)
    return tf.reduce_sum((1 - shares) ** 2 * -targets * tf.math.log(shares), 1)


@pytest.mark.parametrize(
    "loss",
    [
        _focal,
        lambda targets, shares: losses.categorical_crossentropy(targets, shares),
        lambda targets, shares: losses.dice(targets, shares, axis=1),
        lambda targets, shares: -tf.reduce_sum(targets * tf.math.log(shares + 1e-7), 1),
        lambda targets, shares: tf.reduce_sum((targets - tf.clip_by_value(shares, 0, 1)) ** 2, 1),
    ],
)
def test_a_loss_of_ones_own_of_probabilities_is_refused(loss):
    with pytest.raises(UserError, match=r"^loss=.* does not fall .*tf.nn.softmax\(logits\)"):
        check(loss=loss)
    check(loss=lambda targets, logits: loss(targets, tf.nn.softmax(logits)))


def test_a_loss_that_is_made_of_one_of_probabilities_is_taken():
    class OfLogits(losses.KLDivergence):
        def call(self, targets, logits):
            return super().call(targets, tf.nn.softmax(logits))

    check(loss=OfLogits(reduction="none"))


@pytest.mark.parametrize("loss", [losses.hinge, losses.SquaredHinge(reduction="none")])
def test_a_hinge_is_of_whole_labels(loss):
    """Of 0 and 1 Keras makes -1 and 1; 0.03 it would take for an answer that is nearly right."""
    check(loss=loss)
    for soft in (
        {"label_smoothing": 0.1},
        {"augment": lambda images, targets, seed: (images, targets)},
    ):
        with pytest.raises(UserError, match=r"targets of -1 and 1, .*hinge\(2 \* targets - 1, log"):
            Objective(loss, **soft)


@pytest.mark.parametrize(
    "loss",
    [
        lambda targets, logits: tf.cast(tf.argmax(logits, 1) != tf.argmax(targets, 1), tf.float32),
        lambda targets, logits: tf.argmax(logits, 1),
        lambda targets, logits: tf.reduce_sum(targets, 1),
        lambda targets, logits: tf.numpy_function(
            lambda a, b: (a * b).sum(1), [targets, logits], tf.float32
        ),
    ],
)
def test_a_loss_without_a_gradient_is_refused(loss):
    with pytest.raises(
        UserError, match="^loss= has no gradient with respect to the logits, so nothing .*; comp"
    ):
        Objective(loss).check(6, PIXELS, NAMES)


def by_python(function, *of, kind=tf.float32):
    return tf.py_function(function, of, kind)


GENERATOR = np.random.default_rng(0)


def test_what_another_thread_draws_meanwhile_is_not_taken_for_a_functions_own():
    may_draw = []

    def augment(images, targets, seed):
        may_draw.append(another.submit(surgery._DRAWING.acquire, blocking=False).result())
        if may_draw[-1]:
            another.submit(surgery._DRAWING.release).result()
        return images * 1.0, targets

    with concurrent.futures.ThreadPoolExecutor(1) as another:
        check(augment=augment)
    assert False in may_draw


@pytest.mark.parametrize(
    "draw",
    [random.random, np.random.rand, GENERATOR.uniform, lambda: float(random.random() < 0.5)],
)
def test_what_python_draws_once_is_refused(draw):
    """As a graph it would be one number for the whole training."""
    with pytest.raises(UserError, match="^augment= draws with Python or NumPy, once for the whole"):
        check(augment=lambda images, targets, seed: (images * (0.5 + draw() / 2), targets))
    with pytest.raises(UserError, match="^loss= draws with Python or NumPy, once for the whole"):
        check(loss=lambda targets, logits: tf.reduce_sum((targets - logits) ** 2, 1) * draw())

    def crop(image, pixels, seed):
        row = int(2 * draw())
        return image[row : row + 12, :12, :1]

    with pytest.raises(UserError, match="^crop= draws with Python or NumPy, once for the whole"):
        for _ in range(9):  # it takes another row of two half of the times
            objective.check_crop(crop, PIXELS)


@pytest.mark.parametrize(
    "factor",
    [
        lambda seed: tf.random.stateless_uniform([], seed),
        lambda seed: tf.random.uniform([]),
        lambda seed: keras.random.uniform([]),
        lambda seed: tf.numpy_function(lambda: np.float32(np.random.rand()), [], tf.float32),
        lambda seed: tf.constant(np.linspace(0, 1, 5)[3], tf.float32),
    ],
)
def test_what_a_graph_draws_is_taken(factor):
    check(augment=lambda images, targets, seed: (images * (0.5 + factor(seed) / 2), targets))


def test_functions_that_tell_no_shape_are_tried_out():
    entropy = tf.nn.softmax_cross_entropy_with_logits
    check(loss=lambda targets, logits: by_python(entropy, targets, logits))
    with pytest.raises(UserError, match=r"loss= returns the shape \(6, 3\) for targets"):
        check(loss=lambda targets, logits: by_python(tf.subtract, targets, logits))
    with pytest.raises(UserError, match="loss= cannot be computed for logits: "):
        check(loss=lambda targets, logits: by_python(entropy, targets, logits[1:]))
    check(augment=lambda images, targets, seed: (by_python(tf.identity, images), targets))
    with pytest.raises(UserError, match=r"augment= makes \(5, 12, 12, 1\) and \(6, 3\) of"):
        check(augment=lambda images, targets, seed: (by_python(lambda x: x[1:], images), targets))
    with pytest.raises(UserError, match="augment= returns <unknown>; it has to return"):
        check(augment=lambda images, targets, seed: by_python(tf.identity, images))

    def crop(side):
        def cut(image, pixels, seed):
            return by_python(lambda x: x[:12, :side, :1], image, kind=tf.uint8)

        return cut

    objective.check_crop(crop(12), PIXELS)
    with pytest.raises(UserError, match=r"crop= returns the shape \(12, 11, 1\) for uint8"):
        objective.check_crop(crop(11), PIXELS)
    # for pictures of one size, which is not that of the one that it is tried on
    objective.check_crop(
        lambda image, *_: tf.ensure_shape(image, (14, 14, 3))[1:13, 1:13, :1], PIXELS
    )


@pytest.mark.parametrize(
    "names,weights", [((0, 1), (2.0, 4.0, 1.0)), (("b", "c"), (1.0, 2.0, 4.0))]
)
def test_classes_may_be_named_by_numpy(names, weights):
    """As zip(np.unique(labels), weights) makes them, for scikit-learn."""
    made = Objective(class_weights=dict(zip(np.array(names), (2, 4))))
    assert made.weights(NAMES) == weights
    assert {type(name) for name in made.describe()["class_weights"]} == {type(names[0])}


def test_a_series_of_pandas_is_by_its_keys_and_not_in_its_order():
    """As labels.value_counts() of pandas gives it, the most frequent class first."""

    class Series:
        ndim = 1

        def keys(self):
            return ["c", "b", "a"]

        def items(self):
            return zip(self.keys(), self)

        def __iter__(self):
            return iter([3.0, 2.0, 1.0])

    assert Objective(class_weights=Series()).weights(NAMES) == (1, 2, 3)
