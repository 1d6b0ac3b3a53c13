"""AlexNet: images to logits.

Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural Networks, NIPS
2012 ("the paper"), and its released source, https://github.com/computerhistory/AlexNet-Source-Code
("the source", layers/layers-145.cfg).

Two papers and one source tree are called AlexNet; `VARIANTS` says which is which. Keras 3 only:
this file builds and runs on the TensorFlow, JAX and PyTorch backends. The last layer computes in
float32 whatever the policy. Departures from the originals: a fully connected layer that reads both
towers is one layer here (the original splits its outputs over two GPUs), and an image_size other
than a variant's own gives pools that drop the last row where the source would look past the border.
"""

import contextlib
import math
import re
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from alexnet_tf import bounds
from alexnet_tf.errors import UserError
from alexnet_tf.network.layers import (
    Dropout,
    LocalResponseNormalization,
    SpatialResponseNormalization,
    check_channels_last,
)

DROPOUT_RATE = 0.5  # share of the units of fc6 and fc7 that are dropped; section 4.2
# The paper's text. Section 3.5 prints 224 x 224 for the input; 11 x 11 kernels at stride 4 fit 55
# times only into 227.
_PAPER: dict[str, Any] = {
    "num_classes": 1000,
    "learning_rate": 0.01,  # at the start; section 5
    "image_size": 227,
    # section 2: the shorter side is scaled to 256, of which image_size pixels are cropped
    "resize": 256,
    "channels": 3,
    "std": 1.0,  # inputs are divided by this after mean subtraction: section 2 divides by nothing
    # section 4.1: standard deviation of the shifts along the principal components of the colours
    "colour_noise": 0.1,
    "towers": "ab",
    "overhang": False,  # True: conv1 looks past the right and bottom border, at zeros
    "relu_first": True,  # in block 1: ReLU, LRN, pool; False: LRN on signed values, pool, ReLU
    "pool_first": False,  # in blocks 1 and 2: True: pool, LRN
    "pool_size": 3,  # at stride 2; section 3.4
    "lrn": {"size": 5, "k": 2.0, "alpha": 1e-4},  # section 3.3; None: none
    "lrn_across_towers": False,
    "spatial_norm": False,
    "conv6": False,
    "width": 1,  # a tower's kernels but those of conv5, as a multiple of what stands below
    "conv5_filters": 128,  # per tower
    "fc_units": 4096,
    "inverted_dropout": False,
    # Section 5: standard deviation 0.01 in every layer; biases 1 in conv2, conv4, conv5 and the
    # hidden fully connected.
    "stddev": {},
    "biases": {"conv2": 1.0, "conv4": 1.0, "conv5": 1.0, "conv6": 1.0, "fc6": 1.0, "fc7": 1.0},
}
# What was run: layers-145.cfg and layer-params-145.cfg. "scale=0.0001" is divided by the window's 5
# (layer.py:1183).
_SOURCE2012: dict[str, Any] = _PAPER | {
    "image_size": 224,
    "noise_divides": True,  # inputs, by 1 + colour_noise: convdata_jpeg.py:176-179
    "overhang": True,
    "relu_first": False,
    "lrn": {"size": 5, "k": 2.0, "alpha": 2e-5},
    "spatial_norm": True,
    "stddev": {"conv3": 0.03, "conv4": 0.03, "conv5": 0.03, "conv6": 0.03},
}
# BVLC's bvlc_alexnet (train_val.prototxt): LRN over the channels of both groups, k = 1, alpha / 5.
_CAFFE: dict[str, Any] = _PAPER | {
    "colour_noise": 0.0,
    "lrn": {"size": 5, "k": 1.0, "alpha": 2e-5},
    "lrn_across_towers": True,
    "inverted_dropout": True,
    "stddev": {"fc6": 0.005, "fc7": 0.005},
    "biases": dict.fromkeys(("conv2", "conv4", "conv5", "fc6", "fc7"), 0.1),
}
# Krizhevsky, One weird trick for parallelizing convolutional neural networks, 2014, as torchvision
# builds it.
_ONE_WEIRD_TRICK: dict[str, Any] = {
    "num_classes": 1000,
    "learning_rate": 0.01,
    "image_size": 224,
    "resize": 256,
    "channels": 3,
    "std": 57.6,
    "colour_noise": 0.0,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "paper": _PAPER,
    "source2012": _SOURCE2012,
    "caffe": _CAFFE,
    # BVLC's bvlc_reference_caffenet (train_val.prototxt): pooled before it is normalised, and the
    # paper's biases.
    "caffenet": _CAFFE | {"pool_first": True, "biases": _PAPER["biases"]},
    # Half of the network: tower a alone.
    "half": _PAPER | {"towers": "a", "fc_units": 2048},
    # The one-GPU net that section 3.2 compares with: half the kernels, conv5 and fc as wide as two
    # towers (layers-145-half.cfg).
    "one_gpu": _SOURCE2012 | {"towers": "a", "conv5_filters": 256},
    # The pre-training net of the starred ensembles: a sixth convolution after the last pool
    # (layers-146-2012-2011.cfg).
    "conv6": _SOURCE2012 | {"conv6": True},
    "one_weird_trick": _ONE_WEIRD_TRICK,
    # The same without fc6 and fc7: its projection reads what pool5 puts out. Weights of the
    # convolutions alone make it.
    "one_weird_trick_pool5": _ONE_WEIRD_TRICK,
    # LeNet-5 as it usually stands beside AlexNet: 28 x 28 grey pictures, padded in conv1; tanh and
    # average pooling as in 1998.
    # A std of 64 gives inputs a variance of about 1, as the initial weights want it.
    "lenet5": {
        "num_classes": 10,
        "learning_rate": 0.05,
        "image_size": 28,
        "resize": 32,
        "channels": 1,
        "std": 64.0,
        "colour_noise": 0.0,
    },
}


def build_model(
    variant: str = "paper",
    num_classes: int | None = None,
    image_size: int | None = None,
    dropout_rate: float = DROPOUT_RATE,
    stddev: dict | None = None,
    tower_devices: Sequence[str] | None = None,
) -> keras.Model:
    """Returns the Keras functional model of `variant`; its output is logits, float32
    [batch, num_classes], by default 1000 and of lenet5 10.

    Its input is float [batch, image_size, image_size, channels]: RGB 0..255 less the mean, divided
    by the variant's "std" (alexnet_tf/preprocessing.py makes it). `stddev`, by layer name without
    the tower's letter, replaces the standard deviations of the initial weights. `tower_devices`
    names the devices on which the weights of tower a and tower b are made; devices.place_towers has
    the arithmetic done there too. Raises UserError for an unknown variant, fewer than two classes,
    a dropout_rate outside of [0, 1), or an image_size below the smallest that leaves a pixel after
    the last pool.
    """
    check_variant(variant)
    row = VARIANTS[variant]
    if image_size is None:
        image_size = row["image_size"]
    image_size = bounds.whole(image_size, "image_size", 1, bounds.LARGEST_RESIZE)
    dropout_rate = bounds.number(dropout_rate, "dropout_rate", 1)
    num_classes = (
        row["num_classes"] if num_classes is None else bounds.whole(num_classes, "num_classes", 2)
    )
    check_large_enough(image_size, variant)
    images = keras.Input((image_size, image_size, row["channels"]), name="images")
    logits = connect(images, variant, num_classes, dropout_rate, stddev, tower_devices)
    model = keras.Model(images, logits, name=variant)
    model.variant, model.dropout_rate = variant, dropout_rate  # for the settings of a training
    return model


def connect(
    images: Any,
    variant: str,
    num_classes: int | None,
    dropout_rate: float = DROPOUT_RATE,
    stddev: dict | None = None,
    tower_devices: Sequence[str] | None = None,
    activation: Any = None,
    changes: dict[str, Any] | None = None,
) -> Any:
    """What the network of `variant` puts out for the Keras tensor `images`, as build_model has it:
    `num_classes` logits, or what `activation` makes of them; of None classes the map behind the
    last pool (of conv6 in conv6), float [batch, height, width, maps]. `changes` replace entries of
    the row of a variant that has towers: what an experiment leaves out, say. Raises UserError where
    Keras makes layers of channels that come first.
    """
    check_channels_last("the network")
    if variant == "lenet5":
        return _lenet5(images, num_classes, activation)
    if VARIANTS[variant] is _ONE_WEIRD_TRICK:
        hidden = variant == "one_weird_trick"
        return _one_weird_trick(images, num_classes, dropout_rate, hidden, activation)
    row = VARIANTS[variant] | ({"stddev": stddev} if stddev else {}) | (changes or {})
    devices = dict(zip(row["towers"], tower_devices or ()))
    return _alexnet(images, num_classes, dropout_rate, row, devices, activation)


def check_variant(variant: Any) -> None:
    """Raises UserError unless `variant` is the name of one."""
    bounds.check_one_of(variant, "variant", VARIANTS)


def has_init(variant: str) -> bool:
    """Whether the variant's own text has smaller initial weights in conv3 to conv5 than were run in
    2012.
    """
    return variant in ("paper", "half", "caffe", "caffenet")


def has_dropout(variant: str) -> bool:
    """Whether the variant drops units before its full connections."""
    return variant != "lenet5"


def initial_stddev(variant: str, init: str = "source2012") -> dict | None:
    """The `stddev` of build_model for the initial weights `init`: "source2012", with what was run
    in 2012 in conv3 to conv5, or "variant", as the variant's own text has it.
    """
    if not has_init(variant) or init != "source2012":
        return None
    return VARIANTS[variant]["stddev"] | VARIANTS["source2012"]["stddev"]


def stable_rate(variant: str, num_classes: int, dropout_rate: float = DROPOUT_RATE) -> float:
    """The highest learning rate at which the projection of the untrained network is stable under
    plain gradient descent, to one digit; infinite where nothing but its data decides that.

    The units of fc7 all put out about their bias at the start, so that the loss is curved along the
    weights of the projection by their sum of squares over num_classes: 2048 / num_classes in
    `paper`, four times as much where dropout doubles what it keeps. Steps of more than 2 over that
    go up the other side, and what flows back from there kills fc7 before it has learnt anything.
    """
    row = VARIANTS[variant]
    if not (bias := row.get("biases", {}).get("fc7")):
        return math.inf
    kept = 1 - dropout_rate
    square = bias**2 / kept if row["inverted_dropout"] else bias**2 * kept
    return float(f"{2 * num_classes / (row['fc_units'] * square):.0e}")


def projection_name(variant: str) -> str:
    """Of the variant's last layer, which turns features into logits."""
    return "fc5" if variant == "lenet5" else "fc8"


def smallest_image_size(variant: str) -> int:
    """The smallest image_size that leaves at least one pixel after the last pool."""
    if variant == "lenet5":
        return 12
    size = 1
    while _last_map_size(variant, size) < 1:
        size += 1
    return size


def check_large_enough(image_size: int, variant: str) -> None:
    """Raises UserError for images that leave no pixel after the last pool."""
    if image_size < (smallest := smallest_image_size(variant)):
        raise UserError(
            f"image_size={image_size} is too small for variant={variant}; its smallest is"
            f" {smallest}."
        )


def multiply_adds(layer: keras.layers.Layer) -> int:
    """Multiply-adds of a layer of a built model for one picture; only convolutions and full
    connections count.
    """
    if not isinstance(layer, (layers.Conv2D, layers.Dense)):
        return 0
    return math.prod(layer.output.shape[1:-1]) * math.prod(layer.kernel.shape)


def training_work(model: keras.Model) -> int:
    """Multiply-adds of a training step for one picture: forward, and backward down to the first
    layer that is not frozen.

    The gradient of a layer's weights costs as much as its forward pass, and so does that of its
    inputs; the first trained layer needs none of its inputs, a frozen one above it none of its
    weights.
    """
    work, first = 0, None
    for layer in model.layers:
        own = multiply_adds(layer)
        work += own
        if own and layer.trainable:
            first = first or both_towers(layer)
            work += own
        if first and both_towers(layer) != first:
            work += own
    return work


def both_towers(layer: keras.layers.Layer) -> str:
    """What tables and flags call a layer: conv1 for conv1a and conv1b."""
    return re.sub(r"(?<=\d)[ab]$", "", layer.name)


def _last_map_size(variant, image_size):
    if VARIANTS[variant] is _ONE_WEIRD_TRICK:
        conv1 = (image_size + 4 - 11) // 4 + 1
    elif VARIANTS[variant]["overhang"]:
        conv1 = -((11 - image_size) // 4) + 1  # rounded up: layer.py:1004
    else:
        conv1 = (image_size - 11) // 4 + 1
    size = conv1
    for _ in range(3):
        size = (size - 3) // 2 + 1
    return size


def _alexnet(images, num_classes, dropout_rate, row, devices, activation):
    """Sizes at the ends of the lines:

    227 x 227 input, two towers. A tower is a list entry; `both` joins them.
    """
    towers, width = row["towers"], row["width"]

    def conv(inputs, filters, kernel_size, name, strides=1, padding="same", relu=True):
        outputs = []
        for x, tower in zip(inputs, towers):
            with keras.device(devices[tower]) if devices else contextlib.nullcontext():
                outputs.append(
                    layers.Conv2D(
                        filters,
                        kernel_size,
                        strides,
                        padding,
                        activation="relu" if relu else None,
                        name=f"{name}{tower}",
                        kernel_initializer=keras.initializers.RandomNormal(
                            stddev=row["stddev"].get(name, 0.01)
                        ),
                        bias_initializer=keras.initializers.Constant(row["biases"].get(name, 0.0)),
                    )(x)
                )
        return outputs

    def pool(inputs, name):
        return [
            layers.MaxPooling2D(row["pool_size"], 2, name=f"{name}{tower}")(x)
            for x, tower in zip(inputs, towers)
        ]

    # its kernel holds the ReLU of the convolution before it
    def lrn(inputs, name, relu_first=True):
        if not row["lrn"]:
            relus = [layers.ReLU(name=f"relu{name[-1]}{tower}") for tower in towers]
            return [relu(x) for relu, x in zip(relus, inputs)] if relu_first else inputs

        def layer(name):
            return LocalResponseNormalization(**row["lrn"], relu_first=relu_first, name=name)

        if not row["lrn_across_towers"]:
            return [layer(f"{name}{tower}")(x) for x, tower in zip(inputs, towers)]
        x = layer(name)(both(inputs, f"{name}_in")[0])
        half = x.shape[-1] // 2
        return [x[..., :half], x[..., half:]]

    def both(inputs, name):  # every tower reads all of it
        return inputs if len(towers) == 1 else [layers.Concatenate(name=name)(inputs)] * len(towers)

    def fc(x, units, name, activation="relu", dtype=None):
        return layers.Dense(
            units,
            activation=activation,
            name=name,
            dtype=dtype,
            kernel_initializer=keras.initializers.RandomNormal(
                stddev=row["stddev"].get(name, 0.01)
            ),
            bias_initializer=keras.initializers.Constant(row["biases"].get(name, 0.0)),
        )(x)

    def dropout(x, name):
        return Dropout(dropout_rate, row["inverted_dropout"], name=name)(x)

    x = [images] * len(towers)
    if row["overhang"]:
        # The last of ceil((size - 11) / 4) + 1 positions ends up to 3 pixels outside, where the
        # source reads zeros.
        overhang = [(0, (11 - side) % 4) for side in images.shape[1:3]]
        x = [layers.ZeroPadding2D(overhang, name="overhang")(images)] * len(towers)
    # 55 x 55 x 48, twice
    x = conv(x, 48 * width, 11, "conv1", strides=4, padding="valid", relu=False)
    # The ReLU is in the kernel of LRN, and finds the same maxima after the pool.
    # 27 x 27 x 48
    x = (
        lrn(pool(x, "pool1"), "lrn1")
        if row["pool_first"]
        else pool(lrn(x, "lrn1", row["relu_first"]), "pool1")
    )
    if not row["relu_first"]:
        x = [layers.ReLU(name=f"relu1{tower}")(t) for t, tower in zip(x, towers)]
    # 27 x 27 x 128
    x = conv(x, 128 * width, 5, "conv2", relu=False)
    if row["pool_first"]:
        x = pool(x, "pool2")
    x = lrn(x, "lrn2")
    if row["spatial_norm"]:
        x = [
            SpatialResponseNormalization(name=f"spatial_norm2{tower}")(t)
            for t, tower in zip(x, towers)
        ]
    if not row["pool_first"]:
        # 13 x 13 x 128
        x = pool(x, "pool2")
    # 13 x 13 x 192
    x = conv(both(x, "both2"), 192 * width, 3, "conv3")
    # 13 x 13 x 192
    x = conv(x, 192 * width, 3, "conv4")
    # 13 x 13 x 128
    x = conv(x, row["conv5_filters"], 3, "conv5")
    # 6 x 6 x 256
    x = both(pool(x, "pool5"), "both5")
    if row["conv6"]:
        # 6 x 6 x 256
        x = both(conv(x, 128 * width, 3, "conv6"), "both6")
    if num_classes is None:
        return x[0]
    x = layers.Flatten(name="flatten")(x[0])  # 9216
    x = dropout(fc(x, row["fc_units"], "fc6"), "dropout6")  # 4096
    x = dropout(fc(x, row["fc_units"], "fc7"), "dropout7")  # 4096
    return fc(x, num_classes, "fc8", activation, dtype="float32")


def _one_weird_trick(images, num_classes, dropout_rate, hidden, activation):
    """Without `hidden`, fc6 and fc7, the projection reads the last map.

    Widths, padding, dropout before the layer, average pool and initial weights as in
    torchvision.models.alexnet.
    """

    # PyTorch's default: uniform within 1/sqrt(fan_in), kernels and biases alike.
    def initializers(fan_in):
        return {
            "kernel_initializer": keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform"),
            "bias_initializer": keras.initializers.RandomUniform(-(fan_in**-0.5), fan_in**-0.5),
        }

    def conv(x, filters, kernel_size, name):
        return layers.Conv2D(
            filters,
            kernel_size,
            padding="same",
            activation="relu",
            name=name,
            **initializers(kernel_size**2 * x.shape[-1]),
        )(x)

    def fc(x, units, name, activation="relu", dtype=None):
        return layers.Dense(units, activation, name=name, dtype=dtype, **initializers(x.shape[-1]))(
            x
        )

    x = layers.ZeroPadding2D(2, name="pad1")(images)
    # 55 x 55 x 64
    x = layers.Conv2D(64, 11, 4, activation="relu", name="conv1", **initializers(363))(x)
    # 27 x 27 x 64
    x = layers.MaxPooling2D(3, 2, name="pool1")(x)
    # 27 x 27 x 192
    x = conv(x, 192, 5, "conv2")
    # 13 x 13 x 192
    x = layers.MaxPooling2D(3, 2, name="pool2")(x)
    # 13 x 13 x 384
    x = conv(x, 384, 3, "conv3")
    # 13 x 13 x 256
    x = conv(x, 256, 3, "conv4")
    # 13 x 13 x 256
    x = conv(x, 256, 3, "conv5")
    # 6 x 6 x 256
    x = layers.MaxPooling2D(3, 2, name="pool5")(x)
    if num_classes is None:
        return x
    # 6 x 6 x 256
    x = _adaptive_average(x, 6)
    x = layers.Flatten(name="flatten")(x)  # 9216
    if hidden:
        x = fc(Dropout(dropout_rate, inverted=True, name="dropout6")(x), 4096, "fc6")  # 4096
        x = fc(Dropout(dropout_rate, inverted=True, name="dropout7")(x), 4096, "fc7")  # 4096
    else:
        x = Dropout(dropout_rate, inverted=True, name="dropout8")(x)  # 9216
    return fc(x, num_classes, "fc8", activation, dtype="float32")


WINDOW_MEANS = "ih,bhwc,jw->bijc"  # of a map, by windows of its rows and of its columns


def _adaptive_average(x, side):
    """Means over `side` x `side` windows that cover the map, overlapping where it is smaller:

    PyTorch's AdaptiveAvgPool2d.
    """
    size = x.shape[1]
    if size == side:
        return x
    windows = np.zeros((side, size), np.float32)
    for index in range(side):
        first, last = index * size // side, -(-(index + 1) * size // side)
        windows[index, first:last] = 1 / (last - first)
    return ops.einsum(WINDOW_MEANS, ops.cast(windows, x.dtype), x, ops.cast(windows, x.dtype))


def _lenet5(images, num_classes, activation):
    """LeCun et al. 1998 in the form in which it stands beside AlexNet: plain average pools and full
    connections.

    Sigmoids, which this form is often given, stay at ln(classes) for long from the usual starts;
    1998 had a tanh, and weights of variance 1 / inputs.
    """

    def conv(x, filters, name, padding="valid"):
        return layers.Conv2D(
            filters,
            5,
            padding=padding,
            activation="tanh",
            kernel_initializer="lecun_normal",
            name=name,
        )(x)

    def fc(x, units, name, activation="tanh", dtype=None):
        return layers.Dense(
            units, activation, kernel_initializer="lecun_normal", name=name, dtype=dtype
        )(x)

    x = conv(images, 6, "conv1", padding="same")  # 28 x 28 x 6
    x = layers.AveragePooling2D(2, name="pool1")(x)  # 14 x 14 x 6
    x = conv(x, 16, "conv2")  # 10 x 10 x 16
    x = layers.AveragePooling2D(2, name="pool2")(x)  # 5 x 5 x 16
    if num_classes is None:
        return x
    x = layers.Flatten(name="flatten")(x)  # 400
    x = fc(x, 120, "fc3")  # 120
    x = fc(x, 84, "fc4")  # 84
    return fc(x, num_classes, "fc5", activation, dtype="float32")
