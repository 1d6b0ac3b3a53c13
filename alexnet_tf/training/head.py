"""Trains a projection alone, on features that are computed already: a whole epoch is one call, and costs next to nothing."""

import math

import numpy as np
import tensorflow as tf

from alexnet_tf.classifiers import TOP, Answers
from alexnet_tf.errors import UserError
from alexnet_tf.training import checkpoints, steps
from alexnet_tf.training.metrics import Best
from alexnet_tf.training.optimizer import Plateau
from alexnet_tf.training.state import TrainingState

_CHUNK = 2 ** 28  # bytes of features that are in memory at a time


def train(head, optimizer, found, plan, log, progress, note):
    """Trains `head`, a features.projection, on `found`, a Features; returns the state that belongs into a checkpoint.

    The steps are those of training.train: 2012's rule, the schedule, dropout drawn from the seed and the step. A picture's view
    is drawn anew in each epoch. With a patience in `plan` the best weights are kept. Raises UserError if the loss is not finite.
    """
    views, examples, _ = found.train.shape
    steps_per_epoch = examples // plan.batch_size
    last_step = steps_per_epoch * plan.epochs
    optimizer.build(head.trainable_variables)
    run_steps = _make_steps(head, optimizer, plan.batch_size)
    chunk = max(1, _CHUNK // (found.train[0, :1].nbytes * plan.batch_size))  # steps
    plateau, best, weights = Plateau(), Best(plan.patience), None
    with progress(plan.epochs * steps_per_epoch * plan.batch_size, "train") as bar:
        for epoch in range(plan.epochs):
            rng = np.random.default_rng((plan.seed, epoch))
            order = rng.permutation(examples)[:steps_per_epoch * plan.batch_size]
            view = rng.integers(views, size=len(order))
            sums = np.zeros(2)
            for begin in range(0, steps_per_epoch, chunk):
                rows = slice(begin * plan.batch_size, (begin + chunk) * plan.batch_size)
                step = epoch * steps_per_epoch + begin
                count = len(order[rows]) // plan.batch_size
                rates = [plan.rate(step + index, last_step, plateau.drops) for index in range(count)]
                sums += run_steps(tf.constant(found.train[view[rows], order[rows]]), tf.constant(found.train_labels[order[rows]]),
                                  tf.constant(rates, tf.float32), tf.constant(step, tf.int64)).numpy()
                bar.update(count * plan.batch_size)
            done = (epoch + 1) * steps_per_epoch
            loss, top_1 = (float(value) for value in sums / len(order))
            figures = answers(head, found).figures() | {"step": done}
            if not math.isfinite(loss + figures["loss"]):
                raise UserError(f"The loss is not finite in epoch {epoch + 1}; {checkpoints.IF_NOT_FINITE}")
            plateau.after_epoch(1 - figures["top_1"])
            if best.after_epoch(done, figures):
                weights = head.get_weights()
            log.write({"step": done, "epoch": epoch + 1, "train_loss": loss, "train_top_1": top_1, "learning_rate": rates[-1],
                       **{name: figures[name] for name in ("loss", "top_1", "top_5")}})
            bar.set_postfix_str(f"epoch {epoch + 1}/{plan.epochs}, loss {loss:.3f}, evaluation top-1 {figures['top_1']:.3f}")
            if best.is_over:
                note(f"stopped after epoch {epoch + 1}: {plan.patience} without a lower evaluation error")
                break
    if plan.patience:
        head.set_weights(weights)
        figures = best.figures
    return TrainingState(done, figures, best.state(), plateau.state(), learning_rate=rates[-1]).to_json()


def logits(head, inputs):
    """float32 [pictures, classes] for features [pictures, units]."""
    rows = max(1, _CHUNK // inputs[:1].nbytes)
    return np.concatenate([head(tf.constant(inputs[begin:begin + rows]), training=False) for begin in range(0, len(inputs), rows)])


def answers(head, found):
    """The Answers of `head` to the evaluation pictures of `found`, a Features."""
    said, labels = logits(head, found.evaluation[0]), np.array(found.evaluation_labels)
    return Answers(labels, tf.nn.sparse_softmax_cross_entropy_with_logits(labels, said).numpy(),
                   tf.math.top_k(said, min(TOP, said.shape[-1])).indices.numpy(), len(found.bad_pictures["evaluation"]))


def _make_steps(head, optimizer, batch_size):
    forward_backward = steps.make_forward_backward(head, tf.identity, batch_size)

    @tf.function
    def run_steps(rows, labels, rates, first_step):
        """As many steps as there are `rates`; returns the sums of the loss and of the correct answers."""
        rows, labels = tf.reshape(rows, [-1, batch_size, rows.shape[-1]]), tf.reshape(labels, [-1, batch_size])
        totals = tf.zeros([2])
        for index in tf.range(tf.size(rates)):
            optimizer.learning_rate.assign(rates[index])
            number = first_step + tf.cast(index, tf.int64)
            weights = [tf.convert_to_tensor(variable.value) for variable in head.trainable_variables]
            state = [steps.state_of(variable, tf.constant(0, tf.int64), number) for variable in head.non_trainable_variables]
            *sums, gradients, _ = forward_backward(weights, state, rows[index], labels[index])
            optimizer.apply_if(tf.math.is_finite(sums[0]), gradients, head.trainable_variables)
            totals += tf.stack(sums)
        return totals

    return run_steps
