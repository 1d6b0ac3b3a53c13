"""Trains a projection alone, on features that are computed already: a whole epoch is one call, and
costs next to nothing.
"""

import math

import numpy as np
import tensorflow as tf

from alexnet_tf.classifiers import TOP, Answers
from alexnet_tf.errors import UserError
from alexnet_tf.training import checkpoints, steps
from alexnet_tf.training.metrics import Best
from alexnet_tf.training.optimizer import Plateau
from alexnet_tf.training.state import TrainingState

_CHUNK = 2**28  # bytes of features that are in memory at a time
# Of `fit`. The decay is that of the mean loss on features of length 1; half the square is added.
_DECAY = 3e-6
_MOST_PASSES = 200  # over the features
_FLAT = 1e-4  # a gradient of this share of the first is flat
_MEMORY = 8  # steps from which the curvature is known


def train(head, optimizer, found, plan, log, progress, note):
    """Trains `head`, a features.projection, on `found`, a Features; returns the state that belongs
    into a checkpoint.

    The steps are those of training.train: 2012's rule, the schedule, dropout drawn from the seed
    and the step. A picture's view is drawn again in each epoch. With a patience in `plan` the best
    weights are kept. Raises UserError if the loss is not finite.
    """
    views, examples, _ = found.train.shape
    steps_per_epoch = examples // plan.batch_size
    last_step = steps_per_epoch * plan.epochs
    optimizer.build(head.trainable_variables)
    run_steps = _make_steps(head, optimizer, plan.batch_size)
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
                    f"stopped after epoch {epoch + 1}: {plan.patience} without a lower evaluation"
                    " error"
                )
                break
    if plan.patience:
        head.set_weights(weights)
        figures = best.figures
    return TrainingState(
        done, figures, best.state(), plateau.state(), learning_rate=rates[-1]
    ).to_json()


def fit(head, found, log, progress, note):
    """Fits `head`, a surgery.projection, to `found`, a Features, as a logistic regression; returns
    the state that belongs into a checkpoint: one step, over all pictures and views at once.

    There is nothing to tune: features are standardised, each less its mean and all over one
    deviation, so that a picture's have the mean square length 1, and the decay is the same for any
    network and number of pictures. What is fitted is folded back: `head` reads features as they
    are. Its dropout, which would change from pass to pass, is left out. Raises UserError if a
    feature is not finite.
    """
    views, examples, units = found.train.shape
    classes = head.output.shape[-1]
    shift, scale = _standardisation(found.train)
    labels = tf.constant(found.train_labels, tf.int64)
    rows = max(1, _CHUNK // found.train[0, :1].nbytes)

    def chunk(view, begin):
        return (tf.constant(found.train[view, begin : begin + rows]) - shift) * scale

    places = [(view, begin) for view in range(views) for begin in range(0, examples, rows)]
    kept = {place: chunk(*place) for place in places[:1]}  # all there is, unless there is much

    @tf.function(reduce_retracing=True)
    def part(features, labels, kernel, bias):
        said = features @ kernel + bias
        error = tf.nn.softmax(said) - tf.one_hot(labels, classes)
        loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, said))
        return loss, tf.matmul(features, error, transpose_a=True), tf.reduce_sum(error, 0)

    def loss_and_gradient(weights):
        kernel, bias = weights[:-classes].reshape(units, classes), weights[-classes:]
        loss, of_kernel, of_bias = 0.0, np.zeros_like(kernel), np.zeros_like(bias)
        for view, begin in places:
            features = kept[view, begin] if (view, begin) in kept else chunk(view, begin)
            sums = [
                value.numpy()
                for value in part(features, labels[begin : begin + rows], kernel, bias)
            ]
            loss, of_kernel, of_bias = (
                one + other for one, other in zip((loss, of_kernel, of_bias), sums)
            )
        count = views * examples
        gradient = np.concatenate([(of_kernel / count + _DECAY * kernel).ravel(), of_bias / count])
        return loss / count + _DECAY / 2 * float(np.vdot(kernel, kernel)), gradient

    with progress(_MOST_PASSES * views * examples, "fit") as bar:

        def told(weights):
            bar.update(views * examples)
            return loss_and_gradient(weights)

        weights, loss, passes = _minimise(told, np.zeros(units * classes + classes, np.float32))
        bar.total = bar.n
    kernel, bias = weights[:-classes].reshape(units, classes) * scale, weights[-classes:]
    head.layers[-1].set_weights([kernel, bias - shift @ kernel])
    found_figures = answers(head, found).figures()
    if not math.isfinite(loss + found_figures["loss"]):
        raise UserError(
            "The features of the frozen layers are not finite numbers; these weights are of no use."
        )
    figures = found_figures | {"step": 1}
    right = sum(
        int((logits(head, found.train[view]).argmax(-1) == found.train_labels).sum())
        for view in range(views)
    )
    log.write(
        {
            "step": 1,
            "epoch": 1,
            "train_loss": float(loss),
            "train_top_1": right / views / examples,
            "learning_rate": 0.0,
            **{name: figures[name] for name in ("loss", "top_1", "top_5")},
        }
    )
    note(f"the projection is fitted: {passes} passes over the features")
    best = Best(0)
    best.after_epoch(1, figures)
    state = TrainingState(1, figures, best.state(), learning_rate=0.0)
    return state.to_json() | {"passes": passes}


def fitting_rate(found):
    """A learning rate for steps of a batch that suits the size of features: 3 where those of a
    picture, less their mean, have the mean square length 1.
    """
    _, scale = _standardisation(found.train)
    return 3.0 * float(scale) ** 2


def _standardisation(train):
    """(mean of each unit [units], one over the length of what is left, a scalar), float32."""
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


def _minimise(function, start):
    """(the minimum, its value, how often `function` was asked) of a smooth convex function.

    L-BFGS: Nocedal and Wright, Numerical Optimization, 2nd edition, algorithms 7.4 and 7.5, with
    halved steps until the decrease suffices (3.4). `function` gives value and gradient.
    """
    point, steps, asked = start, [], 1
    value, gradient = function(point)
    first = np.linalg.norm(gradient)
    while asked < _MOST_PASSES and np.linalg.norm(gradient) > _FLAT * first:
        direction, factors = -gradient, []
        for step, change, curvature in reversed(steps):
            factors.append(np.vdot(step, direction) / curvature)
            direction = direction - factors[-1] * change
        if steps:
            step, change, curvature = steps[-1]
            direction = direction * (curvature / np.vdot(change, change))
        for (step, change, curvature), factor in zip(steps, reversed(factors)):
            direction = direction + (factor - np.vdot(change, direction) / curvature) * step
        slope, length = float(np.vdot(gradient, direction)), np.float32(1.0)
        while asked < _MOST_PASSES:
            there = point + length * direction
            lower, slant = function(there)
            asked += 1
            if lower <= value + 1e-4 * length * slope:
                break
            length /= 2
        else:
            break
        step, change = there - point, slant - gradient
        if (curvature := np.vdot(step, change)) > 0:
            steps = [*steps[1 - _MEMORY :], (step, change, curvature)]
        point, value, gradient = there, lower, slant
    return point, value, asked


def logits(head, inputs):
    """float32 [pictures, classes] for features [pictures, units]."""
    rows = max(1, _CHUNK // inputs[:1].nbytes)
    return np.concatenate(
        [
            head(tf.constant(inputs[begin : begin + rows]), training=False)
            for begin in range(0, len(inputs), rows)
        ]
    )


def answers(head, found):
    """The Answers of `head` to the evaluation pictures of `found`, a Features."""
    said, labels = logits(head, found.evaluation[0]), np.array(found.evaluation_labels)
    return Answers(
        labels,
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels, said).numpy(),
        tf.math.top_k(said, min(TOP, said.shape[-1])).indices.numpy(),
        len(found.bad_pictures["evaluation"]),
    )


def _make_steps(head, optimizer, batch_size):
    forward_backward = steps.make_forward_backward(head, tf.identity, batch_size)

    @tf.function
    def run_steps(rows, labels, rates, first_step):
        """As many steps as there are `rates`; returns the sums of the loss and of the correct
        answers.
        """
        rows, labels = (
            tf.reshape(rows, [-1, batch_size, rows.shape[-1]]),
            tf.reshape(labels, [-1, batch_size]),
        )
        totals = tf.zeros([2])
        for index in tf.range(tf.size(rates)):
            optimizer.learning_rate.assign(rates[index])
            number = first_step + tf.cast(index, tf.int64)
            weights = [
                tf.convert_to_tensor(variable.value) for variable in head.trainable_variables
            ]
            state = [
                steps.state_of(variable, tf.constant(0, tf.int64), number)
                for variable in head.non_trainable_variables
            ]
            *sums, gradients, _ = forward_backward(weights, state, rows[index], labels[index])
            optimizer.apply_if(tf.math.is_finite(sums[0]), gradients, head.trainable_variables)
            totals += tf.stack(sums)
        return totals

    return run_steps
