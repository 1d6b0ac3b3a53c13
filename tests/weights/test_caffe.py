"""Each array of Caffe's networks lands where it belongs; what a file describes is compared."""

import io

import numpy as np
import pytest
import weights_files
from networks_of_others import (
    caffe_arrays,
    convert_caffe,
    described,
    light,
    parse,
    random_network,
    same,
    source_of,
    weights,
)

from alexnet_tf.errors import UserError
from alexnet_tf.preprocessing import Preprocessing
from alexnet_tf.weights import conversion, statements
from alexnet_tf.weights.contents import Weights


@pytest.fixture(scope="module")
def network():
    return random_network("caffe")


@pytest.mark.parametrize(
    "pool_first,variant,expected",
    [
        (False, None, "caffe"),
        (True, None, "caffenet"),
        (None, "caffe", "caffe"),
        (None, "caffenet", "caffenet"),
    ],
)
def test_caffe_lands_in_its_towers(network, pool_first, variant, expected):
    description = () if pool_first is None else described(weights_files.caffe_layers(pool_first))
    found = conversion.convert(
        weights(source_of(network, "caffe"), description=description),
        "x",
        statements.Stated(variant),
    )
    assert found.variant == expected and same(found.arrays, network)
    # RGB: BGR is folded into conv1.
    assert found.preprocessing == Preprocessing(227, 256, 3, (122.679, 116.669, 104.007), 1.0)
    assert found.dropout_rate == 0.5 and "x does not say what its pixels are" in "".join(
        found.notes
    )


def test_arrays_of_2014_and_torontos_layout(network):
    source = {
        layer: [array.reshape((1,) * (4 - array.ndim) + array.shape) for array in pair]
        for layer, pair in source_of(network, "caffe").items()
    }
    caffe = statements.Stated("caffe")
    assert same(conversion.convert(weights(source), "x", caffe).arrays, network)
    toronto = source_of(network, "toronto")
    found = conversion.convert(weights(toronto, form=".npy"), "x", caffe)
    assert found.variant == "caffe" and same(found.arrays, network)
    named = {
        f"{layer}.{part}": array
        for layer, pair in toronto.items()
        for part, array in zip("Wb", pair)
    }
    found = conversion.convert(Weights(".npz", named), "x", caffe)
    assert same(found.arrays, network)
    pycaffe = conversion.convert(weights(source, form=".npy"), "x", caffe)  # saved by numpy.save
    assert same(pycaffe.arrays, network)
    toronto["fc8_flickr"] = toronto.pop("fc8")
    content = io.BytesIO()
    np.save(
        content,
        {layer: dict(zip(("weights", "biases"), pair)) for layer, pair in toronto.items()},
        allow_pickle=True,
    )
    found = conversion.convert(parse(content.getvalue()), "x", caffe)
    assert same(found.arrays, network)
    assert found.notes[0] == "x: fc8_flickr is taken as its last layer, fc8."


def test_what_is_no_alexnet_is_told_whole(network):
    source = source_of(network, "caffe")
    source["conv2"][0] = np.zeros((256, 96, 5, 5), np.float32)  # without groups
    source["fc6"][1] = source["fc6"][1] * np.nan
    del source["fc7"]
    with pytest.raises(UserError) as error:
        conversion.convert(weights(source), "net.caffemodel", statements.Stated("caffe"))
    for part in (
        "net.caffemodel",
        r"conv2 is (256, 96, 5, 5) and (256,) instead of (256, 48, 5, 5)",
        "fc6 has numbers",
        "fc7 is missing",
    ):
        assert part in str(error.value)
    with pytest.raises(
        UserError,
        match="neither an AlexNet of Caffe .* nor one of torchvision .*, but 'layer1.weight'",
    ):
        conversion.convert(Weights(".pth", {"layer1.weight": 0, "b.layer1.weight": 0}), "x")
    description = described(weights_files.caffe_layers(pool_first=True))
    with pytest.raises(UserError, match="order of caffenet; omit variant="):
        conversion.convert(
            weights(source_of(network, "caffe"), description=description),
            "x",
            statements.Stated("caffe"),
        )


def changed(name, *change, pool_first=False):
    """The layers of bvlc_alexnet with another type or parameters of one, or without it."""
    layers = []
    for layer in weights_files.caffe_layers(pool_first):
        if layer[0] != name:
            before = layer[2] if layer[2] != name or change else "relu" + name[-1]
            layers.append((*layer[:2], before, layer[3]))
        elif change:
            layers.append((name, change[0] or layer[1], layer[2], change[1]))
    return layers


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(
    "layers,message",
    [
        (
            changed("norm1", None, "lrn_param { local_size: 5 alpha: 0.001 beta: 0.75 }"),
            "norm1 has alpha 0.001 instead of 0.0001",
        ),
        (
            changed("norm2", None, "lrn_param { local_size: 3 alpha: 0.0001 }"),
            "norm2 has local_size 3 instead of 5",
        ),
        (changed("norm1", None, ""), "norm1 has alpha 1 instead of 0.0001"),
        (changed("norm1", None, "lrn_param { alpha: 0.0001 k: 2 }"), "norm1 has k 2 instead of 1"),
        (
            changed("norm1", None, "lrn_param { alpha: 0.0001 beta: 0.5 }"),
            "norm1 has beta 0.5 instead of 0.75",
        ),
        (
            changed("norm1", None, "lrn_param { alpha: 0.0001 norm_region: 1 }"),
            "norm1 has norm_region 1 instead of 0",
        ),
        (
            changed("conv1", None, "convolution_param { kernel_size: 11 stride: 2 }"),
            "conv1 has stride 2 instead of 4",
        ),
        (
            changed("conv1", None, "convolution_param { kernel_size: 11 stride_h: 4 stride_w: 2 }"),
            "conv1 has stride_w 2 instead of 4",
        ),
        (
            changed("conv2", None, "convolution_param { pad: 1 kernel_size: 5 group: 2 }"),
            "conv2 has pad 1 instead of 2",
        ),
        (
            changed("conv2", None, "convolution_param { pad: 2 kernel_size: 5 }"),
            "conv2 has group 1 instead of 2",
        ),
        (
            changed("conv3", None, "convolution_param { pad: 1 kernel_size: 5 }"),
            "conv3 has kernel_size 5 instead of 3",
        ),
        (
            changed("conv3", None, "convolution_param { pad: 1 kernel_size: 3 dilation: 2 }"),
            "conv3 has dilation 2 instead of 1",
        ),
        (
            changed("pool1", None, "pooling_param { pool: AVE kernel_size: 3 stride: 2 }"),
            "pool1 has pool 1 instead of 0",
        ),
        (
            changed("pool5", None, "pooling_param { kernel_size: 2 stride: 2 }"),
            "pool5 has kernel_size 2 instead of 3",
        ),
        (
            changed("pool5", None, "pooling_param { kernel_size: 3 stride: 2 pad: 1 }"),
            "pool5 has pad 1 instead of 0",
        ),
        (
            changed("relu3", None, "relu_param { negative_slope: 0.1 }"),
            "relu3 has negative_slope 0.1 instead of 0",
        ),
        (
            changed("fc7", None, "inner_product_param { transpose: 1 }"),
            "fc7 has transpose 1 instead of 0",
        ),
        (
            changed("drop6", None, "dropout_param { scale_train: 0 }"),
            "drop6 has scale_train 0 instead of 1",
        ),
        (
            changed("relu7", "Dropout", ""),
            "fc8 .InnerProduct. comes after fc7, where caffe has ReLU",
        ),
        (
            [layer for layer in changed("norm1") if layer[0] != "norm2"],
            "it has no LRN, which caffe and caffenet have",
        ),
    ],
)
def test_a_network_that_no_variant_is(old, layers, message):
    if "no LRN" in message:
        layers = [(*layer[:2], layer[2].replace("norm", "relu"), layer[3]) for layer in layers]
    if "dilation" in message and old:
        old = False  # it did not exist
    with pytest.raises(UserError, match=f"x is a network that fits no variant: {message}"):
        convert_caffe(layers, old=old)


@pytest.mark.parametrize("kind", ["BatchNorm", "Scale", "PReLU", "Sigmoid", "Eltwise", "Power"])
def test_layers_that_no_variant_has_are_named(kind):
    layers = weights_files.caffe_layers()
    layers[1:1] = [("more1", kind, "conv1", "")]
    with pytest.raises(UserError, match=f"more1 is a layer of the type {kind}"):
        convert_caffe(layers)


def test_a_branch_is_refused():
    layers = [*weights_files.caffe_layers(), ("fc8_flickr", "InnerProduct", "relu7", "")]
    with pytest.raises(UserError, match="fc8_flickr reads relu7, not what precedes it"):
        convert_caffe(layers)


def test_arrays_that_no_layer_has_are_refused():
    with pytest.raises(UserError, match="more than an AlexNet of Caffe: bn1; no variant"):
        convert_caffe(weights_files.caffe_layers(), caffe_arrays() | {"bn1.0": light(96)})
    with pytest.raises(UserError, match="bn1.2 .96,., which is neither the kernel nor the bias"):
        convert_caffe(weights_files.caffe_layers(), caffe_arrays() | {"bn1.2": light(96)})


def test_a_renamed_last_layer_of_caffe():
    layers = [
        ("fc8_flickr" if layer[0] == "fc8" else layer[0], *layer[1:])
        for layer in weights_files.caffe_layers()
    ]
    found = convert_caffe(layers, caffe_arrays("fc8_flickr", 20))
    assert (
        len(found.arrays["fc8/bias"]) == 20
        and "x: fc8_flickr is taken as its last layer, fc8." in found.notes
    )


def test_weights_alone_do_not_tell_the_variant():
    found = Weights(".caffemodel", caffe_arrays(), ())
    with pytest.raises(UserError, match="pass variant=caffe .*or variant=caffenet"):
        conversion.convert(found, "x")
    alone = [
        layer
        for layer in weights_files.caffe_layers()
        if layer[1] in ("Convolution", "InnerProduct")
    ]
    alone = [(name, kind, "", text) for name, kind, _, text in alone]
    with pytest.raises(UserError, match="pass variant=caffe"):
        convert_caffe(alone)
    assert convert_caffe(alone, variant="caffenet").variant == "caffenet"


def test_dropout_is_that_of_the_file():
    layers = [
        (*layer[:3], layer[3].replace("0.5", "0.25")) for layer in weights_files.caffe_layers()
    ]
    assert convert_caffe(layers).dropout_rate == 0.25
    layers[-2] = (*layers[-2][:3], layers[-2][3].replace("0.25", "0.6"))
    found = convert_caffe(layers)
    assert found.dropout_rate == 0.5 and "different dropout rates" in found.notes[0]


def with_pictures(text, kind="Data"):
    return [
        ("data", kind, "", text),
        *weights_files.caffe_layers(),
        ("loss", "SoftmaxWithLoss", "fc8", ""),
    ]


@pytest.mark.parametrize(
    "text,stated,mean,std,resize",
    [
        (
            "transform_param { scale: 0.00390625 mirror: 1 crop_size: 227 }",
            {},
            (0.0, 0.0, 0.0),
            256.0,
            256,
        ),
        (
            "transform_param { crop_size: 227 mean_value: 104 mean_value: 117 mean_value: 123 }",
            {},
            (123.0, 117.0, 104.0),
            1.0,
            256,
        ),
        (
            "transform_param { crop_size: 227 mean_value: 128 scale: 0.0078125 }",
            {"resize": 240},
            (128.0,) * 3,
            128.0,
            240,
        ),
        (
            'transform_param { crop_size: 227 mean_file: "a/mean.binaryproto" }',
            {"mean": (1.0, 2.0, 3.0)},
            (3.0, 2.0, 1.0),
            1.0,
            256,
        ),
        (
            "transform_param { crop_size: 227 }",
            {"mean": (1.0, 2.0, 3.0), "std": (2.0,)},
            (3.0, 2.0, 1.0),
            2.0,
            256,
        ),
        ("data_param { scale: 0.5 crop_size: 227 }", {}, (0.0, 0.0, 0.0), 2.0, 256),
        ("transform_param { mean_value: 9 }", {"resize": 227}, (9.0,) * 3, 1.0, 227),
        (
            "transform_param { crop_size: 227 mean_value: 1 mean_value: 2 mean_value: 3 }",
            {"channel_order": "rgb"},
            (1.0, 2.0, 3.0),
            1.0,
            256,
        ),
    ],
)
@pytest.mark.parametrize("old", [False, True])
def test_pixels_are_those_of_the_file(old, text, stated, mean, std, resize):
    found = convert_caffe(with_pictures(text), old=old, **stated)
    assert found.preprocessing == Preprocessing(227, resize, 3, mean, std) and found.notes == ()


def test_the_size_of_a_list_of_pictures_is_obeyed():
    text = "transform_param { crop_size: 227 } image_data_param { new_height: 260 new_width: 260 }"
    assert convert_caffe(with_pictures(text, "ImageData")).preprocessing.resize == 260
    with pytest.raises(UserError, match="resize=256, but x says 260; leave resize= out"):
        convert_caffe(with_pictures(text, "ImageData"), resize=256)
    with pytest.raises(UserError, match="squeezes its pictures to 260 x 300"):
        convert_caffe(with_pictures(text.replace("new_width: 260", "new_width: 300"), "ImageData"))


@pytest.mark.parametrize(
    "text,stated,message",
    [
        (
            'transform_param { crop_size: 227 mean_file: "a/mean.binaryproto" }',
            {},
            (
                "subtracts the mean in 'a/mean.binaryproto', a separate file; pass the mean"
                " of .* mean=B,G,R .* mean=104.007,116.669,122.679"
            ),
        ),
        (
            'transform_param { crop_size: 227 mean_file: "a/mean.binaryproto" }',
            {"channel_order": "rgb"},
            "pass the mean of .* mean=R,G,B .* mean=122.679,116.669,104.007",
        ),
        ("transform_param { crop_size: 224 }", {}, "crop_size is 224 instead of 227"),
        ("transform_param { mean_value: 5 }", {}, "no crop_size, .*pass resize=227"),
        ("transform_param { crop_size: 227 force_gray: 1 }", {}, "force_gray 1"),
        ("transform_param { crop_size: 227 scale: 0 }", {}, "multiplied by 0"),
        ('transform_param { crop_size: "" }', {}, "data has crop_size without a number"),
        ('transform_param { force_gray: "" }', {}, "data has force_gray without a number"),
        (
            "transform_param { crop_size: 227 mean_value: 1 mean_value: 2 }",
            {},
            "2 mean values for 3 channels",
        ),
        (
            "transform_param { crop_size: 227 mean_value: 128 }",
            {"mean": (2.0,)},
            "mean=2, but x says 128; leave mean= out",
        ),
        (
            "transform_param { crop_size: 227 scale: 0.5 }",
            {"std": (3.0,)},
            "std=3, but x says 2; leave std= out",
        ),
    ],
)
def test_pixels_that_cannot_be_had_are_refused(text, stated, message):
    with pytest.raises(UserError, match=message):
        convert_caffe(with_pictures(text), **stated)


def test_split_layers_and_answers_change_nothing():
    layers = with_pictures("transform_param { crop_size: 227 }")
    layers[1:1] = [("split", "Split", "data", "")]
    layers[2] = ("conv1", "Convolution", "split", layers[2][3])
    assert convert_caffe(layers).variant == "caffe"
