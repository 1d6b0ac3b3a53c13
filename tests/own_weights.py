"""Weights files as this project writes them, small ones."""

import keras

from alexnet_tf.network import surgery
from alexnet_tf.network.model import build_model
from alexnet_tf.pixels import Preprocessing
from alexnet_tf.settings import Settings
from alexnet_tf.training import checkpoints

PIXELS = Preprocessing(67, 77, 3, (120.0, 110.0, 100.0), 57.6)


def weights_file(path, variant, names=("a", "b", "c"), dropout_rate=0.5):
    """A weights file of `variant` with drawn weights, whole, or without names a part; returns the
    model.
    """
    keras.utils.set_random_seed(5)
    model = build_model(variant, len(names) or None, 67, dropout_rate)
    source = {"file": "theirs.pth", "sha256": "0", "published": None, "licence": "BSD"}
    settings = Settings(
        variant,
        PIXELS,
        names,
        dropout_rate,
        {"dataset": "folder"},
        missing=() if names else ("fc8",),
        source=source,
        others={"versions": {}},
    )
    if not names:
        model = surgery.trunk(model)
    arrays = {variable.path: variable.numpy() for variable in model.weights}
    checkpoints.write_weights_file(path, arrays, settings.to_json())
    return model
