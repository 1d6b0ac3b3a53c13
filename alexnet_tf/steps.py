"""One step of training and one of evaluation, for any tf.distribute strategy.

The forward and backward pass is a pure function of weights and batch, compiled by XLA per replica if asked; the sum of the
gradients over the replicas and the optimizer stay outside, where tf.distribute needs them. The same code serves one device and
many. From Python:

    strategy = devices.distribution("auto", 1)
    with strategy.scope():
        model, optimizer = build_model("paper", 10), SGD2012()
    step = TrainStep(strategy, model, optimizer, pixels, batch_size=128)
    loss, correct = step(next(batches), step_number)        # sums over the global batch
"""

import functools
import math
import statistics
import time

import keras
import tensorflow as tf

from alexnet_tf import devices, input_pipeline, preprocessing


class TrainStep:
    """One update of the weights. Call it with a batch of input_pipeline.distribute and the number of the step; it returns the
    sum of the loss (cross-entropy in nats, without the decay) and of the correct top-1 answers over the global batch, as scalar
    tensors. Where the loss is not finite, no weight changes.
    """

    def __init__(self, strategy, model, optimizer, pixels, batch_size, xla=True):
        self.xla = xla
        with strategy.scope():
            optimizer.build(model.trainable_variables)
        prepare = functools.partial(preprocessing.to_network_input, preprocessing=pixels)
        forward_backward = tf.function(make_forward_backward(model, prepare, batch_size), jit_compile=xla)
        self.forward_backward = forward_backward
        rows = batch_size // strategy.num_replicas_in_sync

        def replica_step(batch, step):
            replica = tf.distribute.get_replica_context()
            first_row = rows * tf.cast(replica.replica_id_in_sync_group, tf.int64)
            # Read here, because a compiled function cannot read a variable that lives on another device.
            weights = [tf.convert_to_tensor(variable.value) for variable in model.trainable_variables]
            state = [state_of(variable, first_row, step) for variable in model.non_trainable_variables]
            *sums, gradients = forward_backward(weights, state, batch["image"], batch["label"])
            loss, correct = replica.all_reduce(tf.distribute.ReduceOp.SUM, sums)
            optimizer.apply_if(tf.math.is_finite(loss), gradients, model.trainable_variables)
            return loss, correct

        @tf.function
        def step(batch, number):
            return [strategy.experimental_local_results(value)[0] for value in strategy.run(replica_step, args=(batch, number))]

        self._step = step

    def __call__(self, batch, number):
        return self._step(batch, tf.constant(number, tf.int64))


def make_forward_backward(model, prepare, batch_size):
    """Returns a function (trainable weights, other state, inputs, labels) to (sum of the loss, correct answers, gradients of
    the mean loss over `batch_size`); `prepare(inputs)` is what `model` reads. Layers below the first trainable one have no
    backward pass: no gradient is asked for there.
    """
    def forward_backward(weights, state, inputs, labels):
        logits, _ = model.stateless_call(weights, state, prepare(inputs), training=True)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        # Gradients of the replicas are summed: the mean is over the GLOBAL batch.
        mean_loss = tf.reduce_sum(losses) / batch_size
        correct = tf.reduce_sum(tf.cast(tf.argmax(logits, -1) == labels, tf.float32))
        # Not a GradientTape: it would put the backward pass of both towers on the device of the first.
        gradients = tf.compat.v1.gradients(mean_loss, weights, colocate_gradients_with_ops=True)
        return tf.reduce_sum(losses), correct, gradients

    return forward_backward


def state_of(variable, first_row, step):
    """What layers.Dropout draws its masks from: nothing random has to be stored with a checkpoint."""
    if "seed_generator" not in variable.path:
        return tf.convert_to_tensor(variable.value)
    return tf.cast(tf.stack([first_row, step]), variable.dtype)


def pick_xla(strategy, make_step, batch):
    """Times a step with and without XLA on `batch`; returns (the faster TrainStep, a line that says so).

    `make_step(xla)` returns a TrainStep of an optimizer at rate 0, so that the timed steps move nothing. Workers take the mean
    of their times, and so the same way.
    """
    seconds, steps = {}, {}
    for xla in (True, False):
        steps[xla] = make_step(xla)
        float(steps[xla](batch, 0)[0])  # compiles
        begin = time.perf_counter()
        float(steps[xla](batch, 0)[0])
        seconds[xla] = statistics.mean(devices.over_workers(strategy, time.perf_counter() - begin))
    faster = seconds[True] < seconds[False]
    return steps[faster], (f"--xla=auto: {'on' if faster else 'off'} "
                           f"(a step takes {seconds[True]:.2f} s with XLA, {seconds[False]:.2f} s without)")


def first_non_finite_layer(model, pixels, images):
    """The name of the first layer whose output for `images` (uint8) is not finite, or None."""
    x = preprocessing.to_network_input(images, pixels)
    computed = model.layers[1:]
    for layer, output in zip(computed, keras.Model(model.input, [layer.output for layer in computed])(x)):
        if not bool(tf.reduce_all(tf.math.is_finite(tf.cast(output, tf.float32)))):
            return layer.name
    return None


def evaluate_split(strategy, model, pixels, split, batch_size, on_batch=None):
    """Returns {"examples", "loss", "top_1", "top_5"} of `model` over all pictures of a datasets.Split.

    Every picture counts once; `loss` is the mean cross-entropy in nats, the others are shares of correct answers in 0..1.
    `on_batch(pictures)` is called after each batch with the number of its pictures. Raises UserError naming a picture that does
    not decode.
    """
    def replica_step(batch):
        logits = model(preprocessing.to_network_input(batch["image"], pixels), training=False)
        labels, weights = batch["label"], batch["weight"]
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        best = tf.math.top_k(logits, min(5, logits.shape[-1])).indices  # of equal logits the lower index: ties are no gift
        found = tf.cast(tf.cast(best, tf.int64) == labels[:, None], tf.float32)
        answers = found[:, 0], tf.reduce_sum(found, 1)
        return [tf.reduce_sum(value * weights) for value in (tf.ones_like(weights), losses, *answers)]

    @tf.function
    def step(batch):
        return tf.stack([strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)
                         for value in strategy.run(replica_step, args=(batch,))])

    batches = input_pipeline.distribute(
        strategy, lambda context: input_pipeline.evaluation_batches(split, pixels, batch_size, context))
    totals = tf.zeros([4])
    for _ in range(math.ceil(split.examples / batch_size)):
        sums = step(input_pipeline.next_batch(batches, split))
        totals += sums
        if on_batch:
            on_batch(int(sums[0]))
    examples, *sums = (float(total) for total in totals)
    return {"examples": int(examples), **dict(zip(("loss", "top_1", "top_5"), (total / examples for total in sums)))}
