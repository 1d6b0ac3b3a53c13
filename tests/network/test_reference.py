"""The whole forward pass in plain NumPy and float64, written from the papers' formulas, against
every layer of the model.

A map is [height, width, channels]; `weights` maps layer names to (kernel, bias). One picture at a
time, one window at a time: slow, and with nothing in common with the model file.
"""

import keras
import numpy as np
import pytest

from alexnet_tf.network.model import build_model


def conv(x, kernel, bias, stride=1, pad=0):
    x = np.pad(x, [(pad, pad), (pad, pad), (0, 0)])
    side = kernel.shape[0]
    rows, columns = ((length - side) // stride + 1 for length in x.shape[:2])
    y = np.empty((rows, columns, kernel.shape[3]))
    for i in range(rows):
        for j in range(columns):
            window = x[i * stride : i * stride + side, j * stride : j * stride + side]
            y[i, j] = np.tensordot(window, kernel, 3) + bias
    return y


def pool(x):
    """Section 3.4: z = 3, s = 2."""
    rows, columns = ((length - 3) // 2 + 1 for length in x.shape[:2])
    return np.array(
        [
            [x[2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max((0, 1)) for j in range(columns)]
            for i in range(rows)
        ]
    )


def relu(x):
    return np.maximum(x, 0)


def across_channels(x, k, alpha):
    """Section 3.3 with n = 5, beta = 0.75; alpha multiplies the sum."""
    n = x.shape[2]
    sums = np.stack(
        [(x[:, :, max(0, i - 2) : min(n - 1, i + 2) + 1] ** 2).sum(2) for i in range(n)], 2
    )
    return x / (k + alpha * sums) ** 0.75


def within_map(x):
    """layer-params-145.cfg: scale 0.001 over 5 x 5, constant 1."""
    sums = np.zeros_like(x)
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            sums[i, j] = (x[max(0, i - 2) : i + 3, max(0, j - 2) : j + 3] ** 2).sum((0, 1))
    return x / (1 + 0.001 / 25 * sums) ** 0.75


def join(towers):
    return np.concatenate([towers["a"], towers["b"]], 2)


def forward(variant, image, weights):
    """Every output that has a name in the model: {layer name: array}."""
    found = {}

    def named(name, towers):
        found.update({name + tower: value for tower, value in towers.items()})
        return towers

    def each(function, towers):
        return {tower: function(value) for tower, value in towers.items()}

    def convolve(name, inputs, **how):
        return {tower: conv(inputs[tower], *weights[name + tower], **how) for tower in "ab"}

    def lrn(name, towers):
        # lrn_layer.cpp: k 1, alpha / n, and the window crosses from one group into the other
        if variant in ("caffe", "caffenet"):
            joined = found[name] = across_channels(join(towers), 1, 1e-4 / 5)
            half = joined.shape[2] // 2
            return {"a": joined[:, :, :half], "b": joined[:, :, half:]}
        alpha = 1e-4 if variant == "paper" else 1e-4 / 5
        return named(name, each(lambda x: across_channels(x, 2, alpha), towers))

    if variant == "source2012":
        image = np.pad(image, [(0, 3), (0, 3), (0, 0)])
        x = named("conv1", convolve("conv1", {"a": image, "b": image}, stride=4))
        x = named("relu1", each(relu, named("pool1", each(pool, lrn("lrn1", x)))))
        x = named(
            "spatial_norm2",
            each(within_map, lrn("lrn2", each(relu, named("conv2", convolve("conv2", x, pad=2))))),
        )
        x = named("pool2", each(pool, x))
    elif variant == "caffenet":  # ReLU, pool, LRN
        x = named("conv1", convolve("conv1", {"a": image, "b": image}, stride=4))
        x = lrn("lrn1", each(relu, named("pool1", each(pool, x))))
        x = lrn(
            "lrn2",
            each(relu, named("pool2", each(pool, named("conv2", convolve("conv2", x, pad=2))))),
        )
    else:
        x = each(relu, named("conv1", convolve("conv1", {"a": image, "b": image}, stride=4)))
        x = named("pool1", each(pool, lrn("lrn1", x)))
        x = lrn("lrn2", each(relu, named("conv2", convolve("conv2", x, pad=2))))
        x = named("pool2", each(pool, x))
    both = join(x)
    x = named("conv3", each(relu, convolve("conv3", {"a": both, "b": both}, pad=1)))
    x = named("conv4", each(relu, convolve("conv4", x, pad=1)))
    x = named("conv5", each(relu, convolve("conv5", x, pad=1)))
    x = join(named("pool5", each(pool, x))).reshape(-1)
    # section 4.2: outputs times 0.5 at test time; Caffe scales in training
    kept = 1.0 if variant in ("caffe", "caffenet") else 0.5
    for name in ("fc6", "fc7"):
        found[name] = relu(x @ weights[name][0] + weights[name][1])
        x = found[f"dropout{name[-1]}"] = kept * found[name]
    found["fc8"] = x @ weights["fc8"][0] + weights["fc8"][1]
    return found


@pytest.mark.parametrize(
    "variant,image_size", [("paper", 99), ("source2012", 96), ("caffe", 99), ("caffenet", 99)]
)
def test_every_layer_is_the_papers_formula(rng, variant, image_size):
    model = build_model(variant, 10, image_size)
    weights = {}
    for layer in model.layers:
        if hasattr(layer, "kernel"):
            # Scaled so that activations stay in the tens through the net: normalisation really
            # acts, nothing dies.
            fan_in = np.prod(layer.kernel.shape[:-1])
            scale = 40 / 70 if layer.name.startswith("conv1") else 1.4
            kernel = rng.normal(0, scale / fan_in**0.5, layer.kernel.shape).astype(np.float32)
            bias = rng.normal(0, 1, layer.bias.shape).astype(np.float32)
            layer.set_weights([kernel, bias])
            weights[layer.name] = kernel.astype(np.float64), bias.astype(np.float64)
    image = rng.normal(0, 70, (image_size, image_size, 3)).astype(np.float32)
    expected = forward(variant, image.astype(np.float64), weights)
    layers = [layer for layer in model.layers if layer.name in expected]
    assert len(layers) == len(expected)  # no name of the reference is missing from the model
    outputs = keras.Model(model.input, [layer.output for layer in layers])(
        image[None], training=False
    )
    for layer, output in zip(layers, outputs):
        reference = expected[layer.name]
        np.testing.assert_allclose(
            output[0], reference, rtol=1e-4, atol=1e-4 * np.abs(reference).max(), err_msg=layer.name
        )
    normalised = expected["lrn2" if variant == "caffenet" else "pool2a"]
    ratio = np.abs(normalised).max() / np.abs(expected["conv2a"]).max()
    assert ratio < 0.9  # the normalisation is felt
