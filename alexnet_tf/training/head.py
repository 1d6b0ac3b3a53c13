"""Trains a projection alone, on features that are computed already: a whole epoch is one call, and
costs next to nothing. And how sure a network may be: the temperature of its logits.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.classifiers import TOP, Answers
from alexnet_tf.errors import UserError
from alexnet_tf.network.layers import Dropout
from alexnet_tf.training import checkpoints, devices, regression, steps
from alexnet_tf.training.best import Best
from alexnet_tf.training.features import Features
from alexnet_tf.training.metrics import Log
from alexnet_tf.training.optimizer import SGD2012, Plateau
from alexnet_tf.training.plan import Plan
from alexnet_tf.training.state import TrainingState

_CHUNK = 2**28  # bytes of features that are in memory at a time
# Of `fit`. A decay is that of the sum of the losses of all pictures, on features of length 1: half
# the square of the kernel is added so many times. It suits any number of pictures.
_DECAYS = (1.0, 0.1, 0.01, 1e-3, 1e-4)
_USUAL_DECAY = 0.01  # where no class has two pictures to choose by
_FOLDS = 5
# Pictures that choose: the choice costs little beside their features. Eight a class where there are
# many classes, up to twice as many.
_MOST_CHOOSING = 512
# Rows, a picture's views each: the products of all with all take less than passes over the rows.
_MOST_MULTIPLIED = 4096
_MOST_POWER = math.log(50)  # of a temperature, or of one over it
_NO_NUMBERS = (
    "The features of the frozen layers are not finite numbers; these weights cannot be used."
)


def train(
    head: keras.Model,
    optimizer: SGD2012,
    found: Features,
    plan: Plan,
    log: Log,
    progress: Callable,
    note: Callable[[str], None],
    calibrates: bool = False,
) -> TrainingState:
    """Trains `head`, a surgery.projection, on `found`, a Features; returns the state that belongs
    into a checkpoint.

    The steps are those of training.train: 2012's rule, the schedule, dropout drawn from the seed
    and the step. A picture's view is drawn again in each epoch. With a patience in `plan` the best
    weights are kept. Where the evaluation pictures may choose, it `calibrates` by them. Raises
    UserError if the loss is not finite.
    """
    views, examples, _ = found.train.shape
    steps_per_epoch = examples // plan.batch_size
    last_step = steps_per_epoch * plan.epochs
    optimizer.build(head.trainable_variables)
    run_steps = _make_steps(head, optimizer, plan.batch_size, plan.seed)
    chunk = max(1, _CHUNK // (found.train[0, :1].nbytes * plan.batch_size))  # steps
    if line := plan.never_reached(last_step):
        note(line)
    plateau, best, weights = Plateau(), Best(plan.patience), None
    with progress(plan.epochs * steps_per_epoch * plan.batch_size, "train") as bar:
        for epoch in range(plan.epochs):
            rng = np.random.default_rng((plan.seed, epoch))
            order = rng.permutation(examples)[: steps_per_epoch * plan.batch_size]
            view = rng.integers(views, size=len(order))
            sums = np.zeros(2)
            for begin in range(0, steps_per_epoch, chunk):
                rows = slice(begin * plan.batch_size, (begin + chunk) * plan.batch_size)
                step = epoch * steps_per_epoch + begin
                count = len(order[rows]) // plan.batch_size
                rates = [
                    plan.rate(step + index, last_step, plateau.drops) for index in range(count)
                ]
                sums += run_steps(
                    tf.constant(found.train[view[rows], order[rows]]),
                    tf.constant(found.train_labels[order[rows]]),
                    tf.constant(rates, tf.float32),
                    tf.constant(step, tf.int64),
                ).numpy()
                bar.update(count * plan.batch_size)
            done = (epoch + 1) * steps_per_epoch
            loss, top_1 = (float(value) for value in sums / len(order))
            figures = answers(head, found).figures() | {"step": done}
            if not math.isfinite(loss + figures["loss"]):
                raise UserError(
                    f"The loss is not finite in epoch {epoch + 1}; {checkpoints.IF_NOT_FINITE}"
                )
            plateau.after_epoch(1 - figures["top_1"])
            if best.after_epoch(done, figures):
                weights = head.get_weights()
            log.write(
                {
                    "step": done,
                    "epoch": epoch + 1,
                    "train_loss": loss,
                    "train_top_1": top_1,
                    "learning_rate": rates[-1],
                    **{name: figures[name] for name in ("loss", "top_1", "top_5")},
                }
            )
            bar.set_postfix_str(
                f"epoch {epoch + 1}/{plan.epochs}, loss {loss:.3f}, evaluation top-1"
                f" {figures['top_1']:.3f}"
            )
            if best.is_over:
                note(
                    f"stopped after epoch {epoch + 1}: {plan.patience} epochs without a lower "
                    "evaluation error"
                )
                break
    if plan.patience:
        head.set_weights(weights)
        figures = best.figures or figures
    temperature = 1.0
    if calibrates:
        temperature, _ = temperature_of(logits(head, found.evaluation[0]), found.evaluation_labels)
        figures = figures | answers(head, found, temperature).figures()
    return TrainingState(
        done,
        figures,
        best.state(),
        plateau.state(),
        learning_rate=rates[-1],
        temperature=temperature,
    )


@devices.full_float32()
def fit(
    head: keras.Model, found: Features, log: Log, progress: Callable, note: Callable[[str], None]
) -> TrainingState:
    """Fits `head`, a surgery.projection, to `found`, a Features, as a logistic regression; returns
    the state that belongs into a checkpoint: one step, over all pictures and views at once.

    There is nothing to tune: features are standardised, each less its mean and all over one
    deviation, so that a picture's have the mean square length 1. Decay and temperature are chosen
    by training pictures that are left out in turn. What is fitted is folded back: `head` reads
    features as they are. Its dropout, which would change from pass to pass, is left out. Raises
    UserError if a feature is not finite.
    """
    views, examples, _ = found.train.shape
    shift, scale = standardisation(found.train)
    if not (np.isfinite(shift).all() and np.isfinite(scale)):
        raise UserError(_NO_NUMBERS)
    classes = head.output.shape[-1]
    choice = choose(found, classes, shift, scale)
    with progress(regression.MOST_PASSES * views * examples, "fit") as bar:
        minimum = _fitted(
            found, classes, shift, scale, choice.decay, lambda: bar.update(views * examples)
        )
        bar.total = bar.n
    kernel, bias = minimum.point[0, :-1] * scale, minimum.point[0, -1]
    # Dropout of 2012 multiplies what the last layer reads.
    of_dropout = (one for one in head.layers if isinstance(one, Dropout) and not one.inverted)
    share = math.prod(1 - one.rate for one in of_dropout)
    head.layers[-1].set_weights([kernel / share, bias - shift @ kernel])
    figures = answers(head, found, choice.temperature).figures() | {"step": 1}
    if not math.isfinite(minimum.loss + figures["loss"]):
        raise UserError(_NO_NUMBERS)
    right = sum(
        int((logits(head, found.train[view]).argmax(-1) == found.train_labels).sum())
        for view in range(views)
    )
    log.write(
        {
            "step": 1,
            "epoch": 1,
            "train_loss": minimum.loss,
            "train_top_1": right / views / examples,
            "learning_rate": 0.0,
            **{name: figures[name] for name in ("loss", "top_1", "top_5")},
        }
    )
    note(
        f"the projection is fitted: {minimum.passes} passes over the features; {choice.describe()}"
    )
    best = Best(0)
    best.after_epoch(1, figures)
    return TrainingState(
        1,
        figures,
        best.state(),
        learning_rate=0.0,
        temperature=choice.temperature,
        passes=minimum.passes,
    )


def _fitted(
    found: Features,
    classes: int,
    shift: np.ndarray,
    scale: np.float32,
    decay: float,
    after_pass: Callable[[], object],
) -> regression.Minimum:
    """The Minimum of regression.of_rows over all views of all training pictures, standardised."""
    views, examples, units = found.train.shape
    if views * examples > min(units, _MOST_MULTIPLIED):
        chunks = _Chunks(found, shift, scale)
        return regression.of_rows(chunks, units, classes, decay * views, after_pass)
    rows = (found.train.reshape(-1, units) - shift) * scale
    labels = np.tile(found.train_labels, views)
    (minimum,) = regression.of_products(
        regression.products(rows),
        labels,
        decay * views,
        [np.zeros([2, len(labels) + 1, classes], np.float32)],
        np.zeros([1, len(labels)], bool),
        after_pass,
    )
    return dataclasses.replace(minimum, point=regression.of_pictures(minimum.point, rows))


class _Chunks:
    """All views of all training pictures, standardised: the first chunk is kept, which is all there
    is, unless there is much.
    """

    def __init__(self, found: Features, shift: np.ndarray, scale: np.float32) -> None:
        self._found, self._shift, self._scale = found, shift, scale
        self._rows = max(1, _CHUNK // found.train[0, :1].nbytes)
        self._first = self._chunk(0, 0)

    def __iter__(self) -> Iterator[regression.Rows]:
        views, examples, _ = self._found.train.shape
        for view in range(views):
            for begin in range(0, examples, self._rows):
                yield self._chunk(view, begin) if view or begin else self._first

    def _chunk(self, view: int, begin: int) -> regression.Rows:
        part = slice(begin, begin + self._rows)
        rows = (self._found.train[view, part] - self._shift) * self._scale
        return tf.constant(rows), np.array(self._found.train_labels[part])


@dataclasses.dataclass(frozen=True)
class Choice:
    """What training pictures that were left out in turn say is best."""

    decay: float = _USUAL_DECAY
    temperature: float = 1.0
    loss: float = 0.0  # of those pictures, at that temperature
    top_1: float = 0.0
    pictures: int = 0

    def describe(self) -> str:
        if not self.pictures:
            return "no class has two pictures, so decay and temperature are not chosen"
        return (
            f"decay {self.decay:g} and temperature {self.temperature:.2f}, chosen by leaving out "
            f"each of {self.pictures} training pictures once: {self.top_1:.1%} of them right"
        )


def choose(found: Features, classes: int, shift: np.ndarray, scale: np.float32) -> Choice:
    """The Choice for `found`, a Features, by pictures of the first view, all or enough of them; its
    test pictures have no part in it.

    The loss at its best temperature decides, which goes on falling where many decays answer alike,
    and forgives those that are just too sure. From strong to weak, as long as it gets better.
    """
    order = np.random.default_rng(1).permutation(len(found.train_labels))
    most = max(_MOST_CHOOSING, min(8 * classes, 2 * _MOST_CHOOSING))
    numbers = np.sort(order[:most])
    rows, labels = (found.train[0, numbers] - shift) * scale, np.array(found.train_labels)[numbers]
    folds = _dealt(rows, labels)
    out = folds >= 0
    best = Choice()
    if not out.any():
        return best
    left_out, products = folds == np.unique(folds[out])[:, np.newaxis], regression.products(rows)
    points = [np.zeros([2, len(labels) + 1, classes], np.float32)] * len(left_out)
    said = np.zeros([len(labels), classes], np.float32)
    for decay in _DECAYS:
        minima = regression.of_products(products, labels, decay, points, left_out)
        points = [minimum.point for minimum in minima]
        for of_fold, (_, logits_there) in zip(left_out, points):
            said[of_fold] = logits_there[:-1][of_fold] + logits_there[-1]
        temperature, loss = temperature_of(said[out], labels[out])
        if best.pictures and loss >= best.loss:
            break
        right = float((said[out].argmax(1) == labels[out]).mean())
        best = Choice(decay, temperature, loss, right, int(out.sum()))
    return best


def _dealt(rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The fold of each row, [pictures]; -1 of those that are never left out, as the only one of a
    class.

    Class by class, so that every fold has its share of each. Copies of a picture, which have the
    same features, stay together: one of them would tell what the others are.
    """
    order = np.random.default_rng(0).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    group_of: dict[bytes, int] = {}
    groups = np.array([group_of.setdefault(rows[row].tobytes(), len(group_of)) for row in order])
    folds = np.zeros(len(labels), int)
    folds[order] = groups % _FOLDS
    of_class: dict[int, set[int]] = {}
    for row, group in zip(order, groups):
        of_class.setdefault(int(labels[row]), set()).add(int(group))
    folds[[len(of_class[int(label)]) < 2 for label in labels]] = -1
    return folds


def temperature_of(logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """(the number by which `logits` [pictures, classes] are best divided, the mean loss then).

    A handful of pictures, all of them right, is no reason to be sure: a prior, of a standard
    deviation of a factor of two around 1, counts as much as one picture or two.
    """
    logits = np.asarray(logits, np.float64)
    logits = logits - logits.max(1, keepdims=True)
    of_label = logits[np.arange(len(labels)), labels]

    def loss(power: float) -> float:
        scaled = logits * math.exp(power)
        said = np.log(np.exp(scaled).sum(1)) - of_label * math.exp(power)
        return float(said.mean())

    def cost(power: float) -> float:
        return len(labels) * loss(power) + (power / math.log(2)) ** 2 / 2

    low, high, golden = -_MOST_POWER, _MOST_POWER, (math.sqrt(5) - 1) / 2
    while high - low > 1e-4:
        left, right = high - golden * (high - low), low + golden * (high - low)
        if cost(left) <= cost(right):
            high = right
        else:
            low = left
    power = (low + high) / 2
    return math.exp(-power), loss(power)


def fitting_rate(found: Features) -> float:
    """A learning rate for steps of a batch that suits the size of features: 3 where those of a
    picture, less their mean, have the mean square length 1.
    """
    _, scale = standardisation(found.train)
    return 3.0 * float(scale) ** 2


def standardisation(train: np.ndarray) -> tuple[np.ndarray, np.float32]:
    """(mean of each unit [units], one over the length of what is left, a scalar), float32, of
    `train`, float32 [views, pictures, units].
    """
    views, examples, units = train.shape
    rows = max(1, _CHUNK // train[0, :1].nbytes)
    places = [(view, begin) for view in range(views) for begin in range(0, examples, rows)]
    count = views * examples
    mean = (
        sum(train[view, begin : begin + rows].sum(0, dtype=np.float64) for view, begin in places)
        / count
    )
    shift = mean.astype(np.float32)
    square = (
        sum(
            float(np.square(train[view, begin : begin + rows] - shift).sum(dtype=np.float64))
            for view, begin in places
        )
        / count
    )
    return shift, np.float32(1 / math.sqrt(square) if square > 0 else 1.0)


def logits(head: keras.Model, inputs: np.ndarray) -> np.ndarray:
    """float32 [pictures, classes] for features [pictures, units]."""
    rows = max(1, _CHUNK // inputs[:1].nbytes)
    return np.concatenate(
        [
            head(tf.constant(inputs[begin : begin + rows]), training=False)
            for begin in range(0, len(inputs), rows)
        ]
    )


def answers(head: keras.Model, found: Features, temperature: float = 1.0) -> Answers:
    """The Answers of `head` to the evaluation pictures of `found`, a Features."""
    said = logits(head, found.evaluation[0]) / np.float32(temperature)
    labels = np.array(found.evaluation_labels)
    return Answers(
        labels,
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels, said).numpy(),
        tf.math.top_k(said, min(TOP, said.shape[-1])).indices.numpy(),
        found.left_out + len(found.bad_pictures["evaluation"]),
        tf.reduce_max(tf.nn.softmax(said), axis=-1).numpy(),
    )


def _make_steps(
    head: keras.Model, optimizer: SGD2012, batch_size: int, seed: int
) -> Callable[..., tf.Tensor]:
    forward_backward = steps.make_forward_backward(head, tf.identity, batch_size)
    keys = steps.keys_of(head, seed)

    @tf.function(autograph=False)
    def run_steps(
        rows: tf.Tensor, labels: tf.Tensor, rates: tf.Tensor, first_step: tf.Tensor
    ) -> tf.Tensor:
        """As many steps as there are `rates`; returns the sums of the loss and of the correct
        answers.
        """
        rows, labels = (
            tf.reshape(rows, [-1, batch_size, rows.shape[-1]]),
            tf.reshape(labels, [-1, batch_size]),
        )

        def step(index: tf.Tensor, totals: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            optimizer.learning_rate.assign(rates[index])
            number = first_step + tf.cast(index, tf.int64)
            weights = [
                tf.convert_to_tensor(variable.value) for variable in head.trainable_variables
            ]
            state = [
                steps.state_of(variable, tf.constant(0, tf.int64), number, keys.get(id(variable)))
                for variable in head.non_trainable_variables
            ]
            *sums, gradients, _ = forward_backward(weights, state, rows[index], labels[index])
            optimizer.apply_if(tf.math.is_finite(sums[0]), gradients, head.trainable_variables)
            return index + 1, totals + tf.stack(sums)

        return tf.while_loop(lambda index, _: index < tf.size(rates), step, (0, tf.zeros([2])))[1]

    return run_steps
