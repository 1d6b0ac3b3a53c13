"""Parameter counts, shapes and starting weights, against figures computed from the papers and the
source.
"""

import subprocess
import sys

import keras
import numpy as np
import pytest

from alexnet_tf.errors import UserError
from alexnet_tf.network import surgery
from alexnet_tf.network.model import (
    VARIANTS,
    _adaptive_average,
    build_model,
    initial_stddev,
    smallest_image_size,
    stable_rate,
)
from alexnet_tf.training import defaults

# Published: the paper's 60 million; 145, 145-half and 146 computed from the source's layer files;
# torchvision's own count.
PARAMETERS = {
    "paper": 60_965_224,
    "source2012": 60_965_224,
    "caffe": 60_965_224,
    "caffenet": 60_965_224,
    "half": 16_630_440,
    "one_gpu": 59_798_312,
    "conv6": 61_555_304,
    "one_weird_trick": 61_100_840,
}


@pytest.mark.parametrize("variant", PARAMETERS)
def test_parameters_at_1000_classes(variant):
    assert build_model(variant).count_params() == PARAMETERS[variant]


def test_fewer_classes_change_the_last_projection_alone():
    model = build_model("paper", 10)
    assert model.count_params() == 60_965_224 - 990 * 4097
    assert model.output.shape == (None, 10)


def test_lenet5_has_the_61706_parameters_of_the_usual_comparison():
    # 6*(25+1) + 16*(25*6+1) + 120*(400+1) + 84*(120+1) + 10*(84+1)
    assert build_model("lenet5").count_params() == 156 + 2416 + 48120 + 10164 + 850 == 61_706


@pytest.mark.parametrize("variant", ["paper", "source2012"])
def test_output_shapes_are_the_papers(variant):
    shapes = {layer.name: tuple(layer.output.shape[1:]) for layer in build_model(variant).layers}
    expected = {
        "conv1": (55, 55, 48),
        "pool1": (27, 27, 48),
        "conv2": (27, 27, 128),
        "pool2": (13, 13, 128),
        "conv3": (13, 13, 192),
        "conv4": (13, 13, 192),
        "conv5": (13, 13, 128),
        "pool5": (6, 6, 128),
    }
    for name, shape in expected.items():
        assert shapes[f"{name}a"] == shapes[f"{name}b"] == shape
    assert (
        shapes["flatten"] == (9216,)
        and shapes["fc6"] == shapes["fc7"] == (4096,)
        and shapes["fc8"] == (1000,)
    )


def test_conv3_and_fc6_read_both_towers_and_conv2_4_5_their_own():
    kernels = {
        layer.name: layer.kernel.shape
        for layer in build_model("paper").layers
        if hasattr(layer, "kernel")
    }
    for tower in "ab":
        assert kernels[f"conv2{tower}"][2] == 48
        assert kernels[f"conv3{tower}"][2] == 256
        assert kernels[f"conv4{tower}"][2] == kernels[f"conv5{tower}"][2] == 192
    assert kernels["fc6"] == (9216, 4096)


@pytest.mark.parametrize(
    "variant,smallest",
    [("paper", 67), ("source2012", 64), ("one_weird_trick", 63), ("half", 67), ("lenet5", 12)],
)
def test_the_smallest_image_builds_and_the_next_smaller_is_refused(variant, smallest):
    assert smallest_image_size(variant) == smallest
    assert build_model(variant, 2, smallest).output.shape == (None, 2)
    with pytest.raises(ValueError, match=f"its smallest is {smallest}"):
        build_model(variant, 2, smallest - 1)


def test_refusals_name_what_is_legal():
    with pytest.raises(
        ValueError, match="variant=alexnet is unknown; use one of paper, source2012"
    ):
        build_model("alexnet")
    with pytest.raises(ValueError, match="2 or more"):
        build_model("paper", 1)


@pytest.mark.parametrize(
    "variant,stddev,biases",
    [
        ("paper", {}, {"conv2": 1, "conv4": 1, "conv5": 1, "fc6": 1, "fc7": 1}),
        (
            "source2012",
            {"conv3": 0.03, "conv4": 0.03, "conv5": 0.03},
            {"conv2": 1, "conv4": 1, "conv5": 1, "fc6": 1, "fc7": 1},
        ),
        (
            "caffe",
            {"fc6": 0.005, "fc7": 0.005},
            {"conv2": 0.1, "conv4": 0.1, "conv5": 0.1, "fc6": 0.1, "fc7": 0.1},
        ),
    ],
)
def test_weights_at_the_start(variant, stddev, biases):
    for layer in build_model(variant).layers:
        if not hasattr(layer, "kernel"):
            continue
        name = layer.name.rstrip("ab")
        kernel, expected = np.asarray(layer.kernel), stddev.get(name, 0.01)
        assert abs(kernel.mean()) < 4 * expected / kernel.size**0.5
        assert abs(kernel.std() / expected - 1) < 4 / (2 * kernel.size) ** 0.5
        assert np.abs(kernel).max() > 2.5 * expected  # not truncated
        np.testing.assert_array_equal(
            layer.bias, np.full(layer.bias.shape, biases.get(name, 0), np.float32)
        )


def test_what_was_run_in_2012_replaces_what_a_variant_has_in_conv3_to_conv5_alone():
    run = {"conv3": 0.03, "conv4": 0.03, "conv5": 0.03, "conv6": 0.03}
    assert initial_stddev("paper") == initial_stddev("half") == run
    assert (
        initial_stddev("caffe") == initial_stddev("caffenet") == VARIANTS["caffe"]["stddev"] | run
    )
    assert VARIANTS["caffe"]["stddev"] == {"fc6": 0.005, "fc7": 0.005}
    assert initial_stddev("caffenet", "variant") is None
    assert initial_stddev("source2012") is initial_stddev("lenet5") is None


@pytest.mark.parametrize("variant,dropout_rate", [("paper", 0.5), ("half", 0.0), ("caffenet", 0.5)])
def test_the_stable_rate_is_2_over_the_curvature_at_the_projection(variant, dropout_rate):
    """Which is what fc7 puts out, squared and summed, over the number of classes; its weights,
    which the formula leaves out, add a fifth.
    """
    keras.utils.set_random_seed(5)
    model = build_model(variant, 4, 67, dropout_rate, initial_stddev(variant))
    into_projection = keras.Model(model.input, model.layers[-1].input)
    images = np.random.default_rng(0).normal(0, 5, (8, 67, 67, 3)).astype("f4")
    outputs = np.asarray(into_projection(images, training=True))
    curvature = (outputs**2).sum(axis=1).mean() / 4
    assert 1 < stable_rate(variant, 4, dropout_rate) / (2 / curvature) < 1.3


@pytest.mark.parametrize(
    "variant,batch_size,rates",  # of 2, 3, 10, 100 and 1000 classes
    [
        ("paper", 128, [0.002, 0.003, 0.01, 0.01, 0.01]),
        ("paper", 1024, [0.002, 0.003, 0.01, 0.04, 0.04]),
        ("half", 128, [0.004, 0.006, 0.01, 0.01, 0.01]),
        ("caffenet", 128, [0.0005, 0.0007, 0.002, 0.01, 0.01]),
        ("caffe", 128, [0.01, 0.01, 0.01, 0.01, 0.01]),
        ("one_weird_trick", 512, [0.02, 0.02, 0.02, 0.02, 0.02]),
        ("lenet5", 128, [0.05, 0.05, 0.05, 0.05, 0.05]),
    ],
)
def test_the_rate_is_the_published_one_but_where_so_few_classes_do_not_stand_it(
    variant, batch_size, rates
):
    found = [
        defaults.default_rate(variant, batch_size, classes) for classes in (2, 3, 10, 100, 1000)
    ]
    assert found == rates


def test_weights_of_lenet5_at_the_start_have_a_variance_of_one_over_their_inputs():
    for layer in build_model("lenet5").layers:
        if hasattr(layer, "kernel"):
            kernel = np.asarray(layer.kernel)
            inputs = kernel.size // kernel.shape[-1]
            assert abs(kernel.std() * inputs**0.5 - 1) < 4 / (
                2 * kernel.size
            ) ** 0.5 and not np.any(layer.bias)


def test_224_with_the_sources_overhang_is_227_with_zero_rows():
    """The old riddle: ceil((224 - 11) / 4) + 1 positions read 3 pixels past the right and bottom
    border, at zeros.
    """
    assert VARIANTS["source2012"]["overhang"]
    at_224, at_227 = build_model("source2012", 10, 224), build_model("source2012", 10, 227)
    for model in (at_224, at_227):
        assert model.get_layer("conv1a").output.shape == (None, 55, 55, 48)
    at_227.set_weights(at_224.get_weights())
    images = np.random.default_rng(0).normal(0, 60, (1, 224, 224, 3)).astype(np.float32)
    padded = np.pad(images, [[0, 0], [0, 3], [0, 3], [0, 0]])
    np.testing.assert_array_equal(at_224(images), at_227(padded))


@pytest.mark.parametrize("size", [1, 4, 6, 9])
def test_adaptive_average_is_pytorchs(size):
    """Window i reaches from floor(i n / 6) to ceil((i + 1) n / 6), written out for each n."""
    edges = {
        1: [(0, 1)] * 6,
        4: [(0, 1), (0, 2), (1, 2), (2, 3), (2, 4), (3, 4)],
        6: [(i, i + 1) for i in range(6)],
        9: [(0, 2), (1, 3), (3, 5), (4, 6), (6, 8), (7, 9)],
    }[size]
    x = np.random.default_rng(0).normal(0, 1, (2, size, size, 3)).astype(np.float32)
    expected = [[x[:, a:b, c:d].mean((1, 2)) for c, d in edges] for a, b in edges]
    np.testing.assert_allclose(
        _adaptive_average(x, 6), np.transpose(expected, (2, 0, 1, 3)), atol=1e-6
    )


@pytest.mark.long
def test_model_file_needs_no_tensorflow():
    """Keras alone: the same file builds on the JAX and PyTorch backends."""
    source = (
        "import sys; import keras; before = set(sys.modules)\nimport alexnet_tf.network.model\nnew"
        " = set(sys.modules) - before\nassert not [m for m in new if m.split('.')[0] =="
        " 'tensorflow'], new"
    )
    result = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    "arguments,message",
    [
        ({"image_size": 67.0}, "image_size=67.0: pass a whole number from 1 to 8192"),
        ({"image_size": "67"}, "image_size='67': pass a whole number"),
        ({"image_size": (67, 67)}, "image_size=.67, 67.: pass a whole number"),
        ({"image_size": 0}, "image_size=0: pass a whole number"),
        ({"dropout_rate": 50}, "dropout_rate=50: pass a number from 0 to below 1"),
    ],
)
def test_what_makes_no_network_is_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        build_model("half", 3, **arguments)


def test_a_fresh_projection_takes_the_place_of_a_dense_layer_alone():
    images = keras.Input((12, 12, 3))
    maps = keras.layers.Conv2D(4, 3)(images)
    ends_in_pool = keras.Model(images, keras.layers.GlobalAveragePooling2D(name="mean")(maps))
    with pytest.raises(UserError, match="ends in mean .GlobalAveragePooling2D., but a fresh proj"):
        surgery.with_fresh_projection(ends_in_pool, 3)
    for bias in (True, False):  # a fit has one in any case
        logits = keras.layers.Dense(4, use_bias=bias)(keras.layers.GlobalAveragePooling2D()(maps))
        tuned = surgery.with_fresh_projection(keras.Model(images, logits), 3)
        assert tuned.output_shape == (None, 3) and len(tuned.layers) == 4
        assert len(tuned.layers[-1].get_weights()) == 2
