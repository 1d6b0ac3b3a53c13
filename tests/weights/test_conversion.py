"""Numbers that are no weights are refused."""

import numpy as np
import pytest
from networks_of_others import convert_torch, light, torchvision

from alexnet_tf.errors import UserError


@pytest.mark.parametrize(
    "name,array,message",
    [
        (
            "classifier.1.weight",
            np.zeros((4096, 9216), np.float32),
            "all of fc6 is 0: it was never trained",
        ),
        (
            "features.0.weight",
            np.full((64, 3, 11, 11), 0.5, np.float32),
            "all of conv1 is 0.5",
        ),
        (
            "features.3.weight",
            np.ones((192, 64, 5, 5), np.int8),
            "conv2 is of int8, but weights are floating",
        ),
        (
            "classifier.6.bias",
            np.array([1, np.inf, 0], np.float32),
            "fc8 has numbers that are not finite",
        ),
        ("features.0.bias", np.full(64, 1e300), "conv1 has numbers that are not finite"),
    ],
)
def test_numbers_that_are_no_weights_are_refused(name, array, message):
    with pytest.raises(UserError, match=message):
        convert_torch(torchvision() | {name: array})


def test_one_class_is_none():
    arrays = torchvision(classes=1) | {"classifier.6.weight": light(4096, 1).T}
    with pytest.raises(UserError, match="it has 1 output"):
        convert_torch(arrays)


def test_halves_are_weights():
    arrays = torchvision()
    expected = light(64).astype(np.float16).astype(np.float32)
    assert np.array_equal(
        convert_torch(arrays | {"features.0.bias": light(64).astype(np.float16)}).arrays[
            "conv1/bias"
        ],
        expected,
    )
