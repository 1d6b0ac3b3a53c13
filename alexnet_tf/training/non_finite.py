"""Where a loss that is not finite comes from: its step, and the layer."""

from collections.abc import Callable

import keras
import tensorflow as tf

from alexnet_tf import preprocessing
from alexnet_tf.data import pipeline
from alexnet_tf.data.splits import Dataset
from alexnet_tf.errors import NotFinite
from alexnet_tf.network import surgery
from alexnet_tf.pixels import Preprocessing
from alexnet_tf.training import checkpoints, steps
from alexnet_tf.training.plan import Plan


def stop_if_not_finite(
    steps_ago: int | None,
    done: int,
    model: keras.Model,
    pixels: Preprocessing,
    dataset: Dataset,
    plan: Plan,
    crop: Callable | None,
) -> None:
    """Raises NotFinite with the step and the layer if the loss was not finite `steps_ago` steps
    before the last one.
    """
    if steps_ago is None:
        return
    step = done - 1 - steps_ago
    # That step changed no weight, so the same batch shows where it began, unless later ones changed
    # much.
    batch = next(
        iter(
            pipeline.training_batches(
                dataset.to_train(), pixels, plan.batch_size, plan.seed, step, crop=crop
            )
        )
    )
    layer = first_non_finite_layer(model, pixels, batch["image"])
    where = f" from layer {layer} on" if layer else ""
    what = "" if layer else " or its gradient"
    half = steps.computes_in_float16(model)
    other = "float16 ends at 65,504: use mixed_bfloat16, or " if half else ""
    raise NotFinite(
        f"The loss{what} is not finite at step {step + 1}{where};"
        f" {other}{checkpoints.IF_NOT_FINITE}"
    )


def first_non_finite_layer(
    model: keras.Model, pixels: Preprocessing, images: tf.Tensor
) -> str | None:
    """The name of the first layer whose output for `images` (uint8) is not finite, or None."""
    x = preprocessing.to_network_input(images, pixels)
    computed = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    outputs = [surgery.output_of(model, layer) for layer in computed]
    for layer, output in zip(computed, keras.Model(model.inputs[0], outputs)(x)):
        if not bool(tf.reduce_all(tf.math.is_finite(tf.cast(output, tf.float32)))):
            return layer.name
    return None
