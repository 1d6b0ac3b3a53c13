"""Images per second, and what each part costs, as ratios within one run.

    python tools/benchmark.py --precision=mixed_bfloat16 --batch_size=32

Steps are timed in turn, one of each kind a round, so that a machine that slows down slows them all; medians are printed.
"""

import statistics
import time

from absl import flags

from alexnet_tf import app  # before TensorFlow, which it quiets

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf import datasets, input_pipeline, training
from alexnet_tf.errors import UserError
from alexnet_tf.layers import LocalResponseNormalization
from alexnet_tf.model import VARIANTS, build_model
from alexnet_tf.optimizer import SGD2012
from alexnet_tf.preprocessing import Preprocessing

_DATASET, _DATA_DIR = app.define_dataset()
_BATCH_SIZE, _PRECISION, _DISTRIBUTION, _REPLICAS = app.define_devices()
_VARIANT = flags.DEFINE_enum("variant", "paper", list(VARIANTS), "Which AlexNet.")
_XLA = flags.DEFINE_enum("xla", "off", ["on", "off", "both"], "Compile the steps by XLA; both times each way.")
_ROUNDS = flags.DEFINE_integer("rounds", 12, "Timed rounds, after one that is not.", lower_bound=1)


def main():
    strategy = training.distribution(_DISTRIBUTION.value, _REPLICAS.value)
    if _BATCH_SIZE.value % strategy.num_replicas_in_sync:
        raise UserError(f"--batch_size={_BATCH_SIZE.value} does not divide among {strategy.num_replicas_in_sync} replicas.")
    dataset = datasets.open_dataset(_DATASET.value, _DATA_DIR.value)
    row = VARIANTS[_VARIANT.value]
    pixels = Preprocessing(row["image_size"], row["resize"], row["channels"], (120.0,) * row["channels"], row["std"])
    keras.config.set_dtype_policy(_PRECISION.value)

    kinds = {"step": _keep, "step without LRN": _no_lrn, "step with tf.nn's LRN": _tf_lrn}
    if "lrn" not in row:
        kinds = {"step": _keep}
    ways = {"on": (True,), "off": (False,), "both": (False, True)}[_XLA.value]
    steps = {f"{kind}{', XLA' if xla else ''}": _step(strategy, change, pixels, len(dataset.class_names), xla)
             for kind, change in kinds.items() for xla in ways}
    batch = _random_batch(strategy, pixels, len(dataset.class_names))
    seconds = _in_turn(steps, batch)

    first = next(iter(seconds))
    figures = {}
    for kind, value in seconds.items():
        figures[kind] = f"{value:.3f} s, {_BATCH_SIZE.value / value:.1f} images/s, {seconds[first] / value:.3f} of a step"
    if "step without LRN" in seconds:
        figures["cost of LRN"] = f"{seconds[first] / seconds['step without LRN']:.3f} times the step without"
    rate = _input_rate(dataset, pixels)
    figures["input alone"] = f"{rate:.0f} images/s, {rate * seconds[first] / _BATCH_SIZE.value:.1f} times what a step takes"
    origin = app.provenance()
    print(f"{_VARIANT.value}, batch {_BATCH_SIZE.value}, {_PRECISION.value}, {strategy.num_replicas_in_sync} replica(s), "
          f"{origin['machine']}, commit {origin['commit']}:")
    app.report(figures)


def _step(strategy, change, pixels, classes, xla):
    with strategy.scope():
        model, optimizer = build_model(_VARIANT.value, classes), SGD2012(0.001)
    change(model)
    return training.TrainStep(strategy, model, optimizer, pixels, _BATCH_SIZE.value, xla)


def _keep(model):
    del model


def _no_lrn(model):
    for layer in _lrn_layers(model):
        layer.call = lambda inputs, training=False, layer=layer: tf.nn.relu(inputs) if layer.relu_first else inputs


def _tf_lrn(model):
    for layer in _lrn_layers(model):
        def call(inputs, training=False, layer=layer):
            wide = tf.cast(tf.nn.relu(inputs) if layer.relu_first else inputs, tf.float32)
            return tf.cast(tf.nn.local_response_normalization(wide, layer.size // 2, layer.k, layer.alpha, 0.75), inputs.dtype)

        layer.call = call


def _lrn_layers(model):
    return [layer for layer in model.layers if isinstance(layer, LocalResponseNormalization)]


def _random_batch(strategy, pixels, classes):
    rng = np.random.default_rng(0)
    shape = (_BATCH_SIZE.value, pixels.image_size, pixels.image_size, pixels.channels)
    batch = {"image": rng.integers(0, 256, shape, np.uint8), "label": rng.integers(0, classes, _BATCH_SIZE.value)}
    return next(iter(strategy.experimental_distribute_dataset(tf.data.Dataset.from_tensors(batch))))


def _in_turn(steps, batch):
    """Median seconds of each step. Reading the loss waits for the device."""
    seconds = {name: [] for name in steps}
    for round_number in range(_ROUNDS.value + 1):
        for name, step in steps.items():
            begin = time.perf_counter()
            float(step(batch, round_number)[0])
            seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def _input_rate(dataset, pixels):
    """Images/s of the training pipeline with nothing behind it."""
    batch_size = min(32, dataset.train.examples)
    batches = iter(input_pipeline.training_batches(dataset.train, pixels, batch_size, seed=0))
    next(batches)
    begin, count = time.perf_counter(), 40
    for _ in range(count):
        next(batches)
    return count * batch_size / (time.perf_counter() - begin)


if __name__ == "__main__":
    app.run(main)
