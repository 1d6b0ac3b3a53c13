"""One step of training and one of evaluation, for any tf.distribute strategy.

The forward and backward pass is a pure function of weights and batch, compiled by XLA per replica
if asked; the sum of the gradients over the replicas and the optimizer stay outside, where
tf.distribute needs them. The same code serves one device and many. From Python:

    strategy = devices.distribution("auto", 1)
    with strategy.scope():
        model, optimizer = build_model("paper", 10), SGD2012()
    step = TrainStep(strategy, model, optimizer, pixels, batch_size=128)
    loss, correct = step(next(batches), step_number)        # sums over the global batch
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf import preprocessing
from alexnet_tf.data.splits import converted
from alexnet_tf.errors import UserError
from alexnet_tf.network.layers import Dropout, is_seed
from alexnet_tf.pixels import Preprocessing
from alexnet_tf.training import devices, own_models
from alexnet_tf.training.objective import Objective, judge_labels
from alexnet_tf.training.optimizer import SGD2012

# A float16 below 6e-8 is 0, and so would many gradients be (section 3.2 of arXiv:1710.03740). By a
# power of two nothing is rounded.
_SCALE = 1024.0


class TrainStep:
    """One update of the weights. Call it with a batch of pipeline.distribute, the number of the
    step and the strength of the colour noise; it returns the sum of the loss (cross-entropy in
    nats, without the decay) and of the correct top-1 answers over the global batch, as scalar
    tensors. Where the loss is not finite, or the gradient of a bias, the loss is NaN and nothing
    changes. Colour noise depends on `seed`, and so does what random layers of Keras draw.

    What else a model's layers keep, such as the moving statistics of BatchNormalization, is updated
    too: float numbers become the mean over the replicas, so that all of them and a checkpoint hold
    the same.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        model: keras.Model,
        optimizer: SGD2012,
        pixels: Preprocessing,
        batch_size: int,
        xla: bool = True,
        seed: int = 0,
        objective: Objective | None = None,
        class_names: tuple = (),
    ) -> None:
        """`objective`, an Objective, needs `class_names`; without one: the mean cross-entropy.

        Raises UserError for one that gives other shapes than it should, where functions are not
        compiled, and as own_models.check_assigned.
        """
        check_compiled()
        own_models.check_assigned(model)
        self.xla = xla
        objective = objective or Objective()
        plain = objective == Objective()
        judge = judge_labels if plain else objective.judge(class_names)
        augment = objective.augment
        with strategy.scope():
            optimizer.build(model.trainable_variables)

        def prepare(inputs: tuple) -> tf.Tensor:
            images, strength, step, first_row = inputs
            return preprocessing.to_training_input(images, pixels, strength, seed, step, first_row)

        forward_backward = tf.function(
            make_forward_backward(model, prepare, batch_size, judge),
            jit_compile=xla,
            autograph=False,
        )
        self.forward_backward = forward_backward
        rows, keys = batch_size // strategy.num_replicas_in_sync, keys_of(model, seed)
        objective.check(rows, pixels, class_names)

        def replica_step(
            batch: Any, step: tf.Tensor, strength: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor]:
            replica = tf.distribute.get_replica_context()
            first_row = rows * tf.cast(replica.replica_id_in_sync_group, tf.int64)
            # Read here, because a compiled function cannot read a variable that lives on another
            # device.
            weights = [
                tf.convert_to_tensor(variable.value) for variable in model.trainable_variables
            ]
            state = [
                state_of(variable, first_row, step, keys.get(id(variable)))
                for variable in model.non_trainable_variables
            ]
            images, labels = batch["image"], batch["label"]
            if not plain:
                labels = tf.one_hot(labels, len(class_names))
                if augment:  # not compiled: it may be anything
                    drawn = tf.stack([tf.constant(seed, tf.int64), step * batch_size + first_row])
                    images, labels = _augmented(augment, images, labels, drawn)
            inputs = images, strength, step, first_row
            *sums, gradients, kept = forward_backward(weights, state, inputs, labels)
            loss, correct = replica.all_reduce(tf.distribute.ReduceOp.SUM, sums)
            finite = tf.math.is_finite(loss)
            optimizer.apply_if(finite, gradients, model.trainable_variables)
            changed = [
                pair for pair in zip(model.non_trainable_variables, kept) if pair[1] is not None
            ]
            if changed:
                replica.merge_call(_assign, (*zip(*changed), finite))
            return loss, correct

        @tf.function(autograph=False)
        def step(batch: Any, number: tf.Tensor, strength: tf.Tensor) -> list[tf.Tensor]:
            sums = strategy.run(replica_step, args=(batch, number, strength))
            return [strategy.experimental_local_results(value)[0] for value in sums]

        self._strategy, self._step = strategy, step

    def __call__(self, batch: Any, number: int, colour_noise: float = 0.0) -> list[tf.Tensor]:
        with devices.waiting(self._strategy):
            return self._step(
                batch, tf.constant(number, tf.int64), tf.constant(colour_noise, tf.float32)
            )


def _augmented(
    augment: Callable, images: tf.Tensor, targets: tf.Tensor, seed: tf.Tensor
) -> list[tf.Tensor]:
    """What `augment` makes of a replica's part of a batch."""
    changed = converted(augment)(tf.cast(images, tf.float32), targets, seed)
    return [
        tf.ensure_shape(tf.cast(new, tf.float32), old.shape)
        for new, old in zip(changed, (images, targets))
    ]


def check_compiled() -> None:
    """Raises UserError where TensorFlow runs functions line by line: a step has to be compiled; and
    where it runs nothing yet, as in TensorFlow 1.
    """
    if not tf.executing_eagerly():
        raise UserError(
            "TensorFlow only builds a graph here, but a training runs it; leave out"
            " tf.compat.v1.disable_eager_execution(), and train outside a tf.Graph."
        )
    if tf.config.functions_run_eagerly():
        raise UserError(
            "tf.config.run_functions_eagerly(True) was called, but a training needs its functions "
            "compiled; call it with False."
        )


def computes_in_float16(model: keras.Model) -> bool:
    """Whether a layer of `model` does, in which nothing is above 65,504."""
    return any(layer.compute_dtype == "float16" for layer in model._flatten_layers())


def make_forward_backward(
    model: keras.Model,
    prepare: Callable[[Any], tf.Tensor],
    batch_size: int,
    judge: Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]] = judge_labels,
) -> Callable[..., tuple]:
    """Returns a function (trainable weights, other state, inputs, labels) to (sum of the loss,
    correct answers, gradients of the mean loss over `batch_size`, new state); `prepare(inputs)` is
    what `model` reads. The new state has None for what the model leaves as it is, and for seeds,
    which `state_of` derives. To the mean loss come the losses that the model adds itself, such as
    those of regularizers; they are not in the sum. `judge` is what an Objective has, or
    judge_labels. Layers below the first trainable one have no backward pass: no gradient is asked
    for there. Where a layer computes in float16 the loss is larger on the way back, by _SCALE.
    """
    half = computes_in_float16(model)

    def forward_backward(
        weights: list[tf.Tensor], state: list[tf.Tensor], inputs: Any, labels: tf.Tensor
    ) -> tuple:
        logits, kept, added = model.stateless_call(
            weights, state, prepare(inputs), training=True, return_losses=True
        )
        kept = [
            None if new is old or is_seed(variable) else new
            for variable, old, new in zip(model.non_trainable_variables, state, kept)
        ]
        losses, right = judge(labels, logits)
        # Gradients of the replicas are summed: the mean is over the GLOBAL batch, and each replica
        # adds its share of the other losses.
        mean_loss = tf.reduce_sum(losses) / batch_size
        if added:
            share = tf.size(losses, mean_loss.dtype) / batch_size
            mean_loss += tf.cast(tf.add_n(added), mean_loss.dtype) * share
        correct = tf.reduce_sum(tf.cast(right, tf.float32))
        # Not a GradientTape: it would put the backward pass of both towers on the device of the
        # first.
        gradients = tf.compat.v1.gradients(
            mean_loss * _SCALE if half else mean_loss, weights, colocate_gradients_with_ops=True
        )
        if half:
            gradients = [None if one is None else one / _SCALE for one in gradients]
        return _seen_by(gradients, tf.reduce_sum(losses)), correct, gradients, kept

    return forward_backward


def _seen_by(gradients: Sequence, loss: tf.Tensor) -> tf.Tensor:
    """`loss`, or NaN where the gradient of a bias is not finite.

    What is no number comes through a layer to the gradient of its bias, and may not come through to
    the loss: a max pool takes NaN for the smallest of all numbers, and normalisation makes 0 of
    what is too large. Biases are a ten-thousandth of all weights.
    """
    for gradient in gradients:
        if isinstance(gradient, tf.Tensor) and gradient.shape.rank == 1:
            finite = tf.math.is_finite(tf.cast(tf.reduce_sum(gradient), loss.dtype))
            loss = tf.where(finite, loss, math.nan)
    return loss


def state_of(
    variable: keras.Variable, first_row: tf.Tensor, step: tf.Tensor, key: int | None = None
) -> tf.Tensor:
    """A variable's value in a step. That of a seed is made of the step and the row in the global
    batch at which a replica begins: a checkpoint need not store anything random. layers.Dropout
    wants these two as they are, and has no `key`.
    """
    if not is_seed(variable):
        return tf.convert_to_tensor(variable.value)
    state = tf.stack([first_row, step])
    if key is not None:  # a layer of Keras counts on from its seed when it draws again
        drawn_by = state + tf.constant([key, 0], tf.int64)
        state = tf.random.stateless_uniform([2], drawn_by, None, None, tf.int64, "philox")
    return tf.cast(state, variable.dtype)


def keys_of(model: keras.Model, seed: int) -> dict[int, int]:
    """By the id of each seed of a layer that is no layers.Dropout, a number of its own, which
    depends on `seed`, on its place in `model` and on the seed that its layer was given.
    """
    dropouts, given = set(), {}
    for layer in model._flatten_layers():
        for generator in layer._seed_generators:
            given[id(generator.state)] = generator.get_config()["seed"]
            if isinstance(layer, Dropout):
                dropouts.add(id(generator.state))
    seeds = [id(variable) for variable in model.non_trainable_variables if is_seed(variable)]
    keys = {}
    for place, of in enumerate(seeds):
        drawn = np.random.SeedSequence([seed, place, (given.get(of) or 0) % 2**64])
        keys[of] = int(drawn.generate_state(1, np.uint64)[0] >> 2)  # leaves room to add rows
    return {of: key for of, key in keys.items() if of not in dropouts}


def _assign(
    strategy: tf.distribute.Strategy,
    variables: Sequence[keras.Variable],
    values: Sequence,
    finite: tf.Tensor,
) -> None:
    """Gives `variables` their `values`, each replica's own, unless `finite` is false."""
    for variable, value in zip(variables, values):
        if variable.dtype.startswith(("float", "bfloat")):  # counters are the same on every replica
            value = strategy.extended.reduce_to(tf.distribute.ReduceOp.MEAN, value, variable.value)
        strategy.extended.update(variable.value, _assign_if, args=(value, finite))


def _assign_if(variable: tf.Variable, value: tf.Tensor, finite: tf.Tensor) -> None:
    variable.assign(tf.where(finite, value, variable))
