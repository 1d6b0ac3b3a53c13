"""Networks as others have them: their arrays by their names, and what `convert` makes of these."""

import sys

import numpy as np
import weights_files

from alexnet_tf.network.model import build_model
from alexnet_tf.weights import conversion, formats, statements
from alexnet_tf.weights.contents import Weights

_events = None  # audit events while a file is read, or None


def _record(event, arguments):
    if _events is not None and event != "builtins.id":
        _events.append(event)


# Python tells of every import, open, exec, compile and system call; a hook cannot be taken off
# again
sys.addaudithook(_record)


def parse(content, name="file"):
    """As formats.parse, which may do nothing that Python audits."""
    global _events
    _events = []
    try:
        return formats.parse(content, name)
    finally:
        events, _events = _events, None
        assert not events


def described(layers, old=False):
    """The layers of a caffemodel of them."""
    arrays = {"conv1": [np.ones((2, 3), np.float32)]}
    return parse(weights_files.caffemodel(layers, arrays, old)).layers


def same(arrays, expected):
    return arrays.keys() == expected.keys() and all(
        np.array_equal(arrays[name], expected[name]) for name in expected
    )


def source_of(arrays, layout):
    """The arrays of one of our networks as Caffe, Toronto or torchvision lay them out:

    {layer: [kernel, bias]}. Written from the layouts' own definitions.
    """
    layers = {}
    for layer in ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"):
        towers = [
            f"{layer}{tower}/" for tower in ("a", "b", "") if f"{layer}{tower}/kernel" in arrays
        ]
        kernel, bias = (
            np.concatenate([arrays[tower + part] for tower in towers], -1)
            for part in ("kernel", "bias")
        )
        if layer == "conv1":
            kernel = (
                kernel * 255 * np.array([[0.229], [0.224], [0.225]]) / 57.6
                if layout == "torchvision"
                else kernel[:, :, ::-1]
            )
        if layout != "toronto":
            if layer == "fc6":  # input number c * 36 + y * 6 + x there, (y * 6 + x) * 256 + c here
                kernel = kernel.reshape(36, 256, -1).swapaxes(0, 1).reshape(9216, -1)
            kernel = np.moveaxis(kernel, (-1, -2), (0, 1))
        layers[layer] = [kernel.astype(np.float32), bias]
    return layers


def random_network(variant):
    """{path: array} of random float32 arrays for a whole network."""
    rng = np.random.default_rng(3)
    return {
        weight.path: rng.standard_normal(weight.shape, np.float32)
        for weight in build_model(variant).weights
    }


def weights(layers, names="{layer}.{number}", form=".caffemodel", description=()):
    parts = ("weight", "bias")
    return Weights(
        form,
        {
            names.format(layer=layer, number=number, part=parts[number]): array
            for layer, pair in layers.items()
            for number, array in enumerate(pair)
        },
        description,
    )


# Kernels of each layer as Caffe stores them.
CAFFE_SHAPES = {
    "conv1": (96, 3, 11, 11),
    "conv2": (256, 48, 5, 5),
    "conv3": (384, 256, 3, 3),
    "conv4": (384, 192, 3, 3),
    "conv5": (256, 192, 3, 3),
    "fc6": (4096, 9216),
    "fc7": (4096, 4096),
    "fc8": (1000, 4096),
}
# And torchvision, whose network has one tower.
TORCHVISION_SHAPES = {
    "features.0": (64, 3, 11, 11),
    "features.3": (192, 64, 5, 5),
    "features.6": (384, 192, 3, 3),
    "features.8": (256, 384, 3, 3),
    "features.10": (256, 256, 3, 3),
    "classifier.1": (4096, 9216),
    "classifier.4": (4096, 4096),
    "classifier.6": (1000, 4096),
}


def light(*shape):
    """Float32 numbers that are not all the same and take no memory."""
    return np.broadcast_to(
        np.arange(1.0, shape[0] + 1, dtype=np.float32).reshape(-1, *[1] * (len(shape) - 1)) / 100,
        shape,
    )


def torchvision(prefix="", classifier=(1, 4, 6), classes=3, last=""):
    """{name: array} of a network of one tower; `classifier` are the places of its projections."""
    projections = [f"classifier.{place}" for place in classifier]
    names = [*list(TORCHVISION_SHAPES)[:5], *projections[:2], projections[2] + last]
    shapes = dict(zip(names, TORCHVISION_SHAPES.values())) | {names[-1]: (classes, 4096)}
    return {
        f"{prefix}{layer}.{part}": light(*shape[: len(shape) if part == "weight" else 1])
        for layer, shape in shapes.items()
        for part in ("weight", "bias")
    }


def convert_torch(arrays, entries=(), unreadable=(), **stated):
    weights = Weights(".pth", arrays, entries=entries, unreadable=dict(unreadable))
    return conversion.convert(weights, "x", statements.Stated(**stated))


def caffe_arrays(last="fc8", classes=3):
    shapes = dict(CAFFE_SHAPES)
    del shapes["fc8"]
    shapes[last] = classes, 4096
    return {
        f"{layer}.{number}": light(*shape[:1] if number else shape)
        for layer, shape in shapes.items()
        for number in (0, 1)
    }


def convert_caffe(layers, arrays=None, old=False, **stated):
    found = Weights(".caffemodel", arrays or caffe_arrays(), described(layers, old))
    return conversion.convert(found, "x", statements.Stated(**stated))


def nested(*prefixes, classes=20):
    """The arrays of Caffe's network once below each of `prefixes`, the last of them the largest."""
    return {
        f"{prefix}{layer}.{part}": array
        for number, prefix in enumerate(prefixes)
        for key, array in caffe_arrays(classes=classes + number).items()
        for layer, part in [key.replace(".0", ".weight").replace(".1", ".bias").rsplit(".", 1)]
    }


def convert_nested(arrays, entries=(), unreadable=None, triples=None, **stated):
    others = {"unreadable": unreadable or {}, "triples": triples or {}}
    found = Weights(".pth", arrays, entries=entries, **others)
    return conversion.convert(found, "x", statements.Stated("caffe", **stated))


HALF = {"config.mean": (0.5, 0.25, 0.5), "config.std": (0.5, 0.5, 0.5)}
