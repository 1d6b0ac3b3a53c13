"""AlexNet as keras.applications has its networks: shapes, weights, refusals, and what follows."""

import dataclasses
import inspect
import random
import re

import keras
import numpy as np
import pytest
from conftest import LENET5_PIXELS, write_lenet5
from own_weights import PIXELS, weights_file

import alexnet_tf
from alexnet_tf import networks, pretrained
from alexnet_tf.data import imagenet
from alexnet_tf.errors import UserError
from alexnet_tf.network import surgery
from alexnet_tf.network.layers import PixelNormalization
from alexnet_tf.network.model import VARIANTS, build_model

ABC = ["a", "b", "c"]
TINY = {"input_shape": (67, 67, 3), "classes": 3}
LEVELS = alexnet_tf.Preprocessing(28, 32, 3, (0.0,) * 3, 1.0)


def images_of(count=2, side=67, channels=3):
    return np.random.default_rng(0).integers(0, 256, (count, side, side, channels)).astype("f4")


def test_arguments_are_those_of_keras_applications():
    own = inspect.signature(alexnet_tf.AlexNet).parameters
    of_keras = inspect.signature(keras.applications.VGG16).parameters
    assert set(own) == {*of_keras, "variant"}
    for name in set(of_keras) - {"name", "weights", "classes"}:
        assert own[name].default == of_keras[name].default, name
    assert own["weights"].default is None and own["classes"].default is None


@pytest.mark.parametrize("variant", VARIANTS)
def test_features_are_the_map_behind_the_last_pool(variant):
    row = VARIANTS[variant]
    side, channels = row["image_size"], row["channels"]
    base = alexnet_tf.AlexNet(variant, include_top=False)
    needs_size = row.get("overhang")
    assert base.input_shape == (
        (None, side, side, 3) if needs_size else (None, None, None, channels)
    )
    maps = {"lenet5": (5, 16), "half": (6, 128)}.get(variant, (6, 256))
    features = base(images_of(1, side, channels))
    assert tuple(features.shape) == (1, maps[0], maps[0], maps[1])
    for pooling, reduced in (("avg", np.mean), ("max", np.max)):
        pooled = alexnet_tf.AlexNet(variant, include_top=False, pooling=pooling)
        pooled.set_weights(base.get_weights())
        answer = pooled(images_of(1, side, channels))
        np.testing.assert_allclose(answer, reduced(features, (1, 2)), rtol=1e-4, atol=1e-4)


def test_pictures_of_any_shape_without_the_top():
    base = alexnet_tf.AlexNet("half", include_top=False, input_shape=(99, 131, 3))
    assert base.output_shape == (None, 2, 3, 128) and base.name == "alexnet"
    images = keras.Input((99, 131, 3))
    flipped = keras.layers.RandomFlip()(images)
    other = alexnet_tf.AlexNet("half", include_top=False, input_tensor=flipped, name="mine")
    assert other.inputs[0] is images and other.name == "mine"
    assert other.output_shape == base.output_shape


def test_whole_weights_answer_as_the_network_that_they_are_of(tmp_path):
    weights_file(tmp_path / "whole.npz", "half", dropout_rate=0.2)
    network = networks.load(tmp_path / "whole.npz")
    images = images_of()
    expected = network.probabilities(images.astype(np.uint8))
    model = alexnet_tf.AlexNet("half", weights=tmp_path / "whole.npz")
    assert model.input_shape == (None, 67, 67, 3)
    pixels = alexnet_tf.preprocess_input(images)
    np.testing.assert_allclose(model(pixels), expected, atol=1e-6)
    logits = alexnet_tf.AlexNet(
        "half", weights=str(tmp_path / "whole.npz"), classifier_activation=None
    )(images)
    np.testing.assert_allclose(keras.ops.softmax(logits), expected, atol=1e-6)
    base = alexnet_tf.AlexNet("half", weights=tmp_path / "whole.npz", include_top=False)
    for layer in base.layers:
        if layer.weights:
            kernel = network.model.get_layer(layer.name).kernel
            np.testing.assert_array_equal(layer.kernel, kernel)
    found = alexnet_tf.decode_predictions(expected, 2, class_names=ABC)
    best = np.argsort(-expected[0])[:2]
    assert [row[0] for row in found[0]] == ["abc"[index] for index in best]


def test_levels_go_with_weights_that_keras_saves(tmp_path):
    """Into a model that was built without those that it began with, as the tutorials do it."""
    model, images = alexnet_tf.AlexNet("lenet5", classes=3), images_of(2, 28, 1)
    model.get_layer("pixels").mean, model.get_layer("pixels").std = (9.0,), 50.5
    model.save_weights(tmp_path / "a.weights.h5")
    other = alexnet_tf.AlexNet("lenet5", classes=3)
    other.load_weights(tmp_path / "a.weights.h5")
    np.testing.assert_array_equal(other.predict(images), model.predict(images))
    other.load_weights(tmp_path / "a.weights.h5")
    used = alexnet_tf.AlexNet("lenet5", classes=3)
    used.predict(images)
    with pytest.raises(ValueError, match="less .9.0,., over 50.5, and the model has answered with"):
        used.load_weights(tmp_path / "a.weights.h5")


def test_weights_that_keras_saves_are_of_one_dropout_rate(tmp_path):
    def small(rate, inverted=False):
        dropout = alexnet_tf.Dropout(rate, inverted=inverted, name="drop6")
        return keras.Sequential([keras.Input((2,)), keras.layers.Dense(3), dropout])

    small(0.25).save_weights(tmp_path / "a.weights.h5")
    small(0.25).load_weights(tmp_path / "a.weights.h5")
    with pytest.raises(ValueError, match="rate is 0.25, and drop6 has 0.5.* dropout_rate=0.25"):
        small(0.5).load_weights(tmp_path / "a.weights.h5")
    small(0.25, inverted=True).save_weights(tmp_path / "b.weights.h5")
    small(0.5, inverted=True).load_weights(tmp_path / "b.weights.h5")


@pytest.fixture
def trunk(tmp_path, monkeypatch):
    """`imagenet` is a small part here, and nothing is fetched."""
    model = weights_file(tmp_path / "trunk.npz", "one_weird_trick_pool5", ())
    monkeypatch.setattr(pretrained, "fetch", lambda name: tmp_path / "trunk.npz")
    return model


@pytest.mark.parametrize("variant", ["one_weird_trick", "one_weird_trick_pool5"])
def test_imagenet_is_features(trunk, variant):
    base = alexnet_tf.AlexNet(variant, weights="imagenet", include_top=False, pooling="avg")
    kernels = [layer.kernel for layer in base.layers if layer.weights]
    assert len(kernels) == 5 and base.get_layer("pixels").mean == PIXELS.mean
    for own, layer in zip(kernels, [layer for layer in trunk.layers if layer.weights]):
        np.testing.assert_array_equal(own, layer.kernel)
    assert base(images_of()).shape == (2, 256)


@pytest.mark.parametrize(
    "arguments,message",
    [
        (
            {"variant": "one_weird_trick_pool5", "weights": "imagenet"},
            "lack fc8: .* pass include_top=False, or .* alexnet finetune --pretrained=imagenet",
        ),
        ({"weights": "imagenet"}, "are of variant=one_weird_trick_pool5, not paper; pass"),
        ({"weights": "imagenet", "include_top": False}, "pool5', include_top=False"),
        ({"variant": "caffenet", "weights": "caffe"}, "are of variant=caffe, not caffenet"),
        ({"variant": "half", "weights": "whole.npz", "classes": 5}, "have 3; omit classes="),
        ({"variant": "paper", "weights": "whole.npz"}, "are of variant=half, not paper"),
        (
            {"variant": "half", "weights": "whole.npz", "input_shape": (99, 99, 3)},
            "weights are for 67 x 67",
        ),
        (
            {"variant": "half", "weights": "whole.npz", "classifier_activation": "relu"},
            "were trained for 'softmax'",
        ),
        ({"variant": "half", "weights": "a.weights.h5"}, "call its load_weights"),
        ({"weights": "imagnet"}, "is not a file, a folder, or one of imagenet, trunk"),
        ({"variant": "vgg"}, "variant=vgg is unknown; use one of paper"),
        ({"variant": ["half"]}, "variant=..half.. is unknown; use one of paper"),
        ({"include_top": "no"}, "include_top='no': pass True or False"),
        ({"pooling": "mean", "include_top": False}, "use None, 'avg' or 'max'"),
        ({"pooling": ["avg"], "include_top": False}, "use None, 'avg' or 'max'"),
        ({"pooling": "avg"}, "is for include_top=False"),
        ({"classes": 3, "include_top": False}, "classes=3 is for include_top=True"),
        ({"classes": 1}, "classes=1: pass a whole number of 2 or more"),
        ({"input_shape": (3, 227, 227)}, "reads \\(height, width, 3\\), channels last"),
        ({"input_shape": (20, 20, 3)}, "too small for paper; its smallest is 59|too small"),
        ({"input_shape": (None, None, 3)}, "needs a height and a width"),
        ({"input_shape": (99, 131, 3)}, "pictures are square"),
        ({"input_shape": ("67", "67", 3)}, "side of input_shape='67': pass a whole number from 1"),
        ({"input_shape": (67.5, 67, 3)}, "side of input_shape=67.5: pass a whole number from 1"),
        ({"classifier_activation": "nonsense"}, "'nonsense' is not a Keras activation; pass 'soft"),
        ({"input_shape": 227}, "input_shape=227: pass .height, width, 3."),
        ({"weights": True}, "weights= is of the type bool; pass a path"),
        ({"input_tensor": np.zeros((1, 227, 227, 3))}, "pass what keras.Input gives"),
        (
            {"input_tensor": keras.Input((99, 99, 3)), "input_shape": (67, 67, 3)},
            "input_tensor has the shape \\(99, 99, 3\\)",
        ),
        (
            {"input_tensor": keras.Input((227, 227, 3)), "input_shape": 227},
            "input_shape=227: pass .height, width, 3.",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(trunk, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    if arguments.get("weights") == "whole.npz":
        weights_file(tmp_path / "whole.npz", "half")
    with pytest.raises(ValueError, match=message) as raised:
        alexnet_tf.AlexNet(**arguments)
    assert isinstance(raised.value, UserError) and "\n" not in str(raised.value)


def test_a_model_of_a_tensor_is_called_with_one():
    """Warnings are errors: Keras warns where a model that was made of a list is called without."""
    model = alexnet_tf.AlexNet("lenet5", input_tensor=keras.Input((28, 28, 1)), classes=3)
    assert model(np.zeros((1, 28, 28, 1), np.float32)).shape == (1, 3)


def test_channels_first_is_refused(tmp_path, monkeypatch):
    weights_file(tmp_path / "whole.npz", "half")
    model_dir = write_lenet5(tmp_path / "model", ABC)
    monkeypatch.setattr(keras.config, "image_data_format", lambda: "channels_first")
    for call, arguments in (
        (alexnet_tf.AlexNet, ["half"]),
        (alexnet_tf.build_model, ["half"]),
        (alexnet_tf.load, [tmp_path / "whole.npz"]),
        (alexnet_tf.load, [model_dir]),
    ):
        with pytest.raises(
            UserError, match="^keras.config.image.*_data_format\\('channels_last'\\)"
        ):
            call(*arguments)
    with pytest.raises(UserError, match="reads channels_last"):
        alexnet_tf.preprocess_input(images_of(), "channels_first")


def test_predictions_are_decoded_as_keras_does():
    scores = np.zeros((1, 1000), np.float32)
    scores[0, [7, 1, 999]] = 0.5, 0.3, 0.2
    synsets = list(imagenet.names_by_synset().items())
    ((first, second),) = alexnet_tf.decode_predictions(keras.ops.convert_to_tensor(scores), top=2)
    assert first == (*synsets[7], 0.5) and second == (*synsets[1], float(np.float32(0.3)))
    named = alexnet_tf.decode_predictions(scores[:, :3], 1, np.array(["a", "b", "c"]))
    assert str(named) == f"[[('b', 'b', {first[2] and second[2]})]]"  # as Python shows its own
    with pytest.raises(ValueError, match="ImageNet has 1000; pass class_names="):
        alexnet_tf.decode_predictions(scores[:, :3])
    assert alexnet_tf.decode_predictions(scores[:0]) == []


def test_numbers_of_numpy_and_the_home_folder_are_taken(tmp_path, monkeypatch):
    model = weights_file(tmp_path / "whole.npz", "half")
    monkeypatch.setenv("HOME", str(tmp_path))
    found = alexnet_tf.AlexNet("half", weights="~/whole.npz", classes=np.int64(3))
    np.testing.assert_array_equal(found.get_layer("fc8").kernel, model.layers[-1].kernel)
    with pytest.raises(UserError, match="weights=https://x/y.npz is an address"):
        alexnet_tf.AlexNet("half", weights="https://x/y.npz")
    with pytest.raises(UserError, match="classes='3': pass a whole number of 2 or more"):
        alexnet_tf.AlexNet("half", classes="3")


@pytest.mark.parametrize(
    "scores,arguments,message",
    [
        ([0.5, 0.3, 0.2], {"class_names": ABC}, "shape .3,.; pass .n, classes., .* preds.None."),
        (
            [[5.0, -3, 2]],
            {"class_names": ABC},
            "from -3 to 5, .*if they are lo.*softmax.preds.",
        ),
        ([[np.nan, 0.5, 0.5]], {"class_names": ABC}, "numbers that are not finite, so"),
        ([[0.5, 0.3, 0.2]], {"class_names": "cat"}, "class_names='cat' is one string; pass a list"),
        ([[0.5, 0.3, 0.2]], {"class_names": {0: "a", 1: "b", 2: "c"}}, "a dict, but the order co"),
        ([[0.5, 0.3, 0.2]], {"class_names": {"a", "b", "c"}}, "a set, but the order counts"),
        ([[0.5, 0.3, 0.2]], {"class_names": ABC, "top": -1}, "top=-1: pass a whole number of 1"),
    ],
)
def test_what_are_no_predictions_is_refused(scores, arguments, message):
    with pytest.raises(UserError, match=message):
        alexnet_tf.decode_predictions(np.array(scores), **arguments)


def test_it_is_fitted_exported_and_opened(tmp_path, monkeypatch):
    monkeypatch.setattr("alexnet_tf.exports.saved_model._check", lambda *arguments: None)
    keras.utils.set_random_seed(0)
    model = alexnet_tf.AlexNet("half", **TINY)
    before = model.get_weights()
    model.compile(keras.optimizers.SGD(1e-4), "sparse_categorical_crossentropy")
    model.fit(images_of(4), np.array([0, 1, 2, 0]), verbose=0, batch_size=2)
    assert any(np.abs(one - two).max() > 0 for one, two in zip(before, model.get_weights()))
    expected = model.predict(images_of(), verbose=0)
    np.testing.assert_allclose(expected.sum(1), 1, rtol=1e-5)
    alexnet_tf.export(model, tmp_path / "saved", class_names=ABC)
    network = alexnet_tf.load(tmp_path / "saved")
    np.testing.assert_allclose(
        network.probabilities(images_of().astype(np.uint8)), expected, atol=1e-5
    )
    # an ordinary network of its variant, and not one of its maker's own
    assert network.settings.variant == "half" and network.preprocessing.std == 1
    assert network.preprocessing.mean == model.get_layer("pixels").mean
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict(images_of(), verbose=0), expected)
    layer = again.get_layer("pixels")
    assert isinstance(layer, PixelNormalization) and layer.variant == "half"


def test_what_was_changed_in_a_model_is_exported(tmp_path):
    """Not the variant that it once was: its layers are as its user has left them."""
    model, pictures = alexnet_tf.AlexNet("lenet5", classes=3), images_of(2, 28, 1)
    before = model(pictures)
    for layer in model.layers:
        if isinstance(layer, keras.layers.AveragePooling2D):
            layer.padding = "same"
        if getattr(layer, "activation", None) is keras.activations.tanh:
            layer.activation = keras.activations.sigmoid
    expected = keras.models.clone_model(model)
    expected.set_weights(model.get_weights())
    alexnet_tf.export(model, tmp_path / "out", format="keras", class_names=ABC)
    network = alexnet_tf.load(tmp_path / "out")
    found = network.probabilities(pictures.astype(np.uint8))
    np.testing.assert_allclose(found, expected(pictures), atol=1e-6)
    assert np.abs(found - before).max() > 1e-3
    network.model.get_layer("conv1").activation = keras.activations.relu
    with pytest.raises(UserError, match="were changed in its model; pass the model itself"):
        alexnet_tf.export(network, tmp_path / "again", format="keras")
    with pytest.raises(UserError, match="format=..keras.. is unknown; use one of saved_model"):
        alexnet_tf.export(network, tmp_path / "again", format=["keras"])
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("own", [pytest.param(False, marks=pytest.mark.long), True])
def test_what_was_made_in_half_precision_is_exported_in_float32(tmp_path, monkeypatch, own):
    monkeypatch.setattr("alexnet_tf.exports.saved_model._check", lambda *arguments: None)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = (
            ending(lambda x: softmax(keras.layers.BatchNormalization()(x)), normalised=True)
            if own
            else alexnet_tf.AlexNet("lenet5", classes=3)
        )
        arguments = {"class_names": ABC, "preprocessing": SMALL if own else None}
        version = alexnet_tf.export(model, tmp_path / "saved", **arguments)
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy(before)
    exact = networks.of_keras(model, ABC, arguments["preprocessing"]).settings.build()
    assert {layer.dtype_policy.name for layer in exact._flatten_layers()} == {"float32"}
    exact.set_weights(model.get_weights()[-len(exact.weights) :])
    images = images_of(2, 28, 3 if own else 1).astype(np.uint8)
    read = (images - np.float32(100)) / 50 if own else images - model.get_layer("pixels").mean
    expected = keras.ops.softmax(exact(read / (1 if own else 64)))
    found = alexnet_tf.load(version).probabilities(images)
    np.testing.assert_allclose(found, expected, atol=2e-6)


def normalised(finished=True):
    """A model of one's own that begins with a Normalization, of weights that were set."""
    inputs, first = keras.Input((28, 28, 3)), keras.layers.Normalization()
    x = keras.layers.AveragePooling2D(28)(first(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(x)))
    first.set_weights([np.full(3, 100.0), np.full(3, 900.0), first.count])
    if finished:
        first.finalize_state()
    return model


def test_a_normalization_that_was_made_in_half_precision_is_exported_as_it_is(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("alexnet_tf.exports.saved_model._check", lambda *arguments: None)
    with networks.under_policy("mixed_bfloat16"):
        model = normalised()
    for form in ("keras", "saved_model"):
        path = tmp_path / form
        alexnet_tf.export(model, path, format=form, class_names=ABC, preprocessing=LEVELS)
        images = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 3), np.uint8)
        x = (images.mean((1, 2)) - 100) / 30
        kernel, bias = model.layers[-1].get_weights()
        expected = keras.ops.softmax(x @ kernel + bias)
        opened = alexnet_tf.load(path)
        np.testing.assert_allclose(opened.probabilities(images), expected, atol=1e-4)
        logits = opened.model(images.astype("f4"))
        np.testing.assert_allclose(keras.ops.softmax(logits), expected, atol=1e-4)


def test_another_constant_is_another_network(tmp_path):
    def model(blue):
        inputs = keras.Input((28, 28, 3))
        x = keras.layers.GlobalAveragePooling2D()((inputs - np.array([128.0, 128.0, blue])) / 64)
        return keras.Model(inputs, keras.layers.Dense(3, kernel_initializer="ones")(x))

    def export(blue):
        told = {"class_names": ABC, "preprocessing": LEVELS, "format": "keras"}
        return alexnet_tf.export(model(blue), tmp_path / "out", **told)

    assert export(128.0) == export(128.0)
    with pytest.raises(UserError, match="layers"):
        export(129.0)


def relu(x):
    """Called like one of Keras's, and another."""
    return keras.ops.tanh(x)


@keras.saving.register_keras_serializable()
def of_ones_own(x):
    return keras.ops.tanh(x)


def hidden(function, **how):
    return ending(lambda x: keras.layers.Dense(3, **how)(keras.layers.Dense(4, function)(x)))


@keras.saving.register_keras_serializable()
class Forgetful(keras.layers.Layer):
    """Has a factor that its configuration lacks."""

    factor = 1.0

    def call(self, x):
        return x * self.factor


def forgetful():
    layer = Forgetful()
    layer.factor = 3.0
    return ending(lambda x: keras.layers.Dense(3)(layer(x)))


@pytest.mark.parametrize(
    "model,message",
    [
        (lambda: hidden(relu), "another function than the relu of dense"),
        (lambda: hidden(relu, kernel_initializer="zeros"), "another function than the relu of"),
        (lambda: normalised(finished=False), "needs a call of finalize_state"),
        (forgetful, "its logits differ by up to .* or in its get_config"),
    ],
)
def test_a_model_that_keras_would_open_as_another_is_not_exported(tmp_path, model, message):
    with pytest.raises(UserError, match=f"cannot be exported: .*{message}"):
        alexnet_tf.export(model(), tmp_path / "out", class_names=ABC, preprocessing=LEVELS)
    assert not (tmp_path / "out").exists()


def test_a_model_that_draws_or_has_a_function_of_its_own_is_exported():
    drawing = ending(lambda x: keras.layers.Dense(3)(keras.layers.Dropout(0.5)(x, training=True)))
    for model in (drawing, hidden(of_ones_own), hidden(keras.activations.relu)):
        state = random.getstate()
        assert networks.of_keras(model, ABC, LEVELS).settings.architecture
        assert random.getstate() == state


def test_which_part_of_a_picture_an_alexnet_is_taken_to_see_is_told(tmp_path):
    told, model = [], alexnet_tf.AlexNet("half", **TINY)
    alexnet_tf.export(model, tmp_path / "a", format="keras", class_names=ABC, note=told.append)
    (line,) = told
    assert "shorter side of a picture becomes 77, and the model sees the central 67 x 67" in line
    assert "pass alexnet_tf.Preprocessing(67, 67, 3, (0.0, 0.0, 0.0), 1.0)" in line
    whole = alexnet_tf.Preprocessing(67, 67, 3, (0.0, 0.0, 0.0), 1.0)
    arguments = {"class_names": ABC, "preprocessing": whole, "note": told.append}
    path = alexnet_tf.export(model, tmp_path / "b", format="keras", **arguments)
    network = alexnet_tf.load(path)
    assert told == [line] and network.preprocessing.resize == 67
    assert network.settings.variant == "half" and any(network.preprocessing.mean)


def test_weights_in_half_precision_are_not_exported(tmp_path):
    inputs = keras.Input((28, 28, 3))
    dense = keras.layers.Dense(3, dtype="bfloat16")(keras.layers.Flatten()(inputs))
    with pytest.raises(UserError, match="layers of the dtype policy bfloat16, .* mixed_bfloat16"):
        alexnet_tf.export(
            keras.Model(inputs, dense), tmp_path / "out", class_names=ABC, preprocessing=SMALL
        )
    assert not (tmp_path / "out").exists()


def test_a_network_on_its_features_is_exported_with_their_licence(trunk, tmp_path):
    base = alexnet_tf.AlexNet("one_weird_trick", weights="imagenet", include_top=False)
    base.trainable = False
    x = keras.layers.GlobalMaxPooling2D()(base.output)
    for inputs, outputs in (
        (base.input, x),
        (images := keras.Input((67, 67, 3)), keras.layers.GlobalMaxPooling2D()(base(images))),
    ):
        model = keras.Model(inputs, keras.layers.Dense(2, "softmax")(outputs))
        if model.input_shape[1] is None:
            with pytest.raises(UserError, match="needs squares of one size"):
                alexnet_tf.export(model, tmp_path / "out", 1, "keras", class_names=["a", "b"])
            continue
        version = alexnet_tf.export(model, tmp_path / "out", 1, "keras", class_names=["a", "b"])
        found = alexnet_tf.load(version)
        np.testing.assert_allclose(
            found.probabilities(images_of().astype(np.uint8)), model(images_of()), atol=1e-5
        )
        card = (version / "README.md").read_text()
        assert "license: bsd" in card and "started from weights by others: `theirs.pth`" in card


SMALL = alexnet_tf.Preprocessing(28, 32, 3, (100.0,) * 3, 50.0)


def ending(end, normalised=False):
    """A model of one's own of images of 28 x 28, of which `end` makes the last layers."""
    images = keras.Input((28, 28, 3))
    maps = keras.layers.Conv2D(4, 9, strides=8, activation="relu")(images)
    maps = alexnet_tf.LocalResponseNormalization()(maps) if normalised else maps
    return keras.Model(images, end(keras.layers.Flatten()(maps)))


def softmax(x):
    return keras.layers.Dense(3, "softmax")(x)


@pytest.mark.parametrize(
    "end",
    [
        lambda x: keras.ops.softmax(keras.layers.Dense(3)(x)),
        lambda x: keras.layers.Activation("linear", dtype="float32")(softmax(x)),
        lambda x: keras.layers.Reshape((3,))(softmax(x)),
        lambda x: softmax(x)[:, ::-1],
        lambda x: keras.layers.Average()([softmax(x), softmax(x)]),
        lambda x: keras.layers.Softmax()(softmax(x)),
    ],
)
def test_probabilities_are_known_whatever_puts_them_out(tmp_path, end):
    with pytest.raises(UserError, match="The model ends in probabilities, by .* end in logits"):
        alexnet_tf.export(
            ending(end), tmp_path / "out", class_names=ABC, preprocessing=SMALL, format="keras"
        )
    with pytest.raises(UserError, match="The model ends in probabilities, by "):
        surgery.check_logits(ending(end), SMALL)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "end",
    [
        keras.ops.sigmoid,
        keras.ops.hard_sigmoid,
        keras.ops.relu,
        keras.ops.tanh,
        keras.layers.ReLU(),
        keras.layers.LeakyReLU(),
        keras.layers.PReLU(),
        keras.layers.Activation("sigmoid"),
        keras.Sequential([keras.layers.Activation("relu")]),
    ],
)
def test_other_activations_at_the_end_are_refused(tmp_path, end):
    """Their outputs, taken for logits, would be answered through a softmax."""
    model = ending(lambda x: end(keras.layers.Dense(3)(x)))
    with pytest.raises(UserError, match="The model ends in .* activation.*, for prob.* logits"):
        alexnet_tf.export(
            model, tmp_path / "out", class_names=ABC, preprocessing=SMALL, format="keras"
        )
    with pytest.raises(UserError, match="The model ends in .* activation"):
        surgery.check_logits(model, SMALL)
    assert not (tmp_path / "out").exists()


def scaled_by(scaling):
    inputs = keras.Input((28, 28, 3))
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(scaling(inputs))))


@pytest.mark.parametrize(
    "scaling",
    [
        keras.layers.Rescaling(1 / 255),
        lambda x: keras.layers.Rescaling(1 / 255)(keras.layers.RandomFlip()(x)),
        lambda x: x / 255.0,
        lambda x: keras.ops.subtract(x, 127.0),
        lambda x: keras.ops.cast(x[..., ::-1], "float32") - 127.0,
        keras.applications.vgg16.preprocess_input,  # BGR less its mean
        keras.Sequential([keras.layers.Rescaling(1 / 255)]),
    ],
)
def test_pixels_that_are_scaled_twice_are_told(scaling):
    scaled = dataclasses.replace(SMALL, mean=(128.0,) * 3, std=64.0)
    line = surgery.scaled_twice(scaled_by(scaling), scaled)
    assert "begins with" in line and "(mean (128.0, 128.0, 128.0), std 64); if" in line
    as_they_are = dataclasses.replace(SMALL, mean=(0.0,) * 3, std=1.0)
    assert surgery.scaled_twice(scaled_by(scaling), as_they_are) is None
    assert surgery.scaled_twice(scaled_by(keras.layers.RandomFlip()), scaled) is None
    assert surgery.scaled_twice(scaled_by(lambda x: x + x), scaled) is None
    assert surgery.scaled_twice(scaled_by(keras.layers.ReLU()), scaled) is None


@pytest.mark.parametrize(
    "distorting",
    [
        keras.layers.RandomBrightness(0.2),
        lambda x: keras.layers.RandomContrast(0.2)(keras.layers.RandomFlip()(x)),
        keras.Sequential([keras.layers.RandomBrightness(0.2), keras.layers.Rescaling(2.0)]),
    ],
)
def test_layers_that_take_scaled_pixels_for_levels_are_told(distorting):
    """They clip to 0..255, so that half of all pixels less their mean are 0."""
    scaled = dataclasses.replace(SMALL, mean=(128.0,) * 3, std=64.0)
    line = surgery.taken_for_levels(scaled_by(distorting), scaled)
    assert re.fullmatch(r"(random_\w+?)(_\d+)? takes .*pass value_range=\(-2, 1.984\) to .*", line)
    as_they_are = dataclasses.replace(SMALL, mean=(0.0,) * 3, std=1.0)
    assert surgery.taken_for_levels(scaled_by(distorting), as_they_are) is None
    told = keras.layers.RandomBrightness(0.2, value_range=(-2.0, 2.0))
    assert surgery.taken_for_levels(scaled_by(told), scaled) is None
    behind = keras.Sequential([keras.layers.Rescaling(64.0), keras.layers.RandomBrightness(0.2)])
    assert surgery.taken_for_levels(scaled_by(behind), scaled) is None


def test_a_layer_that_draws_when_the_model_answers_is_refused(tmp_path):
    """Its evaluations would differ, and a SavedModel has no seeds."""

    class Always(keras.layers.Dropout):
        def call(self, inputs, training=False):
            return super().call(inputs, training=True)

    block = keras.Sequential([keras.Input((36,)), Always(0.5, name="always")])
    model = ending(lambda x: keras.layers.Dense(3)(block(x)))
    with pytest.raises(UserError, match="The model's layer always draws random numbers also when"):
        alexnet_tf.export(model, tmp_path / "out", class_names=ABC, preprocessing=SMALL)
    with pytest.raises(UserError, match="The model's layer always draws random numbers also when"):
        surgery.check_same_answers(model, SMALL)
    assert not (tmp_path / "out").exists()
    usual = ending(lambda x: keras.layers.Dense(3)(keras.layers.Dropout(0.5)(x)))
    surgery.check_same_answers(usual, SMALL)


def normalised_base():
    return keras.Sequential(
        [keras.Input((28, 28, 3)), keras.layers.BatchNormalization(name="bn")], name="base"
    )


@pytest.mark.parametrize("trainable", [True, False])
def test_a_training_that_keras_does_not_pass_on_is_told(trainable):
    base = normalised_base()
    base.trainable = trainable
    model = scaled_by(lambda x: base(x, training=False))
    line = surgery.called_in_vain(model)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(images_of(side=28), np.array([0, 1]), verbose=0)
    is_kept = not base.get_layer("bn").moving_mean.numpy().any()
    assert is_kept == (line is None) == (not trainable)
    assert is_kept or line.startswith("the model calls base with training=False, which has no eff")
    assert surgery.called_in_vain(scaled_by(base)) is None


def test_a_dropout_that_is_to_draw_when_the_model_answers_is_told():
    model = scaled_by(lambda x: keras.layers.Dropout(0.5, name="mc")(x, training=True))
    assert "model calls mc with training=True, which has no effect" in surgery.called_in_vain(model)
    images = images_of(side=28)
    np.testing.assert_array_equal(*(model.predict(images, verbose=0) for _ in range(2)))
    assert surgery.called_in_vain(scaled_by(keras.layers.Dropout(0.5))) is None


def test_pixels_that_are_scaled_before_an_alexnet_are_told():
    base = alexnet_tf.AlexNet(
        "half", input_shape=(67, 67, 3), classes=3, classifier_activation=None
    )
    inputs = keras.Input((67, 67, 3))
    model = keras.Model(inputs, base(keras.layers.Rescaling(1 / 255, name="tiny")(inputs)))
    whole = networks.pixels_of(model, None)
    line = surgery.scaled_twice(model, whole)
    assert "scales its pixels by tiny before " in line and "leave tiny out" in line
    assert surgery.scaled_twice(base, whole) is None
    assert surgery.scaled_twice(keras.Model(inputs, base(inputs)), whole) is None
    # from 0..1 back to the levels that the network reads
    tiny = dataclasses.replace(whole, std=255.0)
    back = keras.Model(inputs, base(keras.layers.Rescaling(255.0)(inputs)))
    assert surgery.scaled_twice(back, tiny) is None


def test_logits_that_an_operation_scales_are_logits(tmp_path):
    model = ending(lambda x: keras.layers.Dense(3)(x) / 0.5)
    version = alexnet_tf.export(
        model, tmp_path / "out", class_names=ABC, preprocessing=SMALL, format="keras"
    )
    images = images_of(side=28).astype(np.uint8)
    expected = keras.ops.softmax(model((images - np.float32(100)) / 50))
    np.testing.assert_allclose(alexnet_tf.load(version).probabilities(images), expected, atol=1e-6)


@pytest.mark.long
def test_a_model_within_a_model_is_its_layers(tmp_path):
    inner = alexnet_tf.AlexNet("half", **TINY)
    images = images_of()
    for number, model in enumerate(
        (
            keras.Sequential([keras.Input((67, 67, 3)), inner]),
            keras.Sequential([keras.Input((67, 67, 3)), keras.layers.RandomFlip(), inner]),
        )
    ):
        version = alexnet_tf.export(model, tmp_path / str(number), class_names=ABC, format="keras")
        found = alexnet_tf.load(version)
        np.testing.assert_allclose(
            found.probabilities(images.astype(np.uint8)), inner(images), atol=1e-5
        )
        assert surgery.name_of_features(found.model) == "fc7"  # and not the pixels
        assert found.settings.variant == ("half" if number == 0 else "own")
    # what was exported, and trained on in Keras, is the variant that it was
    again = keras.saving.load_model(tmp_path / "0/1/model.keras")
    version = alexnet_tf.export(again, tmp_path / "again", class_names=ABC, format="keras")
    assert alexnet_tf.load(version).settings.variant == "half"


@pytest.mark.long
def test_a_model_within_a_model_is_trained_and_exported(picture_folder, tmp_path):
    inner = build_model("lenet5", 3)
    outer = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.RandomFlip(), inner])
    network = alexnet_tf.train(
        tmp_path / "model",
        alexnet_tf.open_dataset("folder", picture_folder),
        model=outer,
        preprocessing=LENET5_PIXELS,
        epochs=1,
        batch_size=6,
        schedule="constant",
        xla="off",
    )
    found = alexnet_tf.load(alexnet_tf.export(network, tmp_path / "out", format="keras"))
    images = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 1), np.uint8)
    logits = outer((images - LENET5_PIXELS.mean) / LENET5_PIXELS.std, training=False)
    np.testing.assert_allclose(found.probabilities(images), keras.ops.softmax(logits), atol=1e-5)
    assert surgery.name_of_features(found.model) == "fc4"


def test_weights_of_no_variant_are_told_so(tmp_path):
    version = alexnet_tf.export(
        ending(softmax), tmp_path / "out", class_names=ABC, preprocessing=SMALL, format="keras"
    )
    with pytest.raises(UserError, match="open it with alexnet_tf.load.path..model"):
        alexnet_tf.AlexNet("half", weights=version)


@pytest.mark.parametrize(
    "call,message",
    [(alexnet_tf.load, "^path= is .* pass a path"), (alexnet_tf.evaluate, "^network= is .* gives")],
)
def test_a_model_is_no_path(call, message):
    with pytest.raises(UserError, match=message):
        call(dense("softmax"))


def dense(activation):
    inputs = keras.Input((28, 28, 3))
    x = keras.layers.Flatten()(inputs)
    return keras.Model(inputs, keras.layers.Dense(3, activation)(x))


@pytest.mark.parametrize(
    "model,arguments,message",
    [
        (lambda: dense("softmax"), {}, "class_names= is missing"),
        (lambda: dense("softmax"), {"class_names": ABC}, "preprocessing= is missing"),
        (lambda: dense("sigmoid"), {"class_names": ABC}, "activation sigmoid; it has to be"),
        (lambda: dense("softmax"), {"class_names": ["a", "b"]}, "has 2 names for 3 outputs"),
        (
            lambda: dense("softmax"),
            {"class_names": list("aba"), "preprocessing": SMALL},
            "cannot be exported: the class name 'a' is given to two outputs, 0 and 2",
        ),
        (
            lambda: keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)]),
            {"class_names": ABC},
            "begin a Sequential one with keras.Input",
        ),
        (
            lambda: ending(lambda x: softmax(keras.layers.Lambda(lambda t: 2 * t)(x))),
            {"class_names": ABC, "preprocessing": SMALL},
            "has a lambda, which Keras cannot load",
        ),
        (
            lambda: dense("softmax"),
            {"class_names": ABC, "preprocessing": PIXELS},
            "makes images of 67 x 67 x 3, but the model reads the shape .28, 28, 3.",
        ),
        (lambda: dense("softmax"), {"class_names": {"b": 1, "a": 0, "c": 2}}, "the order counts"),
        (
            lambda: dense("softmax"),
            {
                "class_names": ABC,
                "preprocessing": alexnet_tf.Preprocessing(28, 32, 3, (0.5,) * 3, 0.25),
            },
            "std=0.25; give levels in 0..255",
        ),
        *(
            (
                lambda: dense("softmax"),
                {"class_names": ABC, "preprocessing": given},
                f"preprocessing= {message}",
            )
            for given, message in (
                ({"image_size": 28}, "is of the type dict; pass an alexnet_tf.Preprocessing"),
                (dataclasses.replace(SMALL, image_size=28.0), "makes no sense: image_size is 28.0"),
                (
                    dataclasses.replace(SMALL, channels=1),
                    "makes no sense: mean has 3 numbers",
                ),
                (dataclasses.replace(SMALL, std=0), "makes no sense: std is 0, not a positive"),
            )
        ),
        (
            lambda: alexnet_tf.AlexNet("half", **TINY),
            {"class_names": ABC, "preprocessing": PIXELS},
            "and so does the model, in pixels; omit preprocessing=\\.",
        ),
        (
            lambda: alexnet_tf.AlexNet("half", **TINY),
            {
                "class_names": ABC,
                "preprocessing": alexnet_tf.Preprocessing(67, 67, 3, (0.0,) * 3, 255.0),
            },
            r"trained on pixels divided by 255, pass keras.Seq.*ing\(1 / 255\), model\]\)",
        ),
    ],
)
def test_a_keras_model_that_does_not_tell_enough_is_not_exported(
    tmp_path, model, arguments, message
):
    with pytest.raises(UserError, match=message):
        alexnet_tf.export(model(), tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_probabilities_are_not_trained_as_logits():
    model = alexnet_tf.AlexNet("half", **TINY)
    with pytest.raises(UserError, match="ends in probabilities, by fc8; .*classifier_activation"):
        surgery.check_logits(model, networks.pixels_of(model, None))


def test_a_path_that_ends_in_a_known_name_is_no_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("alexnet_tf.pretrained.fetch", lambda name: pytest.fail(name))
    with pytest.raises(UserError, match="is not a file, a folder, or one of"):
        alexnet_tf.AlexNet("one_weird_trick_pool5", weights="./imagenet", include_top=False)
