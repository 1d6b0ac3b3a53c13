"""What an int8 file leaves in float32 is known by names: those of the layers that normalise, of the
first convolution, and of what makes pixels less than their mean.
"""

import re

import pytest
import tensorflow as tf

from alexnet_tf import preprocessing
from alexnet_tf.exports import tflite
from alexnet_tf.network.layers import (
    LocalResponseNormalization,
    SpatialResponseNormalization,
    for_small_devices,
)
from alexnet_tf.network.model import build_model, smallest_image_size
from alexnet_tf.preprocessing import Preprocessing

NORMALISATIONS = LocalResponseNormalization, SpatialResponseNormalization
# One of each way in which layers are put together: towers, norms within maps, across towers.
VARIANTS = ["half", "source2012", "caffe", "caffenet", "one_weird_trick_pool5", "lenet5"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_normalisations_and_the_first_convolution_are_known_by_their_names(variant):
    model = build_model(variant, 3, smallest_image_size(variant))
    first = min(layer.name for layer in model.layers if layer.name.startswith("conv"))
    for layer, small in zip(model.layers, for_small_devices(model).layers):
        assert small.name == layer.name
        kept = tflite.kept_in_float(f"StatefulPartitionedCall/{variant}/{layer.name}/mul;more")
        is_first = re.sub("[ab]$", "", layer.name) == re.sub("[ab]$", "", first)
        if isinstance(layer, NORMALISATIONS) or is_first:
            assert kept and all(layer.name.startswith(name) for name in kept), layer.name
        elif layer.weights:
            assert not kept, layer.name


@pytest.mark.parametrize("layer", ["conv10", "conv11a", "subsample", "less_meaning", "conv1x"])
def test_a_layer_whose_name_begins_alike_is_not_kept(layer):
    assert tflite.kept_in_float(f"StatefulPartitionedCall/own/{layer}/Conv2D;more") == set()


def test_a_later_convolution_with_a_relu_in_it_is_not_kept():
    name = "StatefulPartitionedCall/half/lrn2a/Relu;StatefulPartitionedCall/half/conv2a/BiasAdd"
    assert tflite.kept_in_float(name) == set()


def test_pixels_less_their_mean_are_known_by_their_name():
    pixels = Preprocessing(8, 8, 3, (1.0, 2.0, 3.0), 64.0)
    graph = (
        tf.function(lambda images: preprocessing.to_edge_input(images, pixels))
        .get_concrete_function(tf.TensorSpec([1, 8, 8, 3], tf.float32))
        .graph
    )
    subtractions = [one.name for one in graph.get_operations() if one.type == "Sub"]
    assert len(subtractions) == 2
    for name in subtractions:
        assert tflite.kept_in_float(f"StatefulPartitionedCall/{name}") == {preprocessing.LESS_MEAN}
    assert tflite.kept_in_float("StatefulPartitionedCall/sub_1") == {"sub"}  # exports of before
