"""Where a loss that is not finite comes from."""

import keras
import pytest
import tensorflow as tf
from trainings import plan

from alexnet_tf import networks
from alexnet_tf.data import datasets
from alexnet_tf.errors import NotFinite
from alexnet_tf.preprocessing import Preprocessing
from alexnet_tf.training import non_finite

PIXELS = Preprocessing(image_size=12, resize=14, channels=1, mean=(128.0,), std=64.0)


def test_what_ends_in_float16_is_told_of_a_wider_one(picture_folder, monkeypatch):
    """Its gradients end at 65,504 too, where the loss is finite."""
    dataset = datasets.open_dataset("folder", picture_folder)
    black = {"image": tf.zeros([6, 12, 12, 1], tf.uint8)}
    monkeypatch.setattr(non_finite.pipeline, "training_batches", lambda *_, **__: [black])
    for policy, advice in (
        (
            "mixed_float16",
            "1; float16 ends at 65,504: use mixed_bfloat16, or try a lower learning",
        ),
        ("mixed_bfloat16", "1; try a lower learning_rate"),
    ):
        with networks.under_policy(policy):
            model = keras.Sequential(
                [keras.Input((12, 12, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
            )
        with pytest.raises(NotFinite, match=f"or its gradient is not finite at step {advice}"):
            non_finite.stop_if_not_finite(0, 1, model, PIXELS, dataset, plan(1), None)
