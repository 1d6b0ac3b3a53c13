"""Whether a model is the variant that it once was."""

import concurrent.futures
import random

import keras
import numpy as np
import pytest
from keras import layers

from alexnet_tf import networks
from alexnet_tf.applications import AlexNet
from alexnet_tf.errors import UserError
from alexnet_tf.network import surgery
from alexnet_tf.network.layers import Dropout
from alexnet_tf.network.model import build_model


def change(name, **settings):
    def changed(model):
        for setting, value in settings.items():
            setattr(model.get_layer(name), setting, value)

    return changed


def relu(x):
    """Called like one of Keras's, and another."""
    return keras.ops.tanh(x)


@pytest.mark.parametrize(
    "changed",
    [
        change("conv3a", activation=keras.activations.tanh),
        change("conv3a", activation=relu),
        change("dropout7", rate=0.0),
        change("lrn2a", alpha=1e-3),
        change("pool5a", strides=(3, 3)),
    ],
)
def test_a_changed_setting_makes_another_network(changed):
    model = AlexNet("half", classes=3, input_shape=(67, 67, 3), classifier_activation=None)
    changed(model)
    assert surgery.as_built(model) is None


def test_what_builds_a_network_draws_by_its_seed_whatever_other_threads_build():
    state, numbers = random.getstate(), random.Random(5)
    with surgery.drawing_apart(5), concurrent.futures.ThreadPoolExecutor(1) as another:
        one = random.random()
        with surgery.drawing_apart(7):
            assert random.random() == random.Random(7).random()
        may_draw = another.submit(surgery._DRAWING.acquire, blocking=False)
        assert not may_draw.result()
        assert [one, random.random()] == [numbers.random(), numbers.random()]
    assert random.getstate() == state


def test_a_variant_is_known_until_it_is_changed():
    model = build_model("caffe", 3, 67, 0.25)
    model.get_layer("conv1a").trainable = False
    state = random.getstate()
    assert surgery.variant_of(model) == "caffe" and surgery.as_it_is(model) is model
    assert random.getstate() == state
    change("dropout6", inverted=False)(model)
    assert surgery.variant_of(model) is None
    own = surgery.as_it_is(model)
    assert own.layers == model.layers and not hasattr(own, "variant")


def test_what_a_layer_reads_is_part_of_what_a_model_computes():
    def model(factor=2.0, swapped=False, half=slice(None, 2)):
        images = keras.Input((4,))
        both = [layers.Dense(4)(images) * factor, layers.Dense(4, "relu")(images)]
        return keras.Model(images, layers.Subtract()(both[::-1] if swapped else both)[:, half])

    assert surgery.computes_as(model(), model())
    for other in (model(3.0), model(swapped=True), model(half=slice(2, None))):
        assert not surgery.computes_as(model(), other)


def sequences(first=1.0, shape=3, **arguments):
    """A model that subtracts a constant of `shape`, and attends with `arguments`."""
    images = keras.Input((4, 3))
    constant = np.full(shape, 2.0, "float32")
    constant.flat[0] = first
    x = images - constant
    return keras.Model(images, layers.MultiHeadAttention(2, 4)(x, x, **arguments))


@pytest.mark.parametrize(
    "other,is_same",
    [
        ({}, True),
        ({"first": 1.001}, False),
        ({"training": False}, True),
        ({"training": True}, False),
        ({"use_causal_mask": True}, False),
        ({"attention_mask": None}, True),
        ({"attention_mask": np.tri(4, dtype=bool)}, False),
    ],
)
def test_constants_and_arguments_of_calls_are_part_of_what_a_model_computes(other, is_same):
    assert surgery.computes_as(sequences(), sequences(**other)) is is_same
    assert surgery.computes_as(sequences(**other), sequences(**other))


def test_constants_of_many_numbers_are_told_by_a_digest():
    whole, other = sequences(shape=(4, 3)), sequences(0.5, (4, 3))
    assert not surgery.computes_as(whole, other) and surgery.computes_as(whole, whole)
    (_, entries), *_ = surgery.computed({"config": whole.get_config()})
    assert len(entries["inputs"]) < 60


def test_a_constant_that_a_layer_reads_is_the_same_under_a_mixed_policy():
    def model(level):
        images = keras.Input((3,))
        x = layers.Subtract()([layers.Dense(3)(images), np.array([[level, 0.1, -0.0]], "float32")])
        return keras.Model(images, x)

    with networks.under_policy("mixed_bfloat16"):
        mixed = model(123.68)
    assert surgery.computes_as(mixed, model(123.68))
    assert not surgery.computes_as(mixed, model(123.7))


def test_what_a_model_within_reads_and_what_a_model_puts_out_is_part_of_what_it_computes():
    def model(reads=0, part=0):
        images, inside = keras.Input((4,)), keras.Input((2,))
        inner = keras.Model(inside, layers.Dense(2, "tanh")(inside))
        x = inner(keras.ops.split(layers.Dense(4)(images), 2, axis=1)[reads])
        return keras.Model(images, keras.ops.split(x, 2, axis=1)[part])

    assert surgery.computes_as(model(), model())
    assert not surgery.computes_as(model(), model(reads=1))
    assert not surgery.computes_as(model(), model(part=1))


def test_a_sequential_model_computes_as_the_functional_one_of_its_layers():
    images = keras.Input((4,))
    one = keras.Sequential([images, layers.Dense(3, "relu"), layers.Dense(2)])
    assert surgery.computes_as(one, keras.Model(one.inputs, one.outputs))
    other = keras.Model(images, layers.Dense(2)(layers.Dense(3, "tanh")(images)))
    assert not surgery.computes_as(one, other)


def test_weights_that_are_given_are_those_that_every_layer_computes_with():
    def model():
        images, inside = keras.Input((4, 4, 3)), keras.Input((4, 4, 3))
        inner = keras.Model(inside, layers.Normalization()(inside))
        return keras.Model(images, inner(layers.Normalization()(images)))

    one, other = model(), model()
    values = [np.float32([[1, 2, 3], [4, 5, 6], 0][i % 3]) for i in range(6)]
    surgery.give_weights(one, zip(one.weights, values))
    mean, variance = np.float32([1, 2, 3]), np.float32([4, 5, 6])
    images = np.full((1, 4, 4, 3), 9, "float32")
    expected = ((images - mean) / variance**0.5 - mean) / variance**0.5
    np.testing.assert_allclose(one(images), expected, rtol=1e-5)
    assert np.abs(one(images) - other(images)).max() > 1


def test_a_model_that_does_not_tell_what_it_computes_is_no_variant(monkeypatch):
    def silent():
        raise NotImplementedError

    model = build_model("lenet5", 3)
    monkeypatch.setattr(model, "get_config", silent)
    assert surgery.variant_of(model) is None


def ends(end):
    """A model that ends in what `end` makes of two layers' outputs."""
    images = keras.Input((4, 4, 1))
    x = layers.Flatten()(images)
    return keras.Model(images, end(layers.Dense(3, name="one")(x), layers.Dense(3)(x)))


@pytest.mark.parametrize(
    "end,name",
    [
        (lambda one, other: layers.Add(name="sum")([one, other]), "sum .Add."),
        (lambda one, other: layers.Dense(3)(keras.ops.relu(one)), "relu.* .Relu."),
        (lambda one, other: layers.Dense(3)(keras.ops.add(one, other)), "add.* .Add."),
        (lambda one, other: one * 2, "multiply.* .Multiply."),
    ],
)
def test_features_are_what_the_last_layer_reads(end, name):
    with pytest.raises(UserError, match=f"ends in {name}, but features are"):
        surgery.check_chain(ends(end))
    surgery.check_chain(build_model("lenet5", 3))
    surgery.check_chain(ends(lambda one, other: layers.Dense(2)(layers.Dropout(0.5)(one))))
    surgery.check_chain(ends(lambda *both: layers.Dense(2)(layers.Concatenate()(both))))


@pytest.mark.parametrize(
    "noise",
    [
        Dropout,
        layers.Dropout,
        layers.AlphaDropout,
        layers.GaussianDropout,
        layers.GaussianNoise,
    ],
)
def test_what_acts_in_training_alone_is_part_of_the_projection(noise):
    """Features are computed once, without it."""
    images = keras.Input((4, 4, 1))
    flat = layers.Flatten(name="flat")(images)
    model = keras.Model(images, layers.Dense(2)(noise(0.5)(flat)))
    assert surgery.trunk(model).layers[-1].name == "flat" and surgery.reads_last_map(model)
    assert [type(one) for one in surgery.projection(model).layers[1:]] == [noise, layers.Dense]


@pytest.mark.parametrize(
    "kind,wrapped", [("dict", lambda y: {"logits": y}), ("list", lambda y: [y])]
)
def test_outputs_within_a_dict_or_a_list_are_refused(kind, wrapped):
    images = keras.Input((12, 12, 1))
    model = keras.Model(images, wrapped(keras.layers.Dense(3)(keras.layers.Flatten()(images))))
    with pytest.raises(UserError, match=f"puts out a {kind} of one output, .*; pass keras.Model"):
        surgery.check_functional(model)
    surgery.check_functional(keras.Model(model.inputs[0], model.outputs[0]))


def test_a_model_that_keras_has_quantised_is_refused():
    """It would be exported as one of float32, and trained without its last layer."""
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, name="last")])
    surgery.check_functional(model)
    model.layers[-1].quantize("int8")
    with pytest.raises(UserError, match=r"by Keras \(last is int8_from_float32\), .*='int8'\)"):
        surgery.check_functional(model)


@pytest.mark.parametrize("activation", ["sigmoid", None])
def test_one_sigmoid_for_two_classes_is_told_to_be_two_outputs(activation):
    images = keras.Input((4,))
    one = keras.layers.Dense(1, activation)(images)
    model = keras.Model(images, one if activation else keras.ops.sigmoid(one))
    with pytest.raises(UserError, match=r"logits; two classes are two outputs, such as Dense\(2\)"):
        surgery.logits_of(model)
