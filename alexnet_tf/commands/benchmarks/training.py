"""A training step: images per second, the share of the machine's matrix product, and what each part
costs.
"""

import resource

import keras
import numpy as np
import tensorflow as tf
from absl import flags

from alexnet_tf.commands import app
from alexnet_tf.commands.benchmarks.timing import (
    DATA_DIR,
    DATASET,
    FLAGS,
    OF_DATASET,
    ROUNDS,
    check_python,
    elsewhere,
    in_turn,
)
from alexnet_tf.data import datasets, pipeline
from alexnet_tf.errors import UserError
from alexnet_tf.network.layers import BETA, LocalResponseNormalization
from alexnet_tf.network.model import VARIANTS, build_model, training_work
from alexnet_tf.pixels import Preprocessing
from alexnet_tf.training import devices, steps
from alexnet_tf.training.optimizer import SGD2012

_BATCH_SIZE, _PRECISION, _DISTRIBUTION, _REPLICAS = app.define_devices(FLAGS)
_VARIANT = app.define_variant(FLAGS)
_XLA = flags.DEFINE_enum(
    "xla",
    "off",
    ["on", "off", "both"],
    "Compile the steps with XLA; both: time each way.",
    flag_values=FLAGS,
)
_TORCH_PYTHON = flags.DEFINE_string(
    "torch_python",
    None,
    "A Python that has PyTorch: times --variant=paper there too, and torchvision's network.",
    flag_values=FLAGS,
)
READS = (
    *OF_DATASET,
    *("rounds", "batch_size", "precision", "distribution", "replicas"),
    *("variant", "xla", "torch_python"),
)


def figures():
    """Figures of the step, by name, as text."""
    check_python("torch_python", _TORCH_PYTHON.value)
    if _TORCH_PYTHON.value and _VARIANT.value != "paper":
        raise UserError(
            f"--torch_python={_TORCH_PYTHON.value} knows the variant paper alone, not"
            f" --variant={_VARIANT.value}; leave one of the two out."
        )
    strategy = devices.distribution(_DISTRIBUTION.value, _REPLICAS.value)
    devices.check_divides(_BATCH_SIZE.value, strategy.num_replicas_in_sync)
    dataset = datasets.open_dataset(DATASET.value, DATA_DIR.value, names=app.split_names(FLAGS))
    row = VARIANTS[_VARIANT.value]
    pixels = Preprocessing(
        row["image_size"], row["resize"], row["channels"], (120.0,) * row["channels"], row["std"]
    )
    keras.config.set_dtype_policy(_PRECISION.value)

    kinds = {"step": _keep, "step without LRN": _no_lrn, "step with tf.nn's LRN": _tf_lrn}
    if "lrn" not in row:
        kinds = {"step": _keep}
    ways = {"on": (True,), "off": (False,), "both": (False, True)}[_XLA.value]
    timed, models = {}, {}
    for kind, change in kinds.items():
        for xla in ways:
            name = f"{kind}{', XLA' if xla else ''}"
            models[name], step = _step(strategy, change, pixels, len(dataset.class_names), xla)
            timed[name] = _on_one_batch(
                step, _random_batch(strategy, pixels, len(dataset.class_names))
            )
    first = next(iter(timed))
    operations, product = _matrix_product()
    operations /= in_turn({"": product})[""]
    seconds = in_turn(timed)
    batches = pipeline.distribute(
        strategy,
        lambda context: pipeline.training_batches(
            dataset.train, pixels, _BATCH_SIZE.value, 0, context=context
        ),
    )
    step = _step(strategy, _keep, pixels, len(dataset.class_names), ways[0])[1]
    fed = in_turn({"one batch": timed[first], "fed": lambda number: step(next(batches), number)})

    figures = {}
    for kind, value in seconds.items():
        figures[kind] = (
            f"{value:.3f} s, {_BATCH_SIZE.value / value:.1f} images/s, {seconds[first] / value:.3f}"
            " of a step's rate"
        )
    if "step without LRN" in seconds:
        figures["cost of LRN"] = (
            f"{seconds[first] / seconds['step without LRN']:.3f} times the step without"
        )
    figures["fed by the input pipeline"] = (
        f"{fed['one batch'] / fed['fed']:.3f} of the rate on one batch in memory"
    )
    figures["matrix product"] = f"{operations / 1e9:.0f} GFLOP/s in {_PRECISION.value}"
    for kind in seconds.keys() & {first, "step without LRN"}:
        share = 2 * training_work(models[kind]) * _BATCH_SIZE.value / seconds[kind] / operations
        figures[f"{kind}, share of the matrix product's rate"] = f"{share:.3f}"
    if _TORCH_PYTHON.value:
        figures |= _torch(_BATCH_SIZE.value / seconds[first])
    figures["peak memory"] = (
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB, all kinds of step"
        " together"
    )
    what = (
        f"{_VARIANT.value}, batch {_BATCH_SIZE.value}, {_PRECISION.value},"
        f" {strategy.num_replicas_in_sync} replica(s)"
    )
    return {"what": what} | figures


def _step(strategy, change, pixels, classes, xla):
    with strategy.scope():
        model, optimizer = build_model(_VARIANT.value, classes), SGD2012(0.001)
    change(model)
    return model, steps.TrainStep(strategy, model, optimizer, pixels, _BATCH_SIZE.value, xla)


def _on_one_batch(step, batch):
    return lambda number: step(batch, number)


def _keep(model):
    del model


def _no_lrn(model):
    for layer in _lrn_layers(model):
        layer.call = lambda inputs, training=False, layer=layer: (
            tf.nn.relu(inputs) if layer.relu_first else inputs
        )


def _tf_lrn(model):
    for layer in _lrn_layers(model):

        def call(inputs, training=False, layer=layer):
            wide = tf.cast(tf.nn.relu(inputs) if layer.relu_first else inputs, tf.float32)
            return tf.cast(
                tf.nn.local_response_normalization(
                    wide, layer.size // 2, layer.k, layer.alpha, BETA
                ),
                inputs.dtype,
            )

        layer.call = call


def _lrn_layers(model):
    return [layer for layer in model.layers if isinstance(layer, LocalResponseNormalization)]


def _random_batch(strategy, pixels, classes):
    rng = np.random.default_rng(0)
    shape = (_BATCH_SIZE.value, pixels.image_size, pixels.image_size, pixels.channels)
    batch = {
        "image": rng.integers(0, 256, shape, np.uint8),
        "label": rng.integers(0, classes, _BATCH_SIZE.value),
    }
    return next(iter(strategy.experimental_distribute_dataset(tf.data.Dataset.from_tensors(batch))))


def _matrix_product():
    """(its floating-point operations, a function that does it): what the machine can do at most."""
    # one product of the smaller size is over on a GPU before the next call has begun
    side, products = (8192, 20) if tf.config.list_physical_devices("GPU") else (4096, 1)
    dtype = tf.bfloat16 if _PRECISION.value == "mixed_bfloat16" else tf.float32
    a = tf.cast(tf.random.normal([side, side], stddev=side**-0.5), dtype)  # products stay as large

    @tf.function
    def product():
        power = a
        for _ in range(products):
            power = tf.matmul(power, a)
        return tf.reduce_sum(power)

    return 2 * side**3 * products, lambda number: [product()]


def _torch(our_rate):
    """Images/s of PyTorch's training step, the best of four ways, after ours have been timed."""
    figures = {}
    for net, rates in elsewhere(
        "training_step", "torch_python", _TORCH_PYTHON.value, _BATCH_SIZE.value, ROUNDS.value
    ).items():
        best = max(rates, key=rates.get)
        figures[f"PyTorch, {net}"] = (
            f"{rates[best]:.1f} images/s ({best}, float32); ours is {our_rate / rates[best]:.2f}"
            " times"
        )
    return figures
