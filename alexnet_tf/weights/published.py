"""Published weights onto our variants: the layouts of Caffe, of Toronto's file and of torchvision, and what their pixels are.

Our networks read RGB in 0..255, less a mean per channel, over one scalar. What other networks expect instead is folded into the
kernel of conv1, exactly: zeros that pad the input are zeros in both.
"""

import dataclasses
import hashlib

import numpy as np

from alexnet_tf.errors import UserError
from alexnet_tf.network.model import VARIANTS
from alexnet_tf.preprocessing import Preprocessing

# Kernels as their publishers store them: [outputs, inputs of a group, height, width] and [outputs, inputs].
_GROUPED = {"conv1": (96, 3, 11, 11), "conv2": (256, 48, 5, 5), "conv3": (384, 256, 3, 3), "conv4": (384, 192, 3, 3),
            "conv5": (256, 192, 3, 3), "fc6": (4096, 9216), "fc7": (4096, 4096), "fc8": (None, 4096)}
_ONE_TOWER = {"conv1": (64, 3, 11, 11), "conv2": (192, 64, 5, 5), "conv3": (384, 192, 3, 3), "conv4": (256, 384, 3, 3),
              "conv5": (256, 256, 3, 3), "fc6": (4096, 9216), "fc7": (4096, 4096), "fc8": (None, 4096)}
_TORCHVISION_NAMES = {"conv1": "features.0", "conv2": "features.3", "conv3": "features.6", "conv4": "features.8",
                      "conv5": "features.10", "fc6": "classifier.1", "fc7": "classifier.4", "fc8": "classifier.6"}
_LAST_MAP = (256, 6, 6)  # what fc6 reads, in the order of Caffe and PyTorch: channels first
# Channel means of the mean image that Caffe publishes (data/ilsvrc12/imagenet_mean.binaryproto), as RGB.
CAFFE_MEAN = (122.679, 116.669, 104.007)
# torchvision.transforms: Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]) of RGB in 0..1.
_TORCHVISION_MEAN, _TORCHVISION_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class Published:
    """A file that is known by its digest, with the accuracy that is claimed for it: ImageNet's validation pictures, centre crop."""

    name: str
    digest: str  # sha1 (40 digits), or the beginning of sha256
    variant: str
    top_1: float
    top_5: float
    licence: str
    url: str


_CAFFE_URL, _TORCH_URL = "http://dl.caffe.berkeleyvision.org/", "https://download.pytorch.org/models/"
PUBLISHED = (
    # models/bvlc_alexnet/readme.md and models/bvlc_reference_caffenet/readme.md of https://github.com/BVLC/caffe.
    Published("bvlc_alexnet.caffemodel", "9116a64c0fbe4459d18f4bb6b56d647b63920377", "caffe", 0.571, 0.802,
              "unrestricted use", _CAFFE_URL + "bvlc_alexnet.caffemodel"),
    Published("bvlc_reference_caffenet.caffemodel", "4c8d77deb20ea792f84eb5e6d0a11ca0a8660a46", "caffenet", 0.574, 0.804,
              "unrestricted use", _CAFFE_URL + "bvlc_reference_caffenet.caffemodel"),
    # Toronto publishes no digest; this one is of a user who names the file and its address.
    Published("bvlc_alexnet.npy", "1294ef51496c52f2e4879ee3b5e1da22c35d61f3240937491b4469403d5428cc", "caffe", 0.571, 0.802,
              "none stated; bvlc_alexnet.caffemodel in another format",
              "https://www.cs.toronto.edu/~guerzhoy/tf_alexnet/bvlc_alexnet.npy"),
    # torchvision/models/alexnet.py; the name carries the digits.
    Published("alexnet-owt-7be5be79.pth", "7be5be79", "one_weird_trick", 0.56522, 0.79066,
              "torchvision's, BSD 3-Clause", _TORCH_URL + "alexnet-owt-7be5be79.pth"),
    Published("alexnet-owt-4df8aa71.pth", "4df8aa71", "one_weird_trick", 0.5655, 0.7909,
              "torchvision's, BSD 3-Clause", _TORCH_URL + "alexnet-owt-4df8aa71.pth"),
)


def recognise(content):
    """(the `Published` that `content` is, or None; sha256 of `content`)."""
    sha1, sha256 = (hashlib.new(name, content).hexdigest() for name in ("sha1", "sha256"))
    return next((one for one in PUBLISHED if one.digest == sha1 or sha256.startswith(one.digest)), None), sha256


def convert(weights, name, variant=None):
    """Returns (variant, {variable path: float32 array}, Preprocessing) for the `weights` of a file called `name`.

    `variant` decides between "caffe" and "caffenet", which have the same arrays, where the file does not tell by the order of its
    layers. Raises UserError for weights that are not those of an AlexNet, whole and finite.
    """
    arrays = {key.replace("module.", ""): array for key, array in weights.arrays.items()}  # DataParallel puts it into names
    prefixes = [key.removesuffix("features.0.weight") for key in arrays if key.endswith("features.0.weight")]
    if len(prefixes) == 1:
        if variant not in (None, "one_weird_trick"):
            raise UserError(f"--variant={variant}, but {name} holds torchvision's network of one tower; leave --variant out.")
        parts = {layer: [f"{prefixes[0]}{there}.{part}" for part in ("weight", "bias")]
                 for layer, there in _TORCHVISION_NAMES.items()}
        return _torchvision(_layers(arrays, parts, _ONE_TOWER, name))
    if "conv1.0" not in arrays:
        found = ", ".join(repr(key[:40]) for key in list(arrays)[:3]) or "nothing"
        raise UserError(f"{name} holds neither an AlexNet of Caffe (conv1 to fc8) nor one of torchvision (features.0.weight to "
                        f"classifier.6.bias), but {found}{' and so on' * (len(arrays) > 3)}.")
    parts = {layer: [f"{layer}.0", f"{layer}.1"] for layer in _GROUPED}
    layers = _layers(arrays, parts, _GROUPED, name, outputs_first=weights.format != ".npy")
    return _caffe(layers, _which_caffe(weights.layer_types, variant, name))


def _which_caffe(layer_types, variant, name):
    """"caffenet" if the file's first pool is before its first LRN; if it lists neither, what the caller says, or "caffe"."""
    told = next(({"LRN": "caffe", "Pooling": "caffenet"}[kind] for kind in layer_types if kind in ("LRN", "Pooling")), None)
    if variant and told not in (None, variant):
        raise UserError(f"--variant={variant}, but {name} has its pools and LRN in the order of {told}; leave --variant out.")
    return told or variant or "caffe"


def _layers(arrays, parts, shapes, name, outputs_first=True):
    """{layer: (kernel [height, width, inputs, outputs] or [inputs, outputs], bias [outputs])}, float32.

    `parts` names the arrays of each layer. Without `outputs_first` the kernels are laid out as ours are. Raises UserError with all
    that is missing or of another shape.
    """
    layers, wrong = {}, []
    for layer, keys in parts.items():
        if not all(key in arrays for key in keys):
            wrong.append(f"{layer} is missing")
            continue
        kernel, bias = (_without_leading_ones(arrays[key], ndim) for key, ndim in zip(keys, (len(shapes[layer]), 1)))
        shape = (shapes[layer][0] or bias.size, *shapes[layer][1:])
        expected = shape if outputs_first else (*shape[2:], shape[1], shape[0])
        if kernel.shape != expected or bias.shape != shape[:1]:
            wrong.append(f"{layer} is {kernel.shape} and {bias.shape} instead of {expected} and {shape[:1]}")
            continue
        layers[layer] = tuple(np.asarray(part, np.float32) for part in (_as_ours(layer, kernel) if outputs_first else kernel, bias))
        if not all(np.isfinite(part).all() for part in layers[layer]):
            wrong.append(f"{layer} has numbers that are not finite")
    if wrong:
        raise UserError(f"{name} is no AlexNet as published: {'; '.join(wrong)}.")
    return layers


def _without_leading_ones(array, ndim):
    """Caffe gave every array four dimensions until 2015."""
    return array.reshape(array.shape[-ndim:]) if array.shape[:-ndim] == (1,) * (array.ndim - ndim) else array


def _as_ours(layer, kernel):
    """[outputs, inputs, height, width] to [height, width, inputs, outputs], and so the inputs of fc6, which are a map."""
    if layer == "fc6":
        return kernel.reshape(-1, *_LAST_MAP).transpose(2, 3, 1, 0).reshape(kernel.shape[::-1])
    return kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel.T


def _caffe(layers, variant):
    """Groups become towers. Caffe reads BGR: the input channels of conv1 are turned round."""
    arrays = {}
    for layer, (kernel, bias) in layers.items():
        if layer == "conv1":
            kernel = kernel[:, :, ::-1]
        towers = "ab" if layer.startswith("conv") else ("",)
        for tower, *parts in zip(towers, np.split(kernel, len(towers), -1), np.split(bias, len(towers))):
            arrays[f"{layer}{tower}/kernel"], arrays[f"{layer}{tower}/bias"] = parts
    row = VARIANTS[variant]
    return variant, arrays, Preprocessing(row["image_size"], row["resize"], row["channels"], CAFFE_MEAN, row["std"])


def _torchvision(layers):
    """torchvision divides each channel by a deviation of its own and we by one scalar: conv1 takes the ratio."""
    row = VARIANTS["one_weird_trick"]
    kernel, bias = layers["conv1"]
    ratio = row["std"] / (255 * np.array(_TORCHVISION_STD))
    layers = layers | {"conv1": ((kernel * ratio[:, None]).astype(np.float32), bias)}
    arrays = {f"{layer}/{part}": array for layer, pair in layers.items() for part, array in zip(("kernel", "bias"), pair)}
    mean = tuple(255 * level for level in _TORCHVISION_MEAN)
    return "one_weird_trick", arrays, Preprocessing(row["image_size"], row["resize"], row["channels"], mean, row["std"])
