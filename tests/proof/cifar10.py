"""Two questions put to CIFAR-10: when do initial weights leave the plateau at ln 10, and what are
LRN and ReLU worth?

Not part of `make proof`: it wants the pictures, as class folders of JPEG files, and an hour.

    python tests/proof/cifar10.py --data_dir=cifar10 --study=plateau
    python tests/proof/cifar10.py --data_dir=cifar10 --study=claims --epochs=10

`plateau`: three seeds of each initialisation at the paper's rate; the step at which the mean loss
of 50 steps falls below ln 10 - 0.1. `claims`: one recipe as it is, without LRN, and with tanh
instead of ReLU (sections 3.1 and 3.3 of the paper). The recipe's pixels of -128..127 and biases of
1 saturate a tanh at once, so that ReLU and tanh are compared once more from a start that suits
both: pixels of about -2..2, weights of variance 1 / inputs, biases of 0.
"""

import collections
import dataclasses
import math
import statistics
import time

import keras
import tensorflow as tf
from absl import flags

from alexnet_tf.commands import app
from alexnet_tf.data import datasets, pipeline
from alexnet_tf.network.layers import LocalResponseNormalization
from alexnet_tf.network.model import VARIANTS, build_model
from alexnet_tf.preprocessing import Preprocessing
from alexnet_tf.training import evaluation, steps
from alexnet_tf.training.optimizer import SGD2012

_DATA_DIR = flags.DEFINE_string("data_dir", "cifar10", "Class folders below train/ and test/.")
_STUDY = flags.DEFINE_enum("study", "plateau", ["plateau", "claims"], "Which question.")
_EPOCHS = flags.DEFINE_integer("epochs", 10, "Of each run of `claims`.")
_ONLY = flags.DEFINE_list("only", [], "Rows of `claims` to run; default: all.")
_PRECISION = flags.DEFINE_enum(
    "precision", "float32", ["float32", "mixed_bfloat16"], "Of the arithmetic."
)
_SIZE = flags.DEFINE_integer("image_size", 67, "Side of the input.")
_STEPS = flags.DEFINE_integer("steps", 1000, "After which a run of `plateau` counts as stalled.")
_BATCH = 128


def trainer(dataset, pixels, variant, stddev, seed, change=None):
    keras.utils.set_random_seed(seed)
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    with strategy.scope():
        model, optimizer = (
            build_model(variant, len(dataset.class_names), pixels.image_size, stddev=stddev),
            SGD2012(),
        )
    if change:
        change(model)
    step = steps.TrainStep(strategy, model, optimizer, pixels, _BATCH, xla=False)
    batches = iter(pipeline.training_batches(dataset.train, pixels, _BATCH, seed))
    return strategy, model, optimizer, step, batches


def plateau(dataset, pixels):
    source = VARIANTS["source2012"]["stddev"]
    rows = {
        "paper, 0.01 throughout": ("paper", None),
        "paper, 0.03 in conv3-5": ("paper", source),
        "source2012": ("source2012", None),
        "caffe": ("caffe", None),
    }
    for name, (variant, stddev) in rows.items():
        for seed in range(3):
            _, _, optimizer, step, batches = trainer(dataset, pixels, variant, stddev, seed)
            optimizer.learning_rate.assign(0.01)
            recent, left, begin = collections.deque(maxlen=50), None, time.time()
            for number in range(_STEPS.value):
                recent.append(float(step(next(batches), number)[0]) / _BATCH)
                if not math.isfinite(recent[-1]):
                    break
                if (
                    len(recent) == 50
                    and statistics.mean(recent) < math.log(len(dataset.class_names)) - 0.1
                ):
                    left = number + 1
                    break
            end = (
                f"left after {left} steps"
                if left
                else f"still at {statistics.mean(recent):.4f} after {number + 1}"
            )
            print(f"{name}, seed {seed}: {end} ({time.time() - begin:.0f} s)", flush=True)


def without_lrn(model):
    for layer in model.layers:
        if isinstance(layer, LocalResponseNormalization):
            layer.call = lambda inputs, training=False: tf.nn.relu(inputs)


def tanh(model):
    for layer in model.layers:
        if isinstance(layer, LocalResponseNormalization):
            layer.relu_first = False
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense)) and layer.name != "fc8":
            layer.activation = keras.activations.tanh


def even_start(model):
    for layer in model.layers:
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense)):
            deviation = math.prod(layer.kernel.shape[:-1]) ** -0.5
            layer.kernel.assign(layer.kernel * deviation / keras.ops.std(layer.kernel))
            layer.bias.assign(keras.ops.zeros_like(layer.bias))


def tanh_from_even_start(model):
    tanh(model)
    even_start(model)


def claims(dataset, pixels):
    scaled = dataclasses.replace(pixels, std=64.0)
    for name, seen, change in (
        ("as it is", pixels, None),
        ("without LRN", pixels, without_lrn),
        ("tanh instead of ReLU", pixels, tanh),
        ("ReLU, even start", scaled, even_start),
        ("tanh, even start", scaled, tanh_from_even_start),
    ):
        if _ONLY.value and name not in _ONLY.value:
            continue
        strategy, model, optimizer, step, batches = trainer(
            dataset, seen, "paper", VARIANTS["source2012"]["stddev"], 0, change
        )
        per_epoch, begin = dataset.train.examples // _BATCH, time.time()
        for epoch in range(_EPOCHS.value):
            loss, correct = 0.0, 0.0
            for number in range(epoch * per_epoch, (epoch + 1) * per_epoch):
                optimizer.learning_rate.assign(
                    0.01 * min(1, (number + 1) / 100) * (1 - number / (_EPOCHS.value * per_epoch))
                )
                sums = step(next(batches), number)
                loss, correct = loss + sums[0], correct + sums[1]
            figures = evaluation.evaluate_split(strategy, model, seen, dataset.evaluation, 500)
            pictures = per_epoch * _BATCH
            print(
                f"{name}, epoch {epoch + 1}: train loss {float(loss) / pictures:.3f}, error"
                f" {1 - float(correct) / pictures:.3f}; test loss {figures['loss']:.3f}, error"
                f" {1 - figures['top_1']:.3f} ({time.time() - begin:.0f} s)",
                flush=True,
            )


def main():
    keras.config.set_dtype_policy(_PRECISION.value)
    dataset = datasets.open_dataset("folder", _DATA_DIR.value)
    pixels = Preprocessing(_SIZE.value, round(_SIZE.value * 8 / 7), 3, (0.0,) * 3, 1.0)
    pixels = Preprocessing(
        _SIZE.value, pixels.resize, 3, pipeline.channel_statistics(dataset.train, pixels)[0], 1.0
    )
    {"plateau": plateau, "claims": claims}[_STUDY.value](dataset, pixels)


if __name__ == "__main__":
    app.run(main)
