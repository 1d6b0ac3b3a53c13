"""Whether a model is the variant that it once was."""

import random

import keras
import pytest
from keras import layers

from alexnet_tf.applications import AlexNet
from alexnet_tf.errors import UserError
from alexnet_tf.network import surgery
from alexnet_tf.network.model import build_model


def change(name, **settings):
    def changed(model):
        for setting, value in settings.items():
            setattr(model.get_layer(name), setting, value)

    return changed


@pytest.mark.parametrize(
    "changed",
    [
        change("conv3a", activation=keras.activations.tanh),
        change("dropout7", rate=0.0),
        change("lrn2a", alpha=1e-3),
        change("pool5a", strides=(3, 3)),
    ],
)
def test_a_changed_setting_makes_another_network(changed):
    model = AlexNet("half", classes=3, input_shape=(67, 67, 3), classifier_activation=None)
    changed(model)
    assert surgery.as_built(model) is None


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
    with pytest.raises(UserError, match=f"ends in {name}, and features are"):
        surgery.check_chain(ends(end))
    surgery.check_chain(build_model("lenet5", 3))
    surgery.check_chain(ends(lambda one, other: layers.Dense(2)(layers.Dropout(0.5)(one))))
    surgery.check_chain(ends(lambda *both: layers.Dense(2)(layers.Concatenate()(both))))


@pytest.mark.parametrize(
    "kind,wrapped", [("dict", lambda y: {"logits": y}), ("list", lambda y: [y])]
)
def test_outputs_within_a_dict_or_a_list_are_refused(kind, wrapped):
    images = keras.Input((12, 12, 1))
    model = keras.Model(images, wrapped(keras.layers.Dense(3)(keras.layers.Flatten()(images))))
    with pytest.raises(UserError, match=f"puts out a {kind} of one output, .*; pass keras.Model"):
        surgery.check_functional(model)
    surgery.check_functional(keras.Model(model.inputs[0], model.outputs[0]))
