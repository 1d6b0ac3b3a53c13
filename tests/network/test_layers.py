"""The layers against float64 NumPy, written from the formulas of the paper and of the source."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.errors import UserError
from alexnet_tf.network.layers import (
    Dropout,
    LocallyConnected2D,
    LocalResponseNormalization,
    PixelNormalization,
    SpatialResponseNormalization,
)


def lrn(x, size, k, alpha):
    """Section 3.3, one channel at a time."""
    y = np.empty_like(x)
    for i in range(x.shape[-1]):
        window = x[..., max(0, i - size // 2) : i + size // 2 + 1]
        y[..., i] = x[..., i] / (k + alpha * (window**2).sum(-1)) ** 0.75
    return y


def lrn_gradient(x, dy, size, k, alpha):
    """d(sum dy * y)/dx from the derivative of each output by each input of its window."""
    gradient = np.zeros_like(x)
    channels = x.shape[-1]
    for i in range(channels):
        low, high = max(0, i - size // 2), min(channels, i + size // 2 + 1)
        d = k + alpha * (x[..., low:high] ** 2).sum(-1)
        gradient[..., i] += dy[..., i] * d**-0.75
        for j in range(low, high):
            gradient[..., j] -= dy[..., i] * x[..., i] * 0.75 * d**-1.75 * 2 * alpha * x[..., j]
    return gradient


def spatial(x, size, k, alpha):
    y = np.empty_like(x)
    for row in range(x.shape[1]):
        for column in range(x.shape[2]):
            window = x[
                :,
                max(0, row - size // 2) : row + size // 2 + 1,
                max(0, column - size // 2) : column + size // 2 + 1,
            ]
            y[:, row, column] = x[:, row, column] / (k + alpha * (window**2).sum((1, 2))) ** 0.75
    return y


def values_and_gradient(layer, x, dy):
    with tf.GradientTape() as tape:
        inputs = tf.constant(x, tf.float32)
        tape.watch(inputs)
        y = layer(inputs)
    return y.numpy(), tape.gradient(y, inputs, tf.constant(dy, tf.float32)).numpy()


@pytest.mark.parametrize(
    "training,compiled",
    [(False, False), (True, False), (True, True)],
    ids=["plain", "kernel", "step"],
)
@pytest.mark.parametrize(
    "channels,size,k,alpha,scale",
    [
        (48, 5, 2.0, 1e-4, 50),
        (128, 5, 2.0, 2e-5, 200),
        (96, 5, 1.0, 2e-5, 20),
        (3, 5, 2.0, 1e-2, 10),
        (1, 3, 0.5, 0.1, 3),
        (4, 9, 1.0, 1.0, 1),
        (7, 1, 1.0, 0.5, 2),
    ],
)
def test_lrn_is_the_formula_and_its_gradient_the_derivative(
    rng, channels, size, k, alpha, scale, training, compiled
):
    x, dy = rng.normal(0, scale, (2, 3, 4, channels)), rng.normal(0, 1, (2, 3, 4, channels))
    layer = LocalResponseNormalization(size, k, alpha)
    run = tf.function(
        lambda a, b: values_and_gradient_graph(layer, a, b, training), jit_compile=compiled
    )
    y, gradient = run(tf.constant(x, tf.float32), tf.constant(dy, tf.float32))
    x, dy = x.astype(np.float32).astype(np.float64), dy.astype(np.float32).astype(np.float64)
    np.testing.assert_allclose(y, lrn(x, size, k, alpha), rtol=1e-6, atol=1e-6 * scale)
    np.testing.assert_allclose(
        gradient, lrn_gradient(x, dy, size, k, alpha), rtol=1e-6, atol=1e-6 * np.abs(gradient).max()
    )


def values_and_gradient_graph(layer, x, dy, training):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=training)
    return y, tape.gradient(y, x, dy)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "layer,plain",
    [
        (
            LocalResponseNormalization(alpha=1e-2, relu_first=True),
            LocalResponseNormalization(alpha=1e-2),
        ),
        (
            SpatialResponseNormalization(alpha=1e-2, relu_first=True),
            SpatialResponseNormalization(alpha=1e-2),
        ),
    ],
)
def test_relu_first_is_a_relu_before(rng, layer, plain, training):
    x, dy = (tf.constant(rng.normal(0, 5, (2, 7, 6, 9)), tf.float32) for _ in range(2))
    y, gradient = values_and_gradient_graph(layer, x, dy, training)
    expected_y, expected = values_and_gradient_graph(
        lambda x, training: plain(tf.nn.relu(x), training=training), x, dy, training
    )
    np.testing.assert_allclose(y, expected_y, rtol=1e-6)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("relu_first", [False, True])
@pytest.mark.parametrize("kind", [LocalResponseNormalization, SpatialResponseNormalization])
def test_what_is_no_number_stays_none(rng, kind, relu_first, dtype, training):
    x = rng.normal(0, 5, (1, 17, 17, 32)).astype(np.float32)
    x[0, 3, 4, 10] = np.nan
    inputs = tf.cast(x, tf.bfloat16 if "bfloat16" in dtype else tf.float32)
    y, gradient = values_and_gradient_graph(
        kind(relu_first=relu_first, dtype=dtype), inputs, tf.ones_like(inputs), training
    )
    window = np.s_[0, 3, 4, 8:13] if kind is LocalResponseNormalization else np.s_[0, 1:6, 2:7, 10]
    for found in (y, gradient):
        nan = np.isnan(tf.cast(found, tf.float32).numpy())
        assert nan[0, 3, 4, 10] and nan[window].mean() > (
            0.3 if relu_first else 0.99
        )  # where a ReLU is closed there is a 0
        assert np.isnan(tf.cast(y, tf.float32)).sum() <= nan[window].size


@pytest.mark.parametrize("training", [False, True])
def test_dropout_lets_through_what_is_no_number(training):
    assert np.isnan(Dropout(0.5, seed=3)(tf.fill([50, 40], np.nan), training=training)).all()


def test_lrn_in_float64_is_exact_to_rounding(rng):
    x = rng.normal(0, 50, (2, 3, 3, 10))
    y = LocalResponseNormalization(dtype="float64")(x)
    np.testing.assert_allclose(y, lrn(x, 5, 2.0, 1e-4), rtol=1e-14)


def test_spatial_normalization_is_the_formula_and_its_gradient_the_numerical_one(rng):
    x, dy = rng.normal(0, 60, (1, 7, 6, 3)), rng.normal(0, 1, (1, 7, 6, 3))
    y, gradient = values_and_gradient(SpatialResponseNormalization(), x, dy)
    np.testing.assert_allclose(y, spatial(x, 5, 1.0, 4e-5), rtol=1e-5, atol=1e-5)
    step = np.zeros_like(x)
    for index in [(0, 0, 0, 0), (0, 3, 2, 1), (0, 6, 5, 2)]:
        step[:] = 0
        step[index] = 1e-4
        numeric = (
            (spatial(x + step, 5, 1.0, 4e-5) - spatial(x - step, 5, 1.0, 4e-5)) * dy
        ).sum() / 2e-4
        np.testing.assert_allclose(gradient[index], numeric, rtol=1e-4)


def test_lrn_computes_in_float32_under_bfloat16(rng):
    x = tf.constant(rng.normal(0, 300, (1, 2, 2, 8)), tf.bfloat16)
    y = LocalResponseNormalization(dtype="mixed_bfloat16")(x)
    assert y.dtype == tf.bfloat16
    expected = tf.cast(lrn(x.numpy().astype(np.float64), 5, 2.0, 1e-4), tf.bfloat16)
    np.testing.assert_array_equal(y.numpy(), expected.numpy())


@pytest.mark.parametrize("arguments", [{"size": 4}, {"k": 0.0}, {"alpha": -1e-4}])
def test_lrn_refuses_what_has_no_finite_answer(arguments):
    with pytest.raises(ValueError, match="|".join(arguments)):
        LocalResponseNormalization(**arguments)


def test_a_call_outside_of_a_graph_compiles_nothing(rng, monkeypatch):
    """It would be compiled again at each: 3 s where the arithmetic takes 0.02."""
    x, dy = rng.normal(0, 20, (2, 2, 3, 5, 8))
    with tf.GradientTape() as tape:
        inputs = tf.Variable(x, dtype=tf.float32)
        layer = LocalResponseNormalization(5, 2.0, 1e-2)
        monkeypatch.setattr(tf, "function", None)
        y = layer(inputs, training=True)
    gradient = tape.gradient(y, inputs, tf.constant(dy, tf.float32))
    np.testing.assert_allclose(y, lrn(x, 5, 2.0, 1e-2), rtol=1e-4, atol=1e-4)
    expected = lrn_gradient(x, dy, 5, 2.0, 1e-2)
    np.testing.assert_allclose(gradient, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    "make",
    [
        LocalResponseNormalization,
        SpatialResponseNormalization,
        lambda: PixelNormalization((1.0, 2.0, 3.0), 1.0, "half"),
        lambda: LocallyConnected2D(2, 3),
    ],
)
def test_layers_of_channels_that_come_first_are_refused(monkeypatch, make):
    monkeypatch.setattr(keras.config, "image_data_format", lambda: "channels_first")
    with pytest.raises(UserError, match="channels_first; (Local|Spatial|Pixel).* channels_last"):
        make()


def test_dropout_drops_in_training_and_scales_otherwise():
    layer = Dropout(0.25, seed=3)
    ones = tf.ones([100, 100])
    np.testing.assert_array_equal(layer(ones, training=False), np.full([100, 100], 0.75))
    first, second = layer(ones, training=True).numpy(), layer(ones, training=True).numpy()
    assert set(np.unique(first)) == {0.0, 1.0}  # nothing is rescaled
    assert abs(first.mean() - 0.75) < 0.02
    assert (first != second).any()
    np.testing.assert_array_equal(Dropout(0.0)(ones, training=False), ones)


@pytest.mark.parametrize("units", [8, 10])
def test_masks_of_rows_are_those_of_the_global_batch(units):
    layer = Dropout(0.5, seed=7)
    layer.build([None, units])

    def mask(first_row, rows, step, compiled=False):
        layer.seed_generator.state.assign([first_row, step])
        return tf.function(
            lambda: layer(tf.ones([rows, units]), training=True), jit_compile=compiled
        )().numpy()

    whole = mask(0, 64, step=3)
    for compiled in (False, True):
        np.testing.assert_array_equal(
            np.concatenate([mask(0, 16, 3), mask(16, 48, 3, compiled)]), whole
        )
    assert (mask(0, 64, step=4) != whole).any()
    assert len({row.tobytes() for row in whole}) > 60 * (units > 9)  # rows differ
    other = Dropout(0.5, seed=8)
    other.build([None, units])
    other.seed_generator.state.assign([0, 3])
    assert (other(tf.ones([64, units]), training=True).numpy() != whole).any()


@pytest.mark.parametrize("shape", [(3, 5, 2), (5, 6)])
def test_units_of_maps_and_sequences_are_dropped_one_by_one(shape):
    """In `fit` too, whose batches have no fixed number of rows; as those of as long a row are."""
    layer, flat = Dropout(0.5, seed=7), Dropout(0.5, seed=7)
    units = int(np.prod(shape))
    masked = layer(tf.ones([64, *shape]), training=True).numpy()
    assert set(np.unique(masked)) == {0.0, 1.0} and len(np.unique(masked.sum(0))) > 1
    rows = flat(tf.ones([64, units]), training=True).numpy()
    np.testing.assert_array_equal(masked.reshape(64, units), rows)
    inputs = keras.Input(shape)
    outputs = keras.layers.Dense(2)(keras.layers.Flatten()(Dropout(0.5, seed=7)(inputs)))
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "mse")
    history = model.fit(np.ones([8, *shape]), np.zeros([8, 2]), batch_size=4, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


def test_inverted_dropout_is_that_of_keras_in_scale():
    layer, ones = Dropout(0.25, inverted=True, seed=3), tf.ones([100, 100])
    np.testing.assert_array_equal(layer(ones, training=False), ones)
    assert set(np.unique(layer(ones, training=True))) == {0.0, np.float32(1 / 0.75)}


@pytest.mark.parametrize(
    "layer",
    [
        LocalResponseNormalization(3, 1.0, 0.5),
        SpatialResponseNormalization(3, 2.0, 0.1),
        Dropout(0.5),
    ],
)
def test_layers_survive_their_config(layer):
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()


@pytest.mark.parametrize("training", [False, True])
def test_second_derivatives_are_those_of_the_first(training):
    """As penalties on gradients ask for them: the closed form of the first is differentiated."""
    layer = LocalResponseNormalization(size=3, k=2.0, alpha=0.5, relu_first=True, dtype="float64")
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=(2, 1, 1, 1, 6))

    @tf.function(autograph=False)
    def length(x):  # of the gradient, squared
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_sum(weights * layer(x, training=training))
        return tf.reduce_sum(tape.gradient(y, x) ** 2)

    point = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(point)
        squared = length(point)
    steps = 1e-5 * np.eye(6).reshape(6, 1, 1, 1, 6)
    expected = [float(length(x + step) - length(x - step)) / 2e-5 for step in steps]
    np.testing.assert_allclose(tape.gradient(squared, point).numpy().ravel(), expected, atol=1e-8)
