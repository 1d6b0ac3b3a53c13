"""Evaluation: what classifiers say to every picture of a split under any tf.distribute strategy."""

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf import bounds, console, preprocessing
from alexnet_tf.classifiers import TOP, Answers, Classifier
from alexnet_tf.data import pipeline
from alexnet_tf.data.copies import SAYS_LITTLE
from alexnet_tf.data.splits import Dataset, Split
from alexnet_tf.errors import UserError
from alexnet_tf.network import surgery
from alexnet_tf.pixels import Preprocessing
from alexnet_tf.training import checkpoints, devices


def evaluate_split(
    strategy: tf.distribute.Strategy,
    model: keras.Model,
    pixels: Preprocessing,
    split: Split,
    batch_size: int,
    on_batch: Callable[[int], None] | None = None,
) -> dict:
    """Returns {"examples", "loss", "top_1", "top_5"} of `model` over all pictures of a
    splits.Split, from their centre.

    Every picture counts once; `loss` is the mean cross-entropy in nats, the others are shares of
    correct answers in 0..1. A picture that cannot be read is told and not counted. Raises UserError
    for weights or answers that are not finite. `on_batch(pictures)` is called after each batch with
    the number of its pictures.
    """
    return of_model(strategy, model, pixels, split, batch_size).answers(on_batch)[0].figures()


def of_model(
    strategy: tf.distribute.Strategy,
    model: keras.Model,
    pixels: Preprocessing,
    split: Split,
    batch_size: int,
) -> "Evaluation":
    """The Evaluation that evaluate_split takes its figures from."""
    classifier = Classifier("", model_probabilities(model, pixels), pixels, (), {})
    return Evaluation(strategy, [classifier], split, batch_size)


def check_classes(classifiers: Iterable[Classifier], of: Dataset | Classifier) -> None:
    """Raises UserError unless all of them have the classes of `of`, a Dataset or another, in the
    same order.
    """
    for classifier in classifiers:
        if tuple(classifier.class_names) != tuple(of.class_names):
            here, there = checkpoints.told_apart(list(classifier.class_names), list(of.class_names))
            raise UserError(
                f"{classifier.name} knows the classes {here}, but {of.name} has {there}; all models"
                " and the data set need the same, in the same order."
            )


def seen(split: Split, classifier: Classifier) -> int | None:
    """How many pictures of `split` the Classifier was trained on; None where that is not known."""
    known = classifier.record and split.identities is not None
    return int(classifier.record.has_seen(split.identities).sum()) if known else None


def tell_all_seen(
    split: Split, classifiers: Iterable[Classifier], note: Callable[[str], None] = console.note
) -> None:
    """Notes which of `classifiers` were trained on pictures of `split`, or may have been."""
    for classifier in classifiers:
        count = seen(split, classifier)
        if count is None:
            note(
                f"{classifier.name} has no record of what it was trained on: it may have seen these"
                " pictures."
            )
        elif count:
            note(tell_seen(classifier.name, count, f"these {split.examples} pictures"))


def tell_seen(name: str, count: int, pictures: str) -> str:
    """A line for a user: `name` was trained on `count` of `pictures`, such as "these pictures"."""
    return f"{name} was trained on {count} of {pictures}: {SAYS_LITTLE}."


def as_chosen(figures: dict) -> dict:
    """The figures of the pictures that chose: measurements are renamed validation_..., and the only
    answer is left out.
    """
    measured = ("examples", "bad_pictures", "loss", "top_1", "top_5")
    return {
        f"validation_{name}" if name in measured else name: value
        for name, value in without_only_answer(figures).items()
    }


def without_only_answer(figures: dict) -> dict:
    """`figures` that others are put beside, which have an only answer where there is one."""
    return {name: value for name, value in figures.items() if name != "only_answer"}


def as_reported(
    figures: dict,
    strategy: tf.distribute.Strategy,
    model: keras.Model,
    pixels: Preprocessing,
    dataset: Dataset,
    batch_size: int,
) -> tuple[dict, Answers | None]:
    """`figures` at the end of a training, and None; where those are of pictures that chose, with
    those of what `model` answers to the test split of the Dataset, and these Answers.
    """
    if not dataset.chose():
        return figures, None
    split = dataset.reported()
    (answered,) = of_model(strategy, model, pixels, split, batch_size).answers()
    return as_chosen(figures) | answered.figures() | {"evaluated_on": split.name}, answered


def check_finite(model: keras.Model) -> None:
    """Raises UserError for a weight of `model` that is not finite."""
    bounds.check_finite((variable.path, variable) for variable in model.variables)


def model_probabilities(
    model: keras.Model, pixels: Preprocessing
) -> Callable[[tf.Tensor], tf.Tensor]:
    """The function of a Classifier for a Keras model that puts out logits. Raises UserError for a
    weight that is not finite.

    Where a layer with weights puts out what is not finite, the picture's probabilities are NaN. The
    layers behind it may answer as ever: a pool takes NaN for the smallest of all numbers, and so do
    some kernels of ReLU.
    """
    check_finite(model)
    if getattr(
        model, "outputs", None
    ):  # what is not a graph of layers is judged by its answers alone
        hidden = [surgery.output_of(model, layer) for layer in model.layers[:-1] if layer.weights]
        model = keras.Model(model.inputs[0], [*model.outputs, *hidden])

    def from_images(images: tf.Tensor) -> tf.Tensor:
        logits, *hidden = tf.nest.flatten(
            model(preprocessing.to_network_input(images, pixels), training=False)
        )
        # no logit of a network that is alive is so low that its probability is 0
        logits = tf.cast(logits, tf.float64)
        for outputs in hidden:
            # Not by a sum: in float16 that of a sound map is more than its type holds.
            sound = tf.reduce_all(tf.math.is_finite(outputs), range(1, len(outputs.shape)))
            logits = tf.where(sound[:, None], logits, math.nan)
        return tf.nn.softmax(logits)

    return from_images


def answers(
    strategy: tf.distribute.Strategy,
    ensemble: Sequence[Classifier],
    split: Split,
    batch_size: int,
    weights: Sequence[float] | None = None,
    views: int = 1,
    on_batch: Callable[[int], None] | None = None,
) -> list[Answers]:
    """What an Evaluation of the same arguments answers, once."""
    return Evaluation(strategy, ensemble, split, batch_size, weights, views).answers(on_batch)


class Evaluation:
    """What each Classifier of `ensemble` says to every picture of a splits.Split, and what they say
    together: those of each, and, where there are several, those from the mean of their
    probabilities by `weights` (equal ones by default).

    From 10 `views`, the probabilities of each are the mean over preprocessing.ten_views, as the
    2012 source has it (LogregCostLayer::fpropActs in layer.cu); so the loss is that of the mean,
    not the mean of losses. Pictures are cropped once for each kind of pixels. What is built for the
    first answers serves later ones, whose weights may be others.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        ensemble: Sequence[Classifier],
        split: Split,
        batch_size: int,
        weights: Sequence[float] | None = None,
        views: int = 1,
    ) -> None:
        self._strategy, self._ensemble, self._split = strategy, ensemble, split
        self._steps = math.ceil(split.examples / batch_size)
        kinds = tuple(dict.fromkeys(classifier.pixels for classifier in ensemble))
        self._step = _make_step(strategy, ensemble, kinds, weights, views)
        crop = {1: preprocessing.central_crop, 10: preprocessing.ten_views}[views]
        self._batches = pipeline.EvaluationBatches(
            strategy,
            split,
            functools.partial(pipeline.evaluation_batches, split, kinds, batch_size, crop=crop),
        )

    def answers(self, on_batch: Callable[[int], None] | None = None) -> list[Answers]:
        """Answers, in a list. `on_batch` as for evaluate_split."""
        split = self._split
        labels, judgements, bad = [], [], []
        batches = iter(self._batches)
        for _ in range(self._steps):
            with devices.waiting(self._strategy):
                weight, label, numbers, judged = tf.nest.map_structure(
                    np.asarray, self._step(next(batches))
                )
            real = weight > 0  # the others fill up the last batch
            labels.append(label[real])
            bad += numbers[numbers >= 0].tolist()
            judgements.append([[value[real] for value in of_one] for of_one in judged])
            if on_batch:
                on_batch(len(labels[-1]))
        bad = sorted(set(bad))
        if len(bad) == split.examples:
            split.refuse_unreadable(bad[0])
        if bad and devices.is_chief(self._strategy):
            first = f"{split.describe_fault(bad[0])}{', ...' * (len(bad) > 1)}"
            console.note(f"{split.cannot_be_read(len(bad))} and are not counted: {first}")
        found = []
        unread = len(split.bad_pictures) + len(bad)  # at the start, and now
        for of_one in zip(*judgements):
            losses, best, highest = (np.concatenate(parts) for parts in zip(*of_one))
            found.append(Answers(np.concatenate(labels), losses, best, unread, highest))
        for classifier, one in zip(self._ensemble, found):
            if none := np.count_nonzero(np.isnan(one.losses)):
                raise UserError(
                    f"{classifier.name or 'The network'} answers {none} of the {len(one.losses)}"
                    f" pictures of {split.name} with NaN: {bounds.NOT_FINITE}"
                )
        return found


def _make_step(
    strategy: tf.distribute.Strategy,
    ensemble: Sequence[Classifier],
    kinds: Sequence[Preprocessing],
    weights: Sequence[float] | None,
    views: int,
) -> Callable[[Any], tuple]:
    """A function of a distributed batch of pictures, of each of `kinds` of pixels, to (weights,
    labels, numbers of bad pictures, what _judge makes of each Classifier's answers and of the
    mean of all).
    """
    shares = np.ones(len(ensemble)) if weights is None else np.array(weights, np.float64)
    shares /= shares.sum()
    least = np.array([classifier.least for classifier in ensemble])

    def replica_step(batch: Any) -> tuple:
        said: list[tf.Tensor] = []
        for classifier in ensemble:
            # after one another: memory holds the activations of one network
            with tf.control_dependencies(said[-1:]):
                images = batch["image"][kinds.index(classifier.pixels)]
                of_views = tf.cast(
                    classifier.probabilities(tf.reshape(images, [-1, *images.shape[-3:]])),
                    tf.float64,
                )
                said.append(
                    tf.reduce_mean(tf.reshape(of_views, [-1, views, of_views.shape[-1]]), axis=1)
                )
        together = (
            [tf.add_n([share * one for share, one in zip(shares, said)])] if len(said) > 1 else []
        )
        judged = [
            _judge(one, batch["label"], floor)
            for one, floor in zip(said + together, [*least.tolist(), float(shares @ least)])
        ]
        return batch["weight"], batch["label"], batch["bad"], judged

    @tf.function(autograph=False)
    def step(batch: Any) -> tuple:
        return tf.nest.map_structure(
            lambda value: devices.rows_of_all(strategy, value),
            strategy.run(replica_step, args=(batch,)),
        )

    return step


def _judge(
    probabilities: tf.Tensor, labels: tf.Tensor, least: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """(losses [n] in nats, the best classes [n, TOP], the probability [n] of the best of all).

    A probability below `least` counts as that, so that every loss is finite. After the best class,
    -1 stands where the others have the probability 0.
    """
    right = tf.gather(probabilities, labels, batch_dims=1)
    losses = -tf.math.log(tf.where(tf.math.is_nan(right), right, tf.maximum(right, least)))
    # Of equal ones the lower index: ties are no gift. Most classes have 0 in an output of 8 bits,
    # and then the first ones would be among the best of every picture.
    highest, best = tf.math.top_k(probabilities, min(TOP, probabilities.shape[-1]))
    if probabilities.shape[-1] > TOP:
        others = tf.where(highest[:, 1:] > 0, best[:, 1:], -1)
        best = tf.concat([best[:, :1], others], 1)
    return losses, best, highest[:, 0]
