"""Each map against another way to compute it: numeric gradients, brute force, by hand."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf import preprocessing
from alexnet_tf.errors import UserError
from alexnet_tf.figures import filters, looking, saliency
from alexnet_tf.network.layers import LocallyConnected2D, LocalResponseNormalization
from alexnet_tf.network.model import build_model
from alexnet_tf.pixels import Preprocessing


def network_of(model, size, channels=3, mean=0.0, std=1.0):
    pixels = Preprocessing(size, size, channels, (mean,) * channels, std)

    def probabilities(images):
        inputs = preprocessing.to_network_input(images, pixels)
        return tf.nn.softmax(model(inputs, training=False)).numpy()

    return types.SimpleNamespace(
        model=model, preprocessing=pixels, path="own", probabilities=probabilities
    )


def two_towers(rng):
    """The paper's network at 67 pixels, with weights at which its gradients are not tiny."""
    keras.utils.set_random_seed(3)
    model = build_model("paper", 4, 67)
    for layer in model.layers:
        if layer.weights and layer.name[:2] != "fc":
            kernel, bias = layer.get_weights()
            layer.set_weights([3 * kernel, bias])
    return network_of(model, 67, mean=120.0), rng.integers(0, 256, (67, 67, 3), np.uint8)


def test_grad_cam_weighs_maps_of_both_towers_by_numeric_gradients(rng):
    network, image = two_towers(rng)
    model, label = network.model, 2
    ends = [model.get_layer(name).output for name in ("conv5a", "conv5b")]
    inputs = preprocessing.to_network_input(image[None], network.preprocessing)
    maps = [value.numpy().astype(np.float64) for value in keras.Model(model.input, ends)(inputs)]

    def above(batch):  # the pool takes all 3 x 3; half of the hidden units' outputs is used
        x = np.concatenate([value.max((1, 2)) for value in batch], -1)
        for name in ("fc6", "fc7", "fc8"):
            kernel, bias = (np.float64(value) for value in model.get_layer(name).get_weights())
            x = x @ kernel + bias
            x = x if name == "fc8" else np.maximum(x, 0) / 2
        return x

    np.testing.assert_allclose(above(maps), model(inputs), rtol=1e-3, atol=1e-5)
    step = 1e-6
    expected = np.zeros(maps[0].shape[1:3])
    for tower in range(2):
        # a step of all places of one map at a time: the mean gradient, times the places
        count, shifted = maps[tower].shape[-1], []
        for sign in (1, -1):
            batch = [np.repeat(value, count, 0) for value in maps]
            for one in range(count):
                batch[tower][one, :, :, one] += sign * step
            shifted.append(above(batch)[:, label])
        weights = (shifted[0] - shifted[1]) / (2 * step) / expected.size
        expected += (maps[tower][0] * weights).sum(-1)
    expected = np.maximum(expected, 0)
    assert (expected > 0).any()
    found = saliency.grad_cam(network, image, label)
    assert found.shape == (3, 3) and found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * expected.max())
    other = saliency.grad_cam(network, image, 0)
    assert np.abs(other - found).max() > 0.1 * expected.max()  # another class has another map


def test_grad_cam_looks_into_a_model_within_a_model(rng):
    inner = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Conv2D(3, 3, activation="relu", name="last")]
    )
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), inner, keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    image = rng.integers(0, 256, (8, 8, 1), np.uint8)
    network = network_of(model, 8, 1, 100.0, 50.0)
    maps = inner(preprocessing.to_network_input(image[None], network.preprocessing)).numpy()[0]
    weights = model.layers[-1].kernel.numpy()[:, 1].reshape(6, 6, 3).mean((0, 1))
    np.testing.assert_allclose(
        saliency.grad_cam(network, image, 1), np.maximum((maps * weights).sum(-1), 0), rtol=1e-5
    )
    assert "call" not in vars(inner.layers[0])  # layers are left as they were


@pytest.mark.parametrize("depth", [1, 2])
def test_layers_of_models_within_models_are_in_order(rng, depth):
    """As of Sequential([AlexNet(include_top=False), ...]): the last convolution was the first."""
    inner = keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            *(keras.layers.Conv2D(4, 3, activation="relu", name=f"c{one}") for one in range(3)),
        ]
    )
    for _ in range(1, depth):
        inner = keras.Sequential([keras.Input((12, 12, 3)), keras.layers.RandomFlip(), inner])
    ends = [keras.layers.Flatten(), keras.layers.Dense(2, name="answer")]
    network = network_of(keras.Sequential([keras.Input((12, 12, 3)), inner, *ends]), 12)
    assert list(saliency.convolutions(network)) == ["c0", "c1", "c2"]
    assert list(looking._followed(network.model)) == ["c0", "c1", "c2", "answer"]
    assert filters.kernels_of(network)[0].shape == (3, 3, 3, 4)
    image = rng.integers(0, 256, (12, 12, 3), np.uint8)
    (_, (last,)), kernel = saliency.last_convolution(network), ends[1].kernel.numpy()[:, 0]
    (maps,) = saliency.outputs(network, image[None], [last])
    expected = (maps[0] * kernel.reshape(6, 6, 4).mean((0, 1))).sum(-1)
    found = saliency.grad_cam(network, image, 0)
    np.testing.assert_allclose(found, np.maximum(expected, 0), rtol=1e-3, atol=1e-3)


def test_occlusion_is_what_each_square_costs_pixel_by_pixel(rng):
    keras.utils.set_random_seed(1)
    network = network_of(build_model("lenet5", 3), 28, 1, 120.0, 64.0)
    image = rng.integers(0, 256, (28, 28, 1), np.uint8)
    side, stride, fill = 9, 4, np.array([120], np.uint8)
    found = saliency.occlusion(network.probabilities, image, 1, fill, side, stride)
    whole = network.probabilities(image[None])[0, 1]
    starts = [0, 4, 8, 12, 16, 19]  # the last is flush with the border
    costs = {}
    for top in starts:
        for left in starts:
            hidden = image.copy()
            for row in range(top, top + side):
                for column in range(left, left + side):
                    hidden[row, column] = fill
            costs[top, left] = whole - network.probabilities(hidden[None])[0, 1]
    for row, column in ((0, 0), (27, 27), (8, 8), (13, 20), (3, 26), (19, 4)):
        covering = [
            cost
            for (top, left), cost in costs.items()
            if top <= row < top + side and left <= column < left + side
        ]
        assert found[row, column] == pytest.approx(np.mean(covering), rel=1e-4, abs=1e-7)
    assert found.shape == (28, 28) and np.abs(found).max() > 1e-4


def test_a_pixel_on_which_all_hangs_is_found():
    def probabilities(images):
        return np.where(images[:, 5, 6, 0] > 200, 0.9, 0.1)[:, None]

    image = np.full((12, 12, 3), 255, np.uint8)
    found = saliency.occlusion(probabilities, image, 0, np.zeros(3, np.uint8), 1, 1)
    assert found[5, 6] == pytest.approx(0.8) and np.count_nonzero(found) == 1


def test_guided_gradients_by_hand():
    """Two pixels, two layers of two units; every case of a ReLU occurs on the way back."""
    first = np.array([[1.0, 2.0, -1.0, 1.0], [1.0, -1.0, -1.0, 1.0]])  # 2 pixels to 4 units
    second = np.array([2.0, -3.0, 5.0, 1.0])  # 4 units to 1
    model = keras.Sequential(
        [
            keras.Input((1, 1, 2)),
            keras.layers.Conv2D(4, 1, activation="relu", name="conv1"),
            keras.layers.Conv2D(1, 1, activation="relu", name="conv2"),
            keras.layers.Flatten(),
            keras.layers.Dense(2),
        ]
    )
    model.get_layer("conv1").set_weights([first[None, None], np.zeros(4)])
    model.get_layer("conv2").set_weights([second[None, None, :, None], np.zeros(1)])
    image = np.array([[[3, 1]]], np.uint8)
    # units are 4, 5, -4, 4: the third is off; of the gradients 2, -3, (5), 1 the second is below 0.
    network = network_of(model, 1, 2)
    (layer,) = saliency.convolutions(network)["conv2"]
    # The unit itself is 8 - 15 + 4 < 0: its ReLU is off, and nothing passes.
    assert not saliency.guided(network, image, layer, (0, 0, 0)).any()
    model.get_layer("conv2").set_weights([second[None, None, :, None], np.full(1, 10.0)])
    np.testing.assert_allclose(
        saliency.guided(network, image, layer, (0, 0, 0))[0, 0], [2 * 1 + 1 * 1, 2 * 1 + 1 * 1]
    )
    np.testing.assert_allclose(model(np.array([[[[3.0, 1.0]]]])).numpy().shape, (1, 2))
    assert all("call" not in vars(layer) for layer in model.layers)


def test_a_relu_within_the_normalisation_is_guided_too():
    model = keras.Sequential(
        [
            keras.Input((1, 1, 3)),
            keras.layers.Conv2D(3, 1, use_bias=False, name="conv1"),
            # all but nothing is divided by: the ReLU is left
            LocalResponseNormalization(3, 1.0, 1e-12, relu_first=True),
            keras.layers.Conv2D(1, 1, use_bias=False, name="conv2"),
            keras.layers.Flatten(),
            keras.layers.Dense(2),
        ]
    )
    model.get_layer("conv1").set_weights([np.diag([1.0, 1.0, -1.0])[None, None]])
    model.get_layer("conv2").set_weights([np.array([2.0, -3.0, 4.0])[None, None, :, None]])
    network = network_of(model, 1)
    (layer,) = saliency.convolutions(network)["conv2"]
    excites = saliency.guided(network, np.array([[[9, 1, 7]]], np.uint8), layer, (0, 0, 0))
    np.testing.assert_allclose(excites[0, 0], [2.0, 0.0, 0.0])


def test_outputs_are_those_of_the_layers(rng):
    network, image = two_towers(rng)
    layers = [network.model.get_layer(name) for name in ("pool2b", "fc7")]
    expected = keras.Model(network.model.input, [layer.output for layer in layers])(
        preprocessing.to_network_input(image[None], network.preprocessing)
    )
    for found, value in zip(saliency.outputs(network, image[None], layers), expected):
        np.testing.assert_allclose(found, value, rtol=1e-5, atol=1e-6)
    assert list(saliency.convolutions(network)) == [f"conv{number}" for number in range(1, 6)]


def test_a_network_without_convolutions_is_refused():
    model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten()])
    with pytest.raises(UserError, match="own has no convolution"):
        saliency.convolutions(network_of(model, 4))


def separable(kind=keras.layers.SeparableConv2D, **head):
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Conv2D(4, 3, activation="relu", name="first"),
            layers.MaxPooling2D(name="pool"),
            kind(**head, kernel_size=3, activation="relu", name="second"),
            layers.GlobalAveragePooling2D(keepdims=True),
            layers.Conv2D(5, 1, name="of_one_place"),
            layers.Flatten(),
            layers.Dense(2, name="answer"),
        ]
    )
    return network_of(model, 16)


@pytest.mark.parametrize(
    "kind,head,places",
    [
        (keras.layers.SeparableConv2D, {"filters": 4}, 5),
        (keras.layers.DepthwiseConv2D, {}, 5),
        (keras.layers.Conv2DTranspose, {"filters": 4}, 9),
        (LocallyConnected2D, {"filters": 4}, 7),
    ],
)
def test_convolutions_are_those_of_all_kinds(rng, kind, head, places):
    network = separable(kind, **head)
    assert list(saliency.convolutions(network)) == ["first", "second", "of_one_place"]
    # the last whose map can tell places apart
    assert saliency.last_convolution(network)[0] == "second"
    image = rng.integers(0, 256, (16, 16, 3), np.uint8)
    assert saliency.grad_cam(network, image, 1).shape == (places, places)
    assert list(looking._followed(network.model)) == [
        "first",
        "pool",
        "second",
        "of_one_place",
        "answer",
    ]


def test_a_network_whose_maps_have_one_place_each_is_refused():
    model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Conv2D(2, 4)])
    with pytest.raises(UserError, match="No convolution of own has maps of more than one"):
        saliency.last_convolution(network_of(model, 4))


def test_squares_have_the_mean_colour_or_middle_grey():
    for mean, fill in (((123.6, 116.4, 104.0), [124, 116, 104]), ((0.0, 0.0, 0.0), [128] * 3)):
        network = types.SimpleNamespace(preprocessing=Preprocessing(8, 8, 3, mean, 1.0))
        assert saliency.fill_of(network).tolist() == fill


def named_as_towers(strides):
    """A network of its user's own, whose layers are called as towers are, and follow each other."""
    x = images = keras.Input((16, 16, 3))
    for name, step in (("conv1a", 1), ("conv1b", 1), ("conv2a", 1), ("conv2b", strides)):
        x = keras.layers.Conv2D(4, 3, step, padding="same", activation="relu", name=name)(x)
    return network_of(keras.Model(images, keras.layers.Dense(2)(keras.layers.Flatten()(x))), 16)


@pytest.mark.parametrize("strides,places", [(1, 16), (2, 8)])
def test_layers_that_follow_each_other_are_no_towers(rng, strides, places):
    network = named_as_towers(strides)
    assert list(saliency.convolutions(network)) == ["conv1a", "conv1b", "conv2a", "conv2b"]
    image = rng.integers(0, 256, (16, 16, 3), np.uint8)
    found = saliency.grad_cam(network, image, 1)
    (maps,) = saliency.outputs(network, image[None], [network.model.get_layer("conv2b")])
    kernel = network.model.layers[-1].kernel.numpy()[:, 1].reshape(places, places, 4)
    expected = np.maximum((maps[0] * kernel.mean((0, 1))).sum(-1), 0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)  # of the last alone
    assert list(looking._followed(network.model))[:4] == ["conv1a", "conv1b", "conv2a", "conv2b"]


def test_layers_of_other_shapes_beside_each_other_are_no_towers():
    images = keras.Input((16, 16, 3))
    beside = [
        keras.layers.Conv2D(2, size, name=f"conv1{name}")(images)
        for name, size in zip("ab", (3, 5))
    ]
    x = keras.layers.Concatenate()([keras.layers.Flatten()(one) for one in beside])
    network = network_of(keras.Model(images, keras.layers.Dense(2)(x)), 16)
    assert list(saliency.convolutions(network)) == ["conv1a", "conv1b"]
    assert list(saliency.convolutions(two_towers(np.random.default_rng(0))[0])) == [
        f"conv{number}" for number in range(1, 6)
    ]


class _Block(keras.layers.Layer):
    """Two convolutions, one behind the other."""

    def __init__(self):
        super().__init__()
        self.both = [keras.layers.Conv2D(2, 3, name=f"conv1{tower}") for tower in "ab"]

    def call(self, inputs):
        return self.both[1](self.both[0](inputs))


def test_what_a_layer_has_within_is_no_tower(rng):
    ends = [keras.layers.Flatten(), keras.layers.Dense(2)]
    network = network_of(keras.Sequential([keras.Input((9, 9, 3)), _Block(), *ends]), 9)
    assert list(saliency.convolutions(network)) == ["conv1a", "conv1b"]
    image = rng.integers(0, 256, (9, 9, 3), np.uint8)
    assert saliency.grad_cam(network, image, 0).shape == (5, 5)


def test_pixels_that_no_gradient_reaches_are_told():
    images = keras.Input((8, 8, 1), dtype="uint8")
    x = keras.layers.Conv2D(2, 3, name="conv")(keras.layers.Rescaling(1 / 255)(images))
    network = network_of(
        keras.Model(images, keras.layers.Dense(2)(keras.layers.Flatten()(x))), 8, 1
    )
    image = np.full((8, 8, 1), 100, np.uint8)
    with pytest.raises(UserError, match="No gradient flows from conv of own back to the pixels"):
        saliency.guided(network, image, network.model.get_layer("conv"), (0, 0, 0))
