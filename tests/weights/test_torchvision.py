"""Each array of torchvision's network lands where it belongs."""

import numpy as np
import pytest
from networks_of_others import (
    convert_torch,
    light,
    random_network,
    same,
    source_of,
    torchvision,
    weights,
)

from alexnet_tf.errors import UserError
from alexnet_tf.weights import conversion

TORCHVISION = {
    "conv1": "features.0",
    "conv2": "features.3",
    "conv3": "features.6",
    "conv4": "features.8",
    "conv5": "features.10",
    "fc6": "classifier.1",
    "fc7": "classifier.4",
    "fc8": "classifier.6",
}


def test_torchvision_lands_in_one_tower():
    expected = random_network("one_weird_trick")
    source = {
        TORCHVISION[layer]: pair for layer, pair in source_of(expected, "torchvision").items()
    }
    found = conversion.convert(weights(source, "{layer}.{part}", ".pth"), "x")
    pixels = found.preprocessing
    assert found.variant == "one_weird_trick" and found.arrays.keys() == expected.keys()
    for name, array in found.arrays.items():
        np.testing.assert_allclose(
            array, expected[name], rtol=1e-6 if name == "conv1/kernel" else 0
        )
    assert (pixels.image_size, pixels.resize, pixels.std) == (224, 256, 57.6)
    np.testing.assert_allclose(pixels.mean, [123.675, 116.28, 103.53])


def test_a_training_of_pytorch_is_searched_for_the_network():
    """As examples/imagenet saves it: within a dict, and DataParallel in every name."""
    conv1 = {
        "features.0": [
            np.eye(64 * 33, 11, dtype=np.float32).reshape(64, 3, 11, 11),
            np.zeros(64, np.float32),
        ]
    }
    with pytest.raises(UserError) as error:
        conversion.convert(weights(conv1, "state_dict.module.{layer}.{part}", ".pth"), "x")
    assert "conv1" not in str(
        error.value
    ) and "conv2 is missing (state_dict.features.3.weight, " in str(error.value)


@pytest.mark.parametrize(
    "classifier,last", [((1, 4, 6), ""), ((0, 3, 6), ""), ((0, 2, 4), ""), ((1, 4, 6), ".1")]
)
def test_dropout_may_be_elsewhere(classifier, last):
    arrays = torchvision("", classifier, last=last)
    arrays[f"classifier.{classifier[1]}.bias"] = np.full(4096, 0.5, np.float32)
    assert (convert_torch(arrays).arrays["fc7/bias"] == 0.5).all()


def test_the_convolutions_alone_are_a_part_of_a_network():
    whole = torchvision("model.")
    part = {name: array for name, array in whole.items() if "classifier" not in name}
    found, expected = convert_torch(part), convert_torch(whole)
    assert (found.variant, found.missing) == ("one_weird_trick_pool5", ("fc8",))
    assert found.preprocessing == expected.preprocessing and expected.missing == ()
    convolutions = {name: one for name, one in expected.arrays.items() if name.startswith("conv")}
    assert same(found.arrays, convolutions) and len(convolutions) == 10
    with pytest.raises(UserError, match="more than an AlexNet: model.head.weight "):
        convert_torch(part | {"model.head.weight": light(3, 9216)})
    with pytest.raises(UserError, match="fc7 is missing .*; fc8 is missing"):
        convert_torch({n: one for n, one in whole.items() if "er.4" not in n and "er.6" not in n})


def test_projections_in_unknown_places_are_refused():
    with pytest.raises(
        UserError, match="in other places .*: classifier.2, classifier.5, classifier.7"
    ):
        convert_torch(torchvision("", (2, 5, 7)))
    with pytest.raises(
        UserError,
        match="in other places .*: classifier.1, classifier.4, classifier.6, classifier.7",
    ):
        convert_torch(torchvision() | {"classifier.7.weight": light(10, 3)})
