"""The small networks behind two claims of the paper, from the examples of cuda-convnet.

`local`: layers-conv-local-13pct.cfg and layers-conv-local-11pct.cfg, to which a footnote of section
3.3 points (github.com/dnouri/cuda-convnet, commit 7345477). Their published rates are 0.001, 0.002
for biases, momentum 0.9, batch 128; their decay stands in the network, as regularizers, because it
differs by layer: train them with weight_decay=0.

`plain`: layers-18pct.cfg without its normalisation, four layers of weights, for Figure 1, whose
network is not published.

Pools round up, as cuda-convnet's do: the last window may hang over, and sees what is there.
Keras 3 only: they run on the TensorFlow, JAX and PyTorch backends.
"""

from typing import Any

import keras
import numpy as np
from keras import layers

from alexnet_tf.network.layers import LocallyConnected2D, LocalResponseNormalization

LOCAL_SIZE, PLAIN_SIZE = 24, 32  # sides of the input in pixels; local reads crops of 32 x 32
# What differs between the two published networks, beside the normalisation.
PUBLISHED: dict[str, dict[str, Any]] = {
    "13pct": {"local3_filters": 32, "fc10_decay": 0.004, "normalised": False},
    "11pct": {"local3_filters": 64, "fc10_decay": 0.01, "normalised": True},
}


def local(
    name: str,
    num_classes: int,
    mean_picture: np.ndarray,
    normalised: bool | None = None,
) -> keras.Model:
    """The network PUBLISHED[name], as published or with another `normalised`; float [batch, 24, 24,
    3], RGB in 0..255, to logits. It subtracts `mean_picture`, float [24, 24, 3], itself.
    """
    row = PUBLISHED[name]
    normalised = row["normalised"] if normalised is None else normalised

    def rnorm(x: Any, name: str) -> Any:  # "scale=0.001" is divided by the window's 9; k is 1
        if not normalised:
            return x
        return LocalResponseNormalization(9, k=1.0, alpha=0.001 / 9, name=name)(x)

    def conv(x: Any, stddev: float, name: str) -> Any:
        return layers.Conv2D(
            64,
            5,
            padding="same",
            activation="relu",
            kernel_initializer=keras.initializers.RandomNormal(stddev=stddev),
            name=name,
        )(x)

    def locally(x: Any, filters: int, name: str) -> Any:
        return LocallyConnected2D(
            filters,
            3,
            "relu",
            keras.initializers.RandomNormal(stddev=0.04),
            _decay(0.004),
            name=name,
        )(x)

    images = keras.Input((LOCAL_SIZE, LOCAL_SIZE, 3), name="images")
    mean = np.asarray(mean_picture, np.float32)
    x = layers.Normalization(
        (1, 2, 3), mean=mean, variance=np.ones_like(mean), dtype="float32", name="less_mean"
    )(images)
    x = _pool(conv(x, 0.0001, "conv1"), "pool1")  # 12 x 12 x 64
    x = conv(rnorm(x, "rnorm1"), 0.01, "conv2")
    x = _pool(rnorm(x, "rnorm2"), "pool2")  # 6 x 6 x 64
    x = locally(x, row["local3_filters"], "local3")
    x = locally(x, 32, "local4")  # 6 x 6 x 32
    return keras.Model(images, _fc10(x, num_classes, row["fc10_decay"]), name=f"local{name}")


def plain(activation: str, num_classes: int) -> keras.Model:
    """Four layers, with "relu" or "tanh" behind each convolution and no regularisation: float
    [batch, 32, 32, 3], RGB 0..255 less the mean, to logits.
    """

    def conv(x: Any, filters: int, stddev: float, name: str) -> Any:
        return layers.Conv2D(
            filters,
            5,
            padding="same",
            activation=activation,
            kernel_initializer=keras.initializers.RandomNormal(stddev=stddev),
            name=name,
        )(x)

    images = keras.Input((PLAIN_SIZE, PLAIN_SIZE, 3), name="images")
    x = _pool(conv(images, 32, 0.0001, "conv1"), "pool1")  # 16 x 16 x 32
    x = _pool(conv(x, 32, 0.01, "conv2"), "pool2", layers.AveragePooling2D)  # 8 x 8 x 32
    x = _pool(conv(x, 64, 0.01, "conv3"), "pool3", layers.AveragePooling2D)  # 4 x 4 x 64
    return keras.Model(images, _fc10(x, num_classes), name=activation)


def _pool(x: Any, name: str, kind: type = layers.MaxPooling2D) -> Any:
    # On even sides "same" is what rounding up is: a window that hangs over at the end alone.
    return kind(3, 2, padding="same", name=name)(x)


def _fc10(x: Any, num_classes: int, decay: float = 0.0) -> Any:
    return layers.Dense(
        num_classes,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
        kernel_regularizer=_decay(decay) if decay else None,
        dtype="float32",
        name="fc10",
    )(layers.Flatten(name="flatten")(x))


def _decay(decay: float) -> keras.regularizers.Regularizer:
    """That whose gradient is `decay` times the weights."""
    return keras.regularizers.L2(decay / 2)
