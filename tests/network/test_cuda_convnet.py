"""The networks of cuda-convnet's examples against float64 NumPy, one place at a time."""

import keras
import numpy as np
import pytest

from alexnet_tf.network import cuda_convnet
from alexnet_tf.network.layers import LocallyConnected2D


def local(x, kernel, bias, size):
    """Each output from the window around it, by the kernel of its own place."""
    reach = size // 2
    padded = np.pad(x, [(0, 0), (reach, reach), (reach, reach), (0, 0)])
    y = np.empty((*x.shape[:3], kernel.shape[-1]))
    for n, row, column in np.ndindex(x.shape[:3]):
        window = padded[n, row : row + size, column : column + size].ravel()
        y[n, row, column] = window @ kernel[row, column] + bias[row, column]
    return y


def conv(x, kernel, bias):
    size, height, width = kernel.shape[0], *x.shape[1:3]
    everywhere = np.broadcast_to(
        kernel.reshape(-1, kernel.shape[-1]), (height, width, kernel[..., 0].size, kernel.shape[-1])
    )
    return local(x, everywhere, np.broadcast_to(bias, (height, width, len(bias))), size)


def pool(x, reduce):
    """3 x 3 at stride 2, the number of windows rounded up, each of what of it is there."""
    side = -(-(x.shape[1] - 3) // 2) + 1
    y = np.empty((len(x), side, side, x.shape[-1]))
    for row, column in np.ndindex(side, side):
        window = x[:, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
        y[:, row, column] = reduce(window, axis=(1, 2))
    return y


def rnorm(x):
    y = np.empty_like(x)
    for i in range(x.shape[-1]):
        squares = (x[..., max(0, i - 4) : i + 5] ** 2).sum(-1)
        y[..., i] = x[..., i] / (1 + 0.001 / 9 * squares) ** 0.75
    return y


def weights_of(model, rng):
    """Random weights, larger than initial ones so that every layer counts."""
    for layer in model.layers:
        if layer.trainable_weights:
            kernel, bias = layer.kernel, layer.bias
            fan_in = kernel.shape[-2] if len(kernel.shape) == 2 else np.prod(kernel.shape[-3:-1])
            kernel.assign(rng.normal(0, 2 / np.sqrt(fan_in), kernel.shape))
            bias.assign(rng.normal(0, 1, bias.shape))
    return {
        layer.name: [np.float64(w) for w in layer.get_weights()]
        for layer in model.layers
        if layer.trainable_weights
    }


def test_a_locally_connected_layer_has_kernels_of_its_own_at_each_place(rng):
    layer = LocallyConnected2D(5, 3, "relu", kernel_regularizer=keras.regularizers.L2(0.002))
    x = rng.normal(0, 1, (2, 4, 6, 3))
    layer.build((None, 4, 6, 3))
    layer.bias.assign(rng.normal(0, 1, (4, 6, 5)))
    kernel, bias = map(np.float64, layer.get_weights())
    assert kernel.shape == (4, 6, 27, 5) and bias.shape == (4, 6, 5)
    np.testing.assert_allclose(layer(x), np.maximum(local(x, kernel, bias, 3), 0), atol=1e-5)
    np.testing.assert_allclose(layer.losses[0], 0.002 * (kernel**2).sum(), rtol=1e-5)
    again = LocallyConnected2D.from_config(layer.get_config())
    again.build((None, 4, 6, 3))
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again(x), layer(x))
    with pytest.raises(ValueError, match="kernel_size=2"):
        LocallyConnected2D(5, 2)


@pytest.mark.parametrize(
    "name,normalised,parameters,decays",
    [
        # conv1 4,864, conv2 102,464; local3 36 x 576 x (32 or 64) and 36 x 32 (or 64) biases;
        # local4 36 x 9 x (32 or 64) x 32 and 36 x 32; fc10 1152 x 10 and 10
        ("13pct", None, 1_116_490, {"local3": 0.004, "local4": 0.004, "fc10": 0.004}),
        ("13pct", True, 1_116_490, {"local3": 0.004, "local4": 0.004, "fc10": 0.004}),
        ("11pct", None, 2_112_970, {"local3": 0.004, "local4": 0.004, "fc10": 0.01}),
        ("11pct", False, 2_112_970, {"local3": 0.004, "local4": 0.004, "fc10": 0.01}),
    ],
)
def test_the_networks_of_section_3_3_are_their_published_layers(
    rng, name, normalised, parameters, decays
):
    mean = rng.uniform(0, 255, (24, 24, 3)).astype(np.float32)
    model = cuda_convnet.local(name, 10, mean, normalised)
    of, images = weights_of(model, rng), rng.uniform(0, 255, (2, 24, 24, 3)).astype(np.float32)
    does = {"13pct": False, "11pct": True}[name] if normalised is None else normalised
    norm = rnorm if does else (lambda x: x)
    x = np.maximum(conv(np.float64(images) - mean, *of["conv1"]), 0)
    x = np.maximum(conv(norm(pool(x, np.max)), *of["conv2"]), 0)
    x = pool(norm(x), np.max)
    for layer in ("local3", "local4"):
        x = np.maximum(local(x, *of[layer], 3), 0)
    kernel, bias = of["fc10"]
    expected = x.reshape(2, -1) @ kernel + bias
    np.testing.assert_allclose(model(images), expected, atol=1e-4 * np.abs(expected).max())
    assert sum(w.shape.num_elements() for w in model.trainable_weights) == parameters
    found = {
        layer.name: 2 * float(layer.kernel_regularizer.l2)
        for layer in model.layers
        if getattr(layer, "kernel_regularizer", None)
    }
    assert found == pytest.approx(decays)


def test_initial_weights_are_those_published():
    keras.utils.set_random_seed(0)
    model = cuda_convnet.local("11pct", 10, np.zeros((24, 24, 3)))
    deviations = {"conv1": 1e-4, "conv2": 0.01, "local3": 0.04, "local4": 0.04, "fc10": 0.01}
    for name, deviation in deviations.items():
        layer = model.get_layer(name)
        assert np.std(layer.kernel) == pytest.approx(deviation, rel=0.05)
        assert not np.any(layer.bias)


@pytest.mark.parametrize(
    "activation,function", [("relu", lambda x: np.maximum(x, 0)), ("tanh", np.tanh)]
)
def test_the_network_of_figure_1_has_four_layers_and_its_neuron(rng, activation, function):
    model = cuda_convnet.plain(activation, 10)
    of = weights_of(model, rng)
    images = rng.normal(0, 1, (2, 32, 32, 3)).astype(np.float32)
    x = np.float64(images)
    for layer, reduce in (("conv1", np.max), ("conv2", np.mean), ("conv3", np.mean)):
        x = pool(function(conv(x, *of[layer])), reduce)
    kernel, bias = of["fc10"]
    expected = x.reshape(2, -1) @ kernel + bias
    np.testing.assert_allclose(model(images), expected, atol=1e-4 * np.abs(expected).max())
    assert len(of) == 4 and not model.losses
