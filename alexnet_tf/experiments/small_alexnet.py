"""The networks of two towers at the smallest size that leaves a pixel after the last pool, with
what an experiment changes: what the experiments on AlexNet itself train.
"""

from typing import Any

import keras

from alexnet_tf import networks
from alexnet_tf.data.splits import Dataset
from alexnet_tf.experiments.experiment import Bench, Run
from alexnet_tf.network.model import (
    DROPOUT_RATE,
    VARIANTS,
    connect,
    initial_stddev,
    smallest_image_size,
)
from alexnet_tf.pixels import Preprocessing
from alexnet_tf.training import defaults

ONE_TOWER = {"towers": "a", "width": 2, "conv5_filters": 256}  # of as many kernels as two have


def build(
    variant: str,
    num_classes: int,
    changes: dict[str, Any] | None = None,
    dropout_rate: float = DROPOUT_RATE,
    init: str = "source2012",
) -> keras.Model:
    """`variant` with `changes` in its row; `init` is that of model.initial_stddev."""
    side = smallest_image_size(variant)
    images = keras.Input((side, side, 3), name="images")
    stddev = initial_stddev(variant, init)
    logits = connect(images, variant, num_classes, dropout_rate, stddev, changes=changes)
    return keras.Model(images, logits, name=variant)


def pixels(variant: str, dataset: Dataset) -> Preprocessing:
    """What `build` reads."""
    return defaults.preprocessing_for(variant, dataset, smallest_image_size(variant))


def train(
    bench: Bench,
    run: Run,
    variant: str,
    changes: dict[str, Any] | None = None,
    dropout_rate: float = DROPOUT_RATE,
    **settings: Any,
) -> networks.Network:
    """Trains what `build` makes, at a rate that rises from 0 and then falls linearly to 0, with the
    variant's own colour noise where `settings`, those of Bench.train, have no other.
    """
    dataset = bench.given()
    noise = {"colour_noise": VARIANTS[variant]["colour_noise"]}
    return bench.train(
        run,
        lambda: build(variant, len(dataset.class_names), changes, dropout_rate),
        pixels(variant, dataset),
        schedule="linear",
        warmup_steps=bench.warmup(dataset),
        **noise | settings,
    )
