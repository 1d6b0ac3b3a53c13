"""What tells one training from another: alike in every process, other for another function."""

import functools

import keras
import numpy as np
import pytest

import alexnet_tf
from alexnet_tf import networks
from alexnet_tf.training import recipe
from alexnet_tf.training.objective import Objective, name_of
from alexnet_tf.training.plan import Plan


def scaled(factor):
    return lambda targets, logits: factor * targets


class Scaled:
    def __init__(self, factor):
        self.factor, self.other = factor, object()

    def __call__(self, targets, logits):
        return self.factor * targets


def focal(gamma):
    return keras.losses.CategoricalFocalCrossentropy(
        gamma=gamma, from_logits=True, reduction="none"
    )


@pytest.mark.parametrize(
    "make",
    [
        scaled,
        Scaled,
        lambda factor: functools.partial(scaled(1), logits=factor),
        lambda factor: functools.partial(scaled(1), logits=np.array([factor])),
        lambda factor: Scaled(factor).__call__,
        lambda factor: lambda targets, logits, factor=factor: factor * targets,
        focal,
    ],
)
def test_functions_are_told_apart_by_what_they_compute(make):
    one, again, other = map(recipe.digest_of, (make(2.0), make(2.0), make(3.0)))
    assert one == again != other


def test_functions_of_one_name_are_told_apart_by_their_code():
    one, other = (lambda image, pixels, seed: image), (lambda image, pixels, seed: image[::-1])
    assert name_of(one) == name_of(other) and recipe.digest_of(one) != recipe.digest_of(other)


def test_no_address_and_no_name_that_keras_gives_is_told():
    assert "0x" not in name_of(focal(2.0)) and name_of(focal(2.0)) == name_of(focal(2.0))
    assert name_of(focal(2.0)) != name_of(focal(3.0))
    flips = [keras.layers.RandomFlip() for _ in range(2)]
    assert flips[0].name != flips[1].name and name_of(flips[0]) == name_of(flips[1])


def told(optimizer, precision="float32", **objective):
    with networks.under_policy(precision):
        model = alexnet_tf.build_model("lenet5", 3)
    return recipe.recipe(model, optimizer, Plan(), Objective(**objective), None)


def test_what_differs_is_named():
    one = told(alexnet_tf.SGD2012(0.05), loss=scaled(1.0))
    others = alexnet_tf.SGD2012(0.05, 0.5, 0.1, 2.0, clipnorm=1.0)
    other = told(others, "mixed_bfloat16", loss=scaled(2.0))
    names = ["momentum", "weight_decay", "bias_rate", "precision", "clipnorm"]
    assert sorted(recipe.others_in(one, other, False)) == sorted(names)
    assert recipe.others_in(one, other, True) == [*recipe.others_in(one, other, False), "loss"]
    assert recipe.others_in(one, told(alexnet_tf.SGD2012(0.05)), False) == ["loss"]
    assert recipe.others_in(one, one, True) == []
    assert told(alexnet_tf.LARS(trust=0.5))["trust"] == 0.5


def test_numbers_of_numpy_are_told_as_numbers():
    half = np.float32(0.5)
    one = told(alexnet_tf.SGD2012(0.05, half, clipnorm=half), loss=focal(np.float32(2.0)))
    other = told(alexnet_tf.SGD2012(0.05, 0.5, clipnorm=0.5), loss=focal(2.0))
    assert one == other != told(alexnet_tf.SGD2012(0.05, 0.5, clipnorm=0.5), loss=focal(3.0))
    assert recipe.digest_of(focal(np.float32(2.0))) != recipe.digest_of(focal(np.float32(3.0)))
